"""Every number that the project set out to reach, beside what was measured.

    python bench/bars.py            print the table
    python bench/bars.py --page     put it into docs/benchmarks.md

Nothing is measured here: the values are read from ``bench/results/*.json``, where the scripts of
the last column leave them, and from what the shipped bundles state. What has no value there is
"not measured". ``bench/bar_list.py`` says which value each bar is held against.
"""

from __future__ import annotations

import argparse

from bar_list import BARS

from cellseg.bench.reports.markdown import table

HEADS = ("of", "what", "wanted", "measured", "met", "on", "how")


def table_of_bars() -> str:
    """Return the Markdown table with a line that counts."""
    found = [(bar, bar.measured()) for bar in BARS]
    met = sum(number is not None and bar.is_met(number) for bar, number in found)
    absent = sum(number is None for _, number in found)
    count = f"{met} of {len(BARS)} met, {len(BARS) - met - absent} not met, {absent} not measured."
    return f"{count}\n\n{table(HEADS, [bar.line() for bar in BARS])}"


def main() -> None:
    """Print, and write where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="fill docs/benchmarks.md")
    options = parser.parse_args()
    text = table_of_bars()
    print(text)
    if options.page:
        from pages import write_section

        write_section("benchmarks.md", "bars", text)


if __name__ == "__main__":
    main()
