"""Histograms as SVG: every cell counted, and XML that parses."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.pictures.histogram import histogram_of, histogram_svg

VALUES = st.lists(st.floats(-1e3, 1e6, allow_nan=False), min_size=1, max_size=60)


@given(VALUES)
@settings(max_examples=80, deadline=None)
def test_every_cell_is_in_a_bin_or_beyond(values: list[float]) -> None:
    classes = np.array(["a", "b"])[np.arange(len(values)) % 2]
    found = histogram_of(np.array(values), classes, ["a", "b"], "size")
    assert found is not None
    assert sum(int(each.sum()) for each in found.counts.values()) + found.beyond == len(values)
    assert found.median == np.median(values)


def test_what_was_not_measured_has_no_histogram() -> None:
    assert histogram_of(np.full(3, np.nan), np.full(3, "a"), ["a"], "area") is None


def test_bars_are_stacked_as_high_as_they_count() -> None:
    values = np.array([1.0, 1, 1, 5, 5, 9])
    classes = np.array(["a", "a", "b", "a", "b", "b"])
    found = histogram_of(values, classes, ["a", "b"], "area, µm² <&>")
    assert found is not None
    text = histogram_svg(found, {"a": "red", "b": "rgb(0,0,255)"}, standalone=True)
    bars = ElementTree.fromstring(text).findall("{http://www.w3.org/2000/svg}rect")
    heights = [float(bar.attrib["height"]) for bar in bars if bar.attrib["fill"] == "red"]
    assert heights[0] == 2 * heights[1]
    assert len(bars) == 5
