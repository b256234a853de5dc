"""User boxes: which are accepted, and which slip an error names."""

import pytest

from deocclude.errors import InputError
from deocclude.people.prompts import MIN_BOX_SIDE_PX, box_problem, checked_prompts

SIZE_HW = (480, 640)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 0, 1, 1), "fractions of the photo's size"),
        ((0.1, 0.2, 0.5, 0.9), r"must be in pixels .* got \(0.1, 0.2, 0.5, 0.9\), which looks like fractions"),
        ((-0.02, 0.1, 1.04, 1.1), "fractions of the photo's size"),
        ((0.5, 0.5, 0.2, 0.3), "fractions of the photo's size"),
        ((10, 20, 13.9, 40), r"must be at least 4 px wide and high, got \(10, 20, 13.9, 40\)"),
        ((10, 20, 40, 22), r"at least 4 px .* if that is x, y, width, height, the box is \(10, 20, 50, 42\)"),
        (
            (200, 100, 50, 80),
            r"must have x0 < x1 and y0 < y1, got \(200, 100, 50, 80\); if that is x, y, width, height",
        ),
        ((200, 100, 50, 180), r"the box is \(200, 100, 250, 280\)"),
        ((2, 2, 2, 2), r"must have x0 < x1 and y0 < y1, got \(2, 2, 2, 2\)$"),
    ],
)
def test_box_that_is_a_slip_is_refused_in_one_line(box, words):
    with pytest.raises(InputError, match=words) as caught:
        checked_prompts(SIZE_HW, None, [box])
    assert str(caught.value).startswith("box 1 must ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("box", [(0, 0, MIN_BOX_SIDE_PX, 4), (-1, -1, 3, 3), (636, 476, 641, 481), (0.5, 0.5, 200, 9)])
def test_smallest_boxes_are_accepted(box):
    assert box_problem(box) is None
    (prompt,) = checked_prompts(SIZE_HW, None, [box])
    assert prompt.area == box and prompt.mask(SIZE_HW).any()
