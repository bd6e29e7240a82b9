"""The language of rules: against Python's own, and its errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg.errors import RuleError
from cellseg.live.events.expression import parse

VALUES = {"cells": 7.0, "focus": 2.5, "total": 40.0, "frames": 3.0, "z_um": -1.5}

numbers = st.one_of(
    st.integers(0, 99).map(str), st.sampled_from(sorted(VALUES)), st.just("1.5e1"), st.just(".5")
)
sums = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=6,
)
conditions = st.recursive(
    st.tuples(sums, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), sums).map(" ".join),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("not {}".format),
    ),
    max_leaves=5,
)


@given(conditions)
def test_a_condition_means_what_it_means_in_python(source: str) -> None:
    expected = eval(source, {"__builtins__": {}}, dict(VALUES))
    assert bool(parse(source).value(VALUES)) == bool(expected)


def test_functions_and_texts_are_looked_up() -> None:
    rule = parse('count("infected") > 5 and class == "infected"')
    assert rule.value({"count:infected": 6, "class": "infected"})
    assert not rule.value({"count:infected": 6, "class": "healthy"})
    assert rule.class_names == ("infected", "infected")
    assert rule.is_of_cells


def test_a_division_by_nothing_holds_for_nothing() -> None:
    assert not parse("cells / (frames - 3) > 0").value(VALUES)


@pytest.mark.parametrize(
    ("source", "is_of_cells", "is_running"),
    [
        ("cells > 5", False, False),
        ("area_um2 > 300", True, False),
        ("total >= 100", False, True),
        ('total("healthy") >= 100', False, True),
    ],
)
def test_what_a_rule_is_about_is_known(source: str, is_of_cells: bool, is_running: bool) -> None:
    rule = parse(source)
    assert (rule.is_of_cells, rule.is_running) == (is_of_cells, is_running)


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("aera_um2 > 3", "aera_um2", "area_um2"),
        ('cuont("a") > 3', "cuont", "count"),
        ("focus", "true or false", "Compare"),
        ("focus >", "too early", None),
        ("focus > 3 cells", "'cells' is not expected", None),
        ("(focus > 3", "')' is missing", None),
        ('class > "a"', "== and !=", None),
        ("class == 3", "different kinds", None),
        ("count(infected) > 3", "name of a class", 'count("nucleus")'),
        ("(focus > 3) + 1 > 2", "must be a number", None),
        ("not focus", "must be a truth", None),
        ("focus > 3; import os", "';' has no meaning", None),
        ("__import__('os') > 3", "__import__", None),
        ("", "too early", None),
    ],
)
def test_what_is_no_condition_is_refused(source: str, message: str, hint: Any) -> None:
    with pytest.raises(RuleError, match="Received") as caught:
        parse(source)
    assert message in str(caught.value)
    assert hint is None or hint in str(caught.value.hint)
