"""A slide or a bundle in words: what it holds, before anything is run.

``describe_*`` return plain values, as ``--json`` prints them; ``format_description`` says them in
lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellseg.runtime.bundles.manifest import Agreement, InteriorBorder
from cellseg.runtime.slides.slide import DISBELIEVED
from cellseg.runtime.view.doubts import slide_doubts
from cellseg.runtime.writers.facts import output_bytes

if TYPE_CHECKING:
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.slides.slide import Level, Slide

__all__ = ["describe_bundle", "describe_slide", "format_description", "is_bundle_name"]


def is_bundle_name(target: str) -> bool:
    """Return whether ``target`` means a bundle: a ``.cellseg`` path or a shipped model's name."""
    from cellseg.runtime.bundles.bundle import shipped_models

    return Path(target).suffix == ".cellseg" or target in shipped_models()


def describe_slide(
    path: str, mpp: float | None = None, channel: str | int | None = None
) -> dict[str, Any]:
    """Describe a slide or an image without decoding more than its headers.

    Parameters
    ----------
    path : str
        Slide or image file.
    mpp : float, optional
        Microns per level-0 pixel; overrides what the file says.
    channel : str or int, optional
        The only channel to read: its name, or its number from 1 on.

    Returns
    -------
    dict
        ``kind``, ``path``, ``bytes``, ``width_px``, ``height_px``, ``mpp`` [x, y] or None, ``mm``
        [width, height] or None, ``dtype``, ``levels``, the reader's ``properties`` and ``doubts``:
        sentences about what speaks against taking it as it says.

    Raises
    ------
    SlideError
        If the file cannot be read as a slide or image.
    """
    from cellseg.runtime.slides.readers import open_slide

    slide = open_slide(path, mpp, channel)
    try:
        return _slide_facts(slide)
    finally:
        slide.close()


def describe_bundle(name_or_path: str) -> dict[str, Any]:
    """Describe a bundle: its manifest, its sha256 and its size.

    Parameters
    ----------
    name_or_path : str
        Shipped model's name or ``.cellseg`` file.

    Returns
    -------
    dict
        ``kind``, ``path``, ``bytes``, ``sha256`` and the ``manifest``.

    Raises
    ------
    BundleError
        If it is missing, damaged or not what it says.
    """
    from cellseg.runtime.bundles.bundle import Bundle

    return _bundle_facts(Bundle.open(name_or_path))


def format_description(facts: dict[str, Any]) -> str:
    """Return a description as lines for people."""
    lines = _bundle_lines(facts) if facts["kind"] == "bundle" else _slide_lines(facts)
    return "\n".join(lines)


# --- slides --------------------------------------------------------------------------------------


def _slide_facts(slide: Slide) -> dict[str, Any]:
    base = slide.levels[0]
    return {
        "kind": slide.kind,
        "path": slide.path,
        "bytes": output_bytes(Path(slide.path)),
        "width_px": base.width_px,
        "height_px": base.height_px,
        "mpp": slide.mpp and list(slide.mpp),
        "mm": slide.mpp and _extent_mm(base, slide.mpp),
        "dtype": str(slide.dtype),
        "levels": [_level_facts(level, slide.mpp) for level in slide.levels],
        "properties": dict(slide.properties),
        "doubts": slide_doubts(slide),
    }


def _extent_mm(level: Level, mpp: tuple[float, float]) -> list[float]:
    return [level.width_px * mpp[0] / 1000, level.height_px * mpp[1] / 1000]


def _level_facts(level: Level, mpp: tuple[float, float] | None) -> dict[str, Any]:
    return {
        "width_px": level.width_px,
        "height_px": level.height_px,
        "downsample": level.downsample,
        "mpp": mpp and [mpp[0] * level.downsample, mpp[1] * level.downsample],
    }


def _slide_lines(facts: dict[str, Any]) -> list[str]:
    lines = [
        f"{facts['kind']:<14}{facts['path']} ({_size(facts['bytes'])})",
        f"{'size':<14}{facts['width_px']} x {facts['height_px']} px{_mm_text(facts['mm'])}",
        f"{'pixel size':<14}{_mpp_text(facts)}",
        f"{'depth':<14}{facts['dtype']}",
    ]
    lines += [f"{name:<14}{value}" for name, value in facts["properties"].items()]
    lines += ["", f"{'level':>5} {'width':>8} {'height':>8} {'downsample':>11} {'µm/px':>8}"]
    lines += [_level_line(index, level) for index, level in enumerate(facts["levels"])]
    lines += [f"\nwarning: {doubt}" for doubt in facts["doubts"]]
    return lines


def _mm_text(mm: list[float] | None) -> str:
    return f", {mm[0]:.2f} x {mm[1]:.2f} mm" if mm else ""


def _mpp_text(facts: dict[str, Any]) -> str:
    mpp = facts["mpp"]
    if mpp is None:
        lack = "none that can be" if DISBELIEVED in facts["properties"] else "not stated"
        known = "taken to be the model's" if facts["kind"] == "image" else "give it with --mpp"
        return f"{lack}; {known}"
    return f"{mpp[0]:.4g} x {mpp[1]:.4g} µm"


def _level_line(index: int, level: dict[str, Any]) -> str:
    mpp = f"{level['mpp'][0]:.4g}" if level["mpp"] else "-"
    extent = f"{level['width_px']:>8} {level['height_px']:>8}"
    return f"{index:>5} {extent} {level['downsample']:>11.4g} {mpp:>8}"


# --- bundles -------------------------------------------------------------------------------------


def _bundle_facts(bundle: Bundle) -> dict[str, Any]:
    return {
        "kind": "bundle",
        "path": str(bundle.path),
        "bytes": bundle.path.stat().st_size,
        "sha256": bundle.sha256,
        "manifest": bundle.manifest.model_dump(mode="json", by_alias=True),
    }


def _bundle_lines(facts: dict[str, Any]) -> list[str]:
    manifest = facts["manifest"]
    lines = [
        f"{'bundle':<14}{manifest['name']} {manifest['version']}: {manifest['description']}",
        f"{'file':<14}{facts['path']} ({_size(facts['bytes'])})",
        f"{'sha256':<14}{facts['sha256']}",
        f"{'licence':<14}{manifest['license']}",
        f"{'classes':<14}{', '.join(_class_text(each) for each in manifest['classes'])}",
        f"{'cells':<14}{_instances_text(manifest['head'])}",
        f"{'pixel size':<14}{_scale_text(manifest['input'], manifest['mpp'])}",
        f"{'intensities':<14}{_normalize_text(manifest['input']['normalize'])}",
        f"{'tiles':<14}{_geometry_text(manifest)}",
        "",
    ]
    for variant in manifest["variants"]:
        lines += _variant_lines(variant)
    return lines


def _class_text(each: dict[str, Any]) -> str:
    return f"{each['name']} #{bytes(each['color']).hex()}"


def _instances_text(head: dict[str, Any]) -> str:
    instances = head["instances"]
    if not instances:
        return "not told apart"
    rule = InteriorBorder.model_validate(instances)
    parts = [
        f"told apart by {rule.kind}: seeds from {rule.seed_threshold:g}",
        f"from {rule.min_area_px} px on",
    ]
    if rule.seed_depth < 1:
        parts.insert(1, f"parted where it falls by {rule.seed_depth:g}")
    if rule.min_sure > 0:
        parts.append(f"{rule.min_sure:.0%} of it at {rule.sure_probability:g} or more")
    if rule.neck_depth > 0:
        parts.append(f"parted at necks of {rule.neck_depth:.0%}")
    if rule.least_diameter_px > 0:
        parts.append(f"apart from {rule.least_diameter_px:g} px across on")
    return ", ".join(parts)


def _scale_text(spec: dict[str, Any], mpp: float | None) -> str:
    slides = f"{mpp:g} µm; other slides are resampled" if mpp else "any; slides are read at level 0"
    if spec["fit"] == "native":
        return slides
    height, width = spec["fit_px"]
    whole = f"whole images are scaled to fit {width} x {height} px"
    is_refused = spec["fit"] == "whole" and mpp is None
    return f"{whole}; slides are refused" if is_refused else f"{whole}; slides: {slides}"


def _normalize_text(normalize: dict[str, Any]) -> str:
    if normalize["kind"] == "none":
        return "taken as they are"
    return f"percentile {normalize['low']:g} to 0, {normalize['high']:g} to 255, over the slide"


def _geometry_text(manifest: dict[str, Any]) -> str:
    tolerance = manifest["halo_tolerance"]
    exact = "exact" if tolerance == 0 else f"within {tolerance:g}"
    reach = f"network reaches {manifest['receptive_field_px']} px"
    return f"halo {manifest['halo_px']} px ({exact}; {reach}), multiples of {manifest['stride']} px"


def _variant_lines(variant: dict[str, Any]) -> list[str]:
    kind = f"{variant['format']} {variant['precision']}"
    kept = _kept_text(variant["vs_fp32"])
    lines = [f"{kind:<14}{variant['file']} ({_size(variant['bytes'])}){kept}"]
    lines += [f"{'':<14}{_quality_text(quality)}" for quality in variant["quality"]]
    for found in variant.get("agreement", ()):
        lines.append(f"{'':<14}{Agreement.model_validate(found).words}; nobody's labels")
    return lines


def _kept_text(versus: dict[str, Any] | None) -> str:
    if versus is None:
        return ""
    dice, f1 = versus["dice_ratio"], versus["object_f1_ratio"]
    return f", keeps {dice:.1%} of fp32's Dice" + ("" if f1 is None else f", {f1:.1%} of its F1")


def _quality_text(quality: dict[str, Any]) -> str:
    parts = [f"Dice {name} {value:.3f}" for name, value in quality["dice"].items()]
    if quality["object_f1"] is not None:
        parts.append(f"object F1 {quality['object_f1']:.3f}")
    if quality["count_error"] is not None:
        parts.append(f"count error {quality['count_error']:.1%}")
    engine = f", {quality['engine']}" if quality["engine"] else ""
    return f"{quality['dataset']} ({quality['images']} images{engine}): {', '.join(parts)}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
