"""What clients send and get: the models behind `/openapi.json`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, Json, RootModel

from deocclude.inference.completion_prompts import JOINTS

Coordinate = Annotated[float, Field(ge=-1e6, le=1e6, description="Pixels of the upright photo.")]
Box = Annotated[
    tuple[Coordinate, Coordinate, Coordinate, Coordinate], Field(description="x0, y0, x1, y1 in pixels, end excluded.")
]
Point = Annotated[tuple[Coordinate, Coordinate], Field(description="x, y in pixels.")]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
SaveKind = Literal["content", "rgba", "amodal", "visible", "invisible", "parsing", "overlay", "layers", "json"]
JointName = Annotated[str, Field(json_schema_extra={"enum": list(JOINTS)}, pattern=f"^({'|'.join(JOINTS)})$")]


class Strict(BaseModel):
    """What a client sends: unknown names and numbers that are not finite are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Rle(Strict):
    """COCO's run lengths of a mask, column by column: a compressed string, or a list."""

    size: tuple[Count, Count] = Field(description="Height and width.")
    counts: str | list[Count]


class PngMask(Strict):
    """A mask as a file in base64: bright or opaque pixels belong to it."""

    png: str


class PersonPrompts(Strict):
    """What a user knows of one person's whole body: `CompletionPrompts`."""

    extent_xyxy: Box | None = Field(None, description="The box of the whole body, hidden parts included.")
    points: list[Point] = Field([], max_length=100, description="Pixels that belong to the body.")
    not_points: list[Point] = Field([], max_length=100, description="Pixels that do not.")
    joints: dict[JointName, Point] = Field({}, description="Where joints are: COCO's keypoints.")
    pose: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="The number of a typical pose.")
    hypothesis: Annotated[int, Field(ge=1, le=100)] | None = Field(None, description="Which of several answers.")
    front: Rle | PngMask | None = Field(None, description="What is in front: only there parts are completed.")
    keep: Rle | PngMask | None = Field(None, description="Pixels that are never repainted.")
    background: Rle | PngMask | None = Field(None, description="Pixels that are no part of the body.")


class Boxes(RootModel[list[Box]]):
    """Boxes around the visible parts of people."""


class Prompts(RootModel[dict[Annotated[int, Field(ge=1, le=1_000_000)], PersonPrompts]]):
    """Completion prompts by the number of the person: as in an answer, from 1; masks first, then boxes."""


class Form(Strict):
    """A request: a photo, and what is known of its people. Without masks and boxes, people are detected."""

    photo: UploadFile = Field(description="The photo's file, in any format that the server's Pillow opens.")
    masks: list[UploadFile] = Field([], description="Rough visible masks of the upright photo's size, one a person.")
    boxes_xyxy: Json[Boxes] | None = Field(None, description="JSON: [[x0, y0, x1, y1], ...].")
    prompts: Json[Prompts] | None = Field(None, description='JSON: {"1": {"extent_xyxy": [x0, y0, x1, y1]}}.')
    complete: Literal["auto", "always", "never"] = Field("auto", description="Whose hidden parts are completed.")
    person: str = Field("all", max_length=40, description="Of detected people: all, largest, N, or x,y.")
    min_score: Share | None = Field(None, description="Least score of detected people.")
    min_height_px: Annotated[float, Field(ge=0, le=1e6)] | None = Field(None, description="Of detected people.")
    min_hidden_probability: Share | None = Field(None, description="Of a hidden region, with complete=auto.")
    uncrop: bool = Field(False, description="Complete people beyond the photo's border too.")
    save: list[SaveKind] = Field(
        [], description="Kinds of output. JSON: pictures as base64 PNG, none by default. zip: files, content and rgba."
    )

    @property
    def options(self) -> dict[str, Any]:
        """The options of the pipeline's call."""
        names = ("complete", "person", "min_score", "min_height_px", "min_hidden_probability", "uncrop")
        return {name: getattr(self, name) for name in names}


class RleMask(BaseModel):
    """COCO's compressed run lengths of a mask."""

    size: tuple[int, int] = Field(description="Height and width.")
    counts: str


class DeoccludedPerson(BaseModel):
    """One person. Boxes and masks are those of the upright photo, or of its canvas with `uncrop`."""

    id: int = Field(ge=1)
    score: Share
    box_xyxy: tuple[int, int, int, int] = Field(description="Around the whole person.")
    visible_box_xyxy: tuple[int, int, int, int] = Field(description="Around the visible part.")
    hidden_fraction: Share
    hidden_probability: Share = Field(description="That more than 5 % of the body is hidden.")
    truncated_by: list[Literal["top", "left", "bottom", "right"]]
    left_alone: str | None = Field(description="Why a hidden part was found and not completed.")
    depth: int = Field(ge=0, description="0 is the furthest person.")
    amodal_mask: RleMask
    visible_mask: RleMask
    images: dict[str, str] = Field(description="base64 PNG by kind.")


class OcclusionPair(BaseModel):
    """Two people, one in front of the other."""

    front: int = Field(description="Id of the occluding person.")
    behind: int = Field(description="Id of the occluded person.")
    area_px: int


class Deoccluded(BaseModel):
    """The JSON answer."""

    model: str
    device: str
    size_hw: tuple[int, int]
    photo_box_xyxy: tuple[int, int, int, int] | None = Field(description="The photo's place in an extended image.")
    people: list[DeoccludedPerson]
    occlusions: list[OcclusionPair]
    timings_s: dict[str, float]
    images: dict[str, str] = Field(description="base64 PNG by kind: content, overlay.")


class Model(BaseModel):
    """One model of the server's weights folder."""

    name: str
    loaded: bool
    licence: str
    data: str
    input_size_px: int
    networks: dict[str, str] = Field(description="sha256 of each network's file.")


class Models(BaseModel):
    """The models that the server knows; one of them answers."""

    models: list[Model]


class Health(BaseModel):
    """Whether the service runs."""

    status: Literal["ok"]
    version: str


class Readiness(BaseModel):
    """Whether the service takes requests."""

    status: Literal["ready"]
    workers: int = Field(description="Processes that have opened the model.")
    waiting: int = Field(description="Requests in the queue.")


class ErrorDetail(BaseModel):
    """What went wrong, for programs and for people."""

    code: str
    message: str


class Error(BaseModel):
    """Every answer of a status from 400 on."""

    error: ErrorDetail
