"""Measure every model family and the seeds' networks, and fill docs/models/families.md.

    python bench/families.py             measure, write bench/results/families.json, fill the page
    python bench/families.py --page      fill the page from what was measured before

Nothing here is a time: the numbers are the same on any machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pages import write_section

RESULTS = Path(__file__).parent / "results" / "families.json"
PAGE = "models/families.md"
SEEDS: dict[str, tuple[dict[str, Any], int]] = {
    "000 blood cells": ({"levels": 7, "base_kernel": 7, "dilation": 2, "dropout_rate": 0.07}, 1),
    "001 DeepCell": ({"levels": 8, "base_kernel": 9, "dilation": 3, "dropout_rate": 0.06}, 1),
    "002 leukaemia": ({"levels": 6, "dropout_rate": 0.08}, 1),
    "003 blood smears": (
        {
            "base_filters": 32, "levels": 5, "activation": "leaky_relu", "up_activation": True,
            "initializer": "glorot_normal", "input_range": "-1..1",
        },
        11,
    ),
    "004 skin": ({"levels": 8, "base_kernel": 5, "dropout_rate": 0.05}, 1),
}  # fmt: skip


def measure() -> dict[str, Any]:
    """Summarize each family with its defaults, and each seed's network."""
    from cellseg.train.families import FAMILIES
    from cellseg.train.families.summary import summarize_family

    found: dict[str, Any] = {"families": {}, "seeds": {}}
    for name in FAMILIES:
        classes = 3 if name == "flex-unet" else 1
        found["families"][name] = summarize_family(name, None, classes).as_dict()
        print(name, found["families"][name], flush=True)
    for name, (params, classes) in SEEDS.items():
        found["seeds"][name] = summarize_family("unet", params, classes).as_dict()
        print(name, found["seeds"][name], flush=True)
    return found


def fill_page(found: dict[str, Any]) -> None:
    """Write the tables of results and of parameters."""
    from cellseg.train.families import FAMILIES

    titles = {name: f"`{name}` ({family.title})" for name, family in FAMILIES.items()}
    write_section(PAGE, "families", _table("family", found["families"], titles))
    write_section(PAGE, "seeds", _table("seed", found["seeds"], {}))
    write_section(PAGE, "parameters", "\n\n".join(map(_parameters, FAMILIES.values())))


def _table(noun: str, rows: dict[str, Any], titles: dict[str, str]) -> str:
    lines = [
        f"| {noun} | parameters | GMAC per megapixel | sees past a tile's edge | stride "
        "| tiles exactly |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        reach = row["receptive_field_px"]
        lines.append(
            f"| {titles.get(name, name)} | {row['parameters']:,} | {row['gmac_per_mpx']:.1f} "
            f"| {'the whole tile' if reach is None else f'{reach} px'} | {row['stride_px']} px "
            f"| {'yes' if row['tiles_exactly'] else 'no: ' + row['why_not']} |"
        )
    return "\n".join(lines)


def _parameters(family: Any) -> str:
    lines = [
        f'### {family.title}: `family = "{family.name}"`',
        f"{(family.params.__doc__ or '').splitlines()[0]} Source: {family.source}.",
        "| key | default | |\n|---|---|---|\n"
        + "\n".join(
            f"| `{key}` | `{json.dumps(field.default)}` | {field.description} |"
            for key, field in family.params.model_fields.items()
        ),
    ]
    return "\n\n".join(lines)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="only fill the page")
    if not parser.parse_args().page:
        text = json.dumps(measure(), indent=2) + "\n"
        RESULTS.write_text(text, encoding="utf-8")
    fill_page(json.loads(RESULTS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
