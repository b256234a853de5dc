"""Completion prompts on the command line: how their text is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from deocclude.cli.completion_prompts import CompletionOptions
from deocclude.errors import UsageError
from deocclude.inference.completion_prompts import THE_ONLY_PERSON


def test_without_numbers_they_are_of_the_only_person():
    found = CompletionOptions(
        extent=["10,20,30,40.5"], point=["1,2", "3,4"], not_point=["5,6"], joint=["left_knee,7,8"], pose=["12"],
        front=["a.png"], keep=["C:/b.png"],
    ).parse()  # fmt: skip
    assert set(found) == {THE_ONLY_PERSON}
    one = found[THE_ONLY_PERSON]
    assert one.extent_xyxy == (10, 20, 30, 40.5) and one.points == ((1, 2), (3, 4)) and one.not_points == ((5, 6),)
    assert one.joints == {"left_knee": (7, 8)} and one.pose == 12
    assert one.front == Path("a.png") and one.keep == Path("C:/b.png") and one.background is None


def test_numbers_part_people():
    found = CompletionOptions(point=["2:1,2", "1:3,4"], pose=["2:5"]).parse()
    assert found[1].points == ((3, 4),) and found[2].points == ((1, 2),) and found[2].pose == 5


def test_nothing_is_nothing():
    assert CompletionOptions().parse() == {}


@pytest.mark.parametrize(("options", "message"), [
    ({"extent": ["1,2,3"]}, r"--extent takes x0,y0,x1,y1 in pixels, got 1,2,3"),
    ({"extent": ["1,2,3,4", "1,2,3,5"]}, r"--extent 1,2,3,5: a person has one"),
    ({"point": ["a,b"]}, r"--point takes x,y in pixels, got a,b"),
    ({"not_point": ["1"]}, r"--not-point takes x,y in pixels, got 1"),
    ({"joint": ["left_knee"]}, r"--joint takes name,x,y in pixels, got left_knee"),
    ({"joint": ["left_knee,1,2", "left_knee,3,4"]}, r"--joint left_knee,3,4: a person has one left_knee"),
    ({"pose": ["two"]}, r"--pose takes the number of a typical pose, got two"),
    ({"front": ["a.png", "b.png"]}, r"--front b\.png: a person has one"),
    ({"point": ["1,2", "2:3,4"]}, r"write N: before each of them, or before none"),
])  # fmt: skip
def test_bad_text_is_one_line(options, message):
    with pytest.raises(UsageError, match=message):
        CompletionOptions(**options).parse()
