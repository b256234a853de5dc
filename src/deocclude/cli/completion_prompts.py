"""Options of completion prompts: `--extent`, `--point` and the others, each with the number of its person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from deocclude.errors import UsageError

if TYPE_CHECKING:
    from deocclude.inference.completion_prompts import CompletionPrompts

_N = "N: before it names the person of several"
Extents = Annotated[
    list[str] | None,
    typer.Option("--extent", metavar="[N:]X0,Y0,X1,Y1", help=f"Box of the whole body, hidden parts included; {_N}."),
]
Points = Annotated[
    list[str] | None,
    typer.Option("--point", metavar="[N:]X,Y", help="A pixel of the body, visible or hidden; repeatable."),
]
NotPoints = Annotated[
    list[str] | None, typer.Option("--not-point", metavar="[N:]X,Y", help="A pixel that is not body; repeatable.")
]
Joints = Annotated[
    list[str] | None,
    typer.Option("--joint", metavar="[N:]NAME,X,Y", help="Where a joint is, such as left_knee; repeatable."),
]
Poses = Annotated[
    list[str] | None,
    typer.Option("--pose", metavar="[N:]K", help="A typical pose, numbered as `deocclude models poses` draws them."),
]
Fronts = Annotated[
    list[str] | None,
    typer.Option("--front", metavar="[N:]MASK", help="What is in front: only there hidden parts are completed."),
]
Keeps = Annotated[list[str] | None, typer.Option("--keep", metavar="[N:]MASK", help="What is never repainted.")]
Backgrounds = Annotated[
    list[str] | None, typer.Option("--background", metavar="[N:]MASK", help="What is no part of the body.")
]


class CompletionOptions(NamedTuple):
    """The options as text; each entry may begin with `N:`."""

    extent: Sequence[str] | None = None
    point: Sequence[str] | None = None
    not_point: Sequence[str] | None = None
    joint: Sequence[str] | None = None
    pose: Sequence[str] | None = None
    front: Sequence[str] | None = None
    keep: Sequence[str] | None = None
    background: Sequence[str] | None = None

    def parse(self) -> dict[int, CompletionPrompts]:
        """The prompts by number of the person, THE_ONLY_PERSON for those without; masks are still paths.

        Raises:
            UsageError: a value cannot be read; or some have a number and others have none.
        """
        from deocclude.inference.completion_prompts import THE_ONLY_PERSON, CompletionPrompts

        prompts: dict[int, CompletionPrompts] = {}
        for option, texts in self._asdict().items():
            for text in texts or ():
                number, value = _split_number(text)
                prompts[number] = _with_prompt(prompts.get(number, CompletionPrompts()), option, value, text)
        if THE_ONLY_PERSON in prompts and len(prompts) > 1:
            raise UsageError("completion prompts: write N: before each of them, or before none")
        return prompts


def _split_number(text: str) -> tuple[int, str]:
    """The number of the person, or THE_ONLY_PERSON, and the value: 2 and "10,20" of "2:10,20"."""
    from deocclude.inference.completion_prompts import THE_ONLY_PERSON

    before, colon, after = text.partition(":")  # C:mask.png has a drive and no number
    return (int(before), after) if colon and before.isdecimal() and int(before) > 0 else (THE_ONLY_PERSON, text)


def _with_prompt(prompts: CompletionPrompts, option: str, value: str, text: str) -> CompletionPrompts:
    """The prompts with the value of one more option. text: the value as given. Raises UsageError."""
    name = f"--{option.replace('_', '-')}"

    def refuse_second(field: str) -> None:
        if getattr(prompts, field) is not None:
            raise UsageError(f"{name} {text}: a person has one")

    def read(expected: str, convert: Callable[[list[str]], Any]) -> Any:
        """The parts between commas, converted. expected: what the error message asks for."""
        try:
            return convert(value.split(","))
        except (ValueError, IndexError):
            raise UsageError(f"{name} takes {expected}, got {text}") from None

    if option == "extent":
        refuse_second("extent_xyxy")
        return replace(prompts, extent_xyxy=read("x0,y0,x1,y1 in pixels", lambda parts: _floats(parts, 4)))
    if option in ("point", "not_point"):
        field = f"{option}s"
        point = read("x,y in pixels", lambda parts: _floats(parts, 2))
        return replace(prompts, **{field: (*getattr(prompts, field), point)})
    if option == "joint":
        joint, place = read("name,x,y in pixels", lambda parts: (parts[0].strip(), _floats(parts[1:], 2)))
        if joint in prompts.joints:
            raise UsageError(f"{name} {text}: a person has one {joint}")
        return replace(prompts, joints={**prompts.joints, joint: place})
    if option == "pose":
        refuse_second("pose")
        return replace(prompts, pose=read("the number of a typical pose", lambda parts: int(value)))
    refuse_second(option)
    return replace(prompts, **{option: Path(value)})


def _floats(parts: Sequence[str], count: int) -> tuple[float, ...]:
    """The parts as `count` numbers. Raises ValueError for another count or no numbers."""
    numbers = tuple(float(part) for part in parts)
    if len(numbers) != count:
        raise ValueError
    return numbers
