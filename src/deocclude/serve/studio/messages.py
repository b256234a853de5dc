"""What the studio's page and server send each other, as JSON. Coordinates are pixels of the upright photo."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from deocclude.serve.schemas import Box, Point, Strict

_MAX_POINTS = 200  # in one request


class SentPrompts(Strict):
    """`CompletionPrompts`; masks are base64 PNG of the photo's size, opaque or white where they are set."""

    extent_xyxy: Box | None = None
    points: list[Point] = Field([], max_length=_MAX_POINTS)
    not_points: list[Point] = Field([], max_length=_MAX_POINTS)
    joints: dict[str, Point] = Field({}, max_length=17)
    pose: int | None = Field(None, ge=1)
    hypothesis: int | None = Field(None, ge=1)
    front: str | None = None
    keep: str | None = None
    background: str | None = None


class SentPerson(Strict):
    """A new person, or another visible part of a person: a mask or a box."""

    mask: str | None = None
    box_xyxy: Box | None = None


class SentState(Strict):
    """A former state to return to: `state` of an answer."""

    state: str


class SentSample(Strict):
    """A bundled photo to open."""

    sample: str


class SentPlacement(Strict):
    """A person's layer in an arrangement.

    `left_top`: of the layer after scaling. `hidden`: the user has switched the layer off.
    """

    number: int
    left_top: Point
    scale: float = Field(1.0, gt=0.01, le=20)
    hidden: bool = False


class SentArrangement(Strict):
    """Layers, bottom to top, over a background: the filled one, or a colour, or base64 PNG or JPEG of any size.

    `split`: the hidden part of each person is a layer of its own, above the visible part.
    """

    people: list[SentPlacement] = Field([], max_length=500)
    split: bool = False
    colour: str | None = Field(None, pattern="^#[0-9a-fA-F]{6}$")
    picture: str | None = None


class PersonView(BaseModel):
    """A person as the page draws it.

    `maps` is a PNG of `region_xyxy`: red 255 visible, 128 invisible; green the parsing label; blue the amodal
    probability times 255. `patch` is an RGBA PNG of `patch_xyxy`: the recovered pixels of the invisible part.
    """

    number: int
    score: float
    hidden_fraction: float
    hidden_probability: float
    box_xyxy: tuple[int, int, int, int]
    region_xyxy: tuple[int, int, int, int]
    patch_xyxy: tuple[int, int, int, int]
    truncated_by: list[str]
    left_alone: str | None
    maps: str
    patch: str | None


class ChangeView(BaseModel):
    """What a change did: the people that changed, and everyone's number, the furthest first."""

    changed: list[PersonView]
    back_to_front: list[int]
    timings: dict[str, float]
    number: int | None = None  # of a person that was added
    state: str = ""  # token of everyone as they are now, to return to


class PhotoView(ChangeView):
    """An open photo with everyone in it."""

    id: str
    name: str
    width: int
    height: int
    model: str


class HypothesisView(BaseModel):
    """One completion of a person; `mask` is an RGBA PNG of `region_xyxy`, opaque inside the whole person."""

    probability: float
    region_xyxy: tuple[int, int, int, int]
    mask: str
    prompts: SentPrompts


class LayerView(BaseModel):
    """A layer of the scene; number 0 is the filled background."""

    number: int
    left: int
    top: int
    width: int
    height: int


# Red, green and blue, 0 to 255. A list of three, not a tuple: OpenAPI describes tuples by `prefixItems`, which some
# tools refuse in answers.
Rgb = Annotated[list[int], Field(min_length=3, max_length=3)]


class AboutView(BaseModel):
    """What the page asks for once, when it opens.

    Names of the sample photos, of joints and of body parts with their colours, the number of typical poses, and the
    limits of an uploaded photo in bytes and pixels.
    """

    samples: list[str]
    joints: list[str]
    parsing_names: list[str]
    parsing_palette: list[Rgb]
    poses: int
    max_bytes: int
    max_pixels: int


class PlaceView(BaseModel):
    """The place of a request: 0 it runs, n the n-th that waits, null neither."""

    position: int | None
