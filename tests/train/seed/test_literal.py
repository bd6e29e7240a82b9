"""Values of the seeds' files are read, never run."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.errors import RecipeError
from cellseg.train.seed.literal import parse_literal

SCALARS = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(
        st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\"'\\"), max_size=12
    ),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple)
)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_what_python_prints_is_read_back_as_python_reads_it(value: Any) -> None:
    found = parse_literal(repr(value))
    assert found.value == ast.literal_eval(repr(value))
    assert found.slips == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(7,7)", (7, 7)),
        ("(3)", 3),
        ("[0.03,]", [0.03]),
        ('"bce_dice_loss"', "bce_dice_loss"),
        ("cv2.INTER_CUBIC", "cv2.INTER_CUBIC"),
        ("./models", "./models"),
        ("../../../dataset/train images/", "../../../dataset/train images/"),
        ("{(0,0,0):0,(0,255,0):1}", {(0, 0, 0): 0, (0, 255, 0): 1}),
        ("0.00004", 4e-05),
        ("", ""),
    ],
)
def test_forms_that_the_seeds_print(text: str, value: Any) -> None:
    assert parse_literal(text).value == value


def test_a_missing_comma_between_numbers_is_put_in_and_said() -> None:
    found = parse_literal("[90. 180, 270,]")
    assert found.value == [90, 180, 270]
    assert found.slips == ("a comma is missing between 90 and 180",)


@pytest.mark.parametrize("text", ["(1, 2", "[1, 2)", '["a" "b"]', "[1, %]", "{1 2}"])
def test_a_value_that_does_not_close_is_shown(text: str) -> None:
    with pytest.raises(RecipeError, match="Received") as caught:
        parse_literal(text)
    assert repr(text) in str(caught.value)


def test_code_stays_text() -> None:
    text = '__import__("os").system("x")'
    assert parse_literal(text).value == text
