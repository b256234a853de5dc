"""Values in error messages: short, and on one line."""

import numpy as np
import pytest

from deocclude.errors import first_line, shown


@pytest.mark.parametrize("value", [np.zeros((2, 1)), np.zeros((90, 90)), ["a"] * 1_000_000, "x" * 1000, "a\nb"])
def test_shown_value_is_one_short_line(value: object) -> None:
    assert "\n" not in shown(value) and len(shown(value)) <= 80


def test_short_value_is_shown_as_it_is() -> None:
    assert shown("two  blanks") == "'two  blanks'" and shown((1, 2.5)) == "(1, 2.5)"
    assert shown(np.zeros((2, 1))) == "array([[0.], [0.]])"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("bad\nmore"), "bad"),
        (ValueError("\n bad"), "bad"),
        (ValueError(), "ValueError"),
        (KeyError("a"), "'a'"),
    ],
)
def test_first_line_of_an_error_is_never_empty(error: Exception, line: str) -> None:
    assert first_line(error) == line
