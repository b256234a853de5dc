"""Result and Person: what the pipeline returns for an image. Frozen, checked once, and small in memory.

A person's arrays are stored for the body's region of the image; the properties lay them out at the image's size when
they are read. Read a property once and keep its value where it is used often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deocclude.errors import DeoccludeError
from deocclude.imaging.arrays import ImageU8, Labels, Mask, Probability, ProbabilityU8, Scalar
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.compositing import cut_out, draw_labels, paste_hidden_box, tint_person
from deocclude.imaging.crop import Region
from deocclude.imaging.depth_order import BodyMasks, Occlusion, back_to_front, find_occlusions
from deocclude.imaging.truncation import find_truncation

if TYPE_CHECKING:
    from supervision import Detections

    from deocclude.io.openraster import Layer
    from deocclude.io.photo_metadata import Metadata
    from deocclude.io.results import LayerSize

# names of the labels of body parts and garments, by label
PARSING_NAMES: tuple[str, ...] = (
    "background",
    "headwear",
    "hair",
    "face",
    "arm",
    "leg",
    "upper_clothes",
    "outerwear",
    "dress",
    "lower_clothes",
    "footwear",
    "carried",
)

_SHOWN_PEOPLE = 8  # most people that a Result's repr lists


@dataclass(frozen=True, eq=False, repr=False)
class Person:
    """One person of an image, with masks, body parts and recovered appearance of the whole body.

    Public arrays have the upright image's size (H, W); visible is a subset of amodal. The `*_part` fields hold the
    values inside `region` (h, w), the body's box with a small margin.
    """

    id: int  # from 1
    score: float  # 0 to 1: mean visible probability times the detector's or segmenter's score
    hidden_probability: float  # 0 to 1: probability that more than 5 % of the body is hidden
    photo: ImageU8  # (H, W, 3) uint8
    region: Region  # in image pixels
    visible_part: Mask  # (h, w) bool
    amodal_part: Mask  # (h, w) bool
    amodal_prob_part: ProbabilityU8  # (h, w) uint8, 255 = certain
    parsing_part: Labels  # (h, w) uint8
    hidden_region: Region  # the hidden part's box, in image pixels; empty where nothing is hidden
    hidden_rgb: ImageU8  # (h', w', 3) uint8: recovered colours of `hidden_region`
    # of an image extended by uncrop: the photo's borders that truncate the body; None: those of the image count
    truncating_edges: tuple[str, ...] | None = None
    # why a hidden part was found and not completed: "low" (a small person) or "unlikely" (probably nothing in front)
    left_alone: str | None = None
    # 0 to 1: probability that this is the best of the model's hypotheses (`Deoccluder.samples`); None: a single answer
    sample_probability: float | None = None

    def __post_init__(self) -> None:
        size_hw = self.photo.shape[:2]
        for name in ("visible_part", "amodal_part", "amodal_prob_part", "parsing_part"):
            part = getattr(self, name)
            expected = np.uint8 if name in ("amodal_prob_part", "parsing_part") else np.bool_
            if part.dtype != expected or part.shape != self.region.size_hw:
                raise DeoccludeError(
                    f"{name} must be {np.dtype(expected)} {self.region.size_hw}, got {part.dtype} {part.shape}"
                )
        if self.region.grow(0, size_hw) != self.region:
            raise DeoccludeError(f"a person's region must lie in the photo of size {size_hw}, got {self.region}")
        if not self.amodal_part.any():
            raise DeoccludeError("a person must have at least one pixel")
        if (self.visible_part & ~self.amodal_part).any():
            raise DeoccludeError("the visible mask must be a subset of the amodal mask")
        if not self.hidden_region.is_empty and self.hidden_rgb.shape != (*self.hidden_region.size_hw, 3):
            raise DeoccludeError(f"hidden_rgb must be {(*self.hidden_region.size_hw, 3)}, got {self.hidden_rgb.shape}")
        for name in ("visible_part", "amodal_part", "amodal_prob_part", "parsing_part", "hidden_rgb"):
            getattr(self, name).flags.writeable = False

    def __repr__(self) -> str:
        facts = [
            f"id={self.id}", f"score={self.score:.2f}", f"hidden_fraction={self.hidden_fraction:.2f}",
            f"hidden_probability={self.hidden_probability:.2f}", f"box_xyxy={self.box_xyxy}",
        ]  # fmt: skip
        facts += [f"truncated_by={self.truncated_by}"] if self.truncated_by else []
        facts += [f"left_alone={self.left_alone!r}"] if self.left_alone else []
        return f"Person({', '.join(facts)})"

    @property
    def visible_mask(self) -> Mask:
        """(H, W) bool: the visible (modal) mask."""
        return self._at_image_size(self.visible_part)

    @property
    def amodal_mask(self) -> Mask:
        """(H, W) bool: the whole person, visible or occluded, inside the image."""
        return self._at_image_size(self.amodal_part)

    @property
    def invisible_mask(self) -> Mask:
        """(H, W) bool: the hidden part, amodal and not visible."""
        return self._at_image_size(self._invisible_part)

    @property
    def amodal_prob(self) -> Probability:
        """(H, W) float32, 0 to 1 in steps of 1/255: amodal probability; 0 away from the body."""
        return self._at_image_size(self.amodal_prob_part.astype(np.float32) / np.float32(255))

    @property
    def parsing(self) -> Labels:
        """(H, W) uint8: body part or garment of every amodal pixel, an index into `parsing_names`; 0 elsewhere."""
        return self._at_image_size(self.parsing_part)

    @property
    def parsing_names(self) -> tuple[str, ...]:
        """The name of each parsing label."""
        return PARSING_NAMES

    @property
    def content(self) -> ImageU8:
        """(H, W, 3) uint8: the image with this person's hidden part recovered; every other pixel is unchanged."""
        picture: ImageU8 = self.photo.copy()
        self.paint_onto(picture)
        return picture

    @property
    def rgba(self) -> ImageU8:
        """(H, W, 4) uint8: the whole person cut out with a soft edge, straight alpha; 0 everywhere else."""
        return self._at_image_size(self.rgba_part)

    @property
    def rgba_part(self) -> ImageU8:
        """(h, w, 4) uint8: `rgba` inside `region`."""
        region = self.region
        hidden = np.zeros((*region.size_hw, 3), dtype=np.uint8)
        if not self.hidden_region.is_empty:
            hidden[self.hidden_region.counted_from(region).slices] = self.hidden_rgb
        return cut_out(self.photo[region.slices], hidden, self._invisible_part, self.amodal_part)

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1): the box around the whole person, that of `amodal_mask`, in pixels, end excluded."""
        return self._box_of(self.amodal_part)

    @property
    def visible_box_xyxy(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1): the box of `visible_mask`, as a box prompt is, in pixels, end excluded.

        Four zeros for a person of whom nothing is visible.
        """
        return self._box_of(self.visible_part) if self.visible_part.any() else (0, 0, 0, 0)

    @property
    def truncated_by(self) -> tuple[str, ...]:
        """The image borders that truncate the body: any of top, left, bottom, right."""
        if self.truncating_edges is not None:
            return self.truncating_edges
        return find_truncation(self.amodal_part, self.region, self.photo.shape[:2]).edges

    @property
    def cut_by(self) -> tuple[str, ...]:
        """Earlier name of `truncated_by`."""
        return self.truncated_by

    @property
    def hidden_fraction(self) -> float:
        """Hidden pixels over amodal pixels, 0 to 1."""
        return float(1 - np.count_nonzero(self.visible_part) / np.count_nonzero(self.amodal_part))

    def paint_onto(self, picture: ImageU8) -> None:
        """Paint the hidden part, and no other pixel, into an image, in place.

        Args:
            picture: (H, W, 3) uint8, of the image's size.
        """
        paste_hidden_box(
            picture[self.region.slices], self.hidden_region.counted_from(self.region), self.hidden_rgb,
            self._invisible_part, self.amodal_part,
        )  # fmt: skip

    def _box_of(self, part: Mask) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) in image pixels: the box of an (h, w) mask of the region."""
        x0, y0, x1, y1 = mask_to_box_xyxy(part)
        left, top = self.region.left, self.region.top
        return x0 + left, y0 + top, x1 + left, y1 + top

    @property
    def _invisible_part(self) -> Mask:
        return self.amodal_part & ~self.visible_part

    def _at_image_size(self, part: NDArray[Scalar]) -> NDArray[Scalar]:
        """(H, W, ...): an (h, w, ...) array of the region, with zeros around it."""
        full = np.zeros((*self.photo.shape[:2], *part.shape[2:]), dtype=part.dtype)
        full[self.region.slices] = part
        return full


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Everything recovered from one image."""

    image: ImageU8  # (H, W, 3) uint8 RGB, upright, read-only
    people: tuple[Person, ...]
    timings: Mapping[str, float]  # seconds by stage, and "total"
    device: str  # "cpu" or "cuda": where the networks ran
    model: str  # the model's name
    icc_profile: bytes | None = None  # of the photo's file; images are saved with it
    # the photo's place in `image`, where that was extended (uncrop) and is black beyond the photo
    photo_region: Region | None = None
    # occlusions of all detected people, chosen or not, completed or not; None: computed from the masks of `people`
    occlusions: tuple[Occlusion, ...] | None = None
    name: str = ""  # the photo's file name without its folder; "" for an array or bytes
    id: int = 1  # the photo's place in a batch, from 1
    stem: str = ""  # beginning of the names of saved files, unique in a batch; by default that of `name`, or "photo"
    metadata: Metadata | None = None  # EXIF, copyright and resolution of the photo's file; images are saved with them

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise DeoccludeError(f"image must be (H, W, 3) uint8, got {self.image.shape} {self.image.dtype}")
        if any(person.photo.shape != self.image.shape for person in self.people):
            raise DeoccludeError("every person of a result must have the result's photo")
        object.__setattr__(self, "people", tuple(self.people))
        object.__setattr__(self, "timings", MappingProxyType(dict(self.timings)))
        object.__setattr__(self, "stem", self.stem or Path(self.name).stem or "photo")

    def __repr__(self) -> str:
        people = [repr(person) for person in self.people[:_SHOWN_PEOPLE]]
        if left := len(self.people) - len(people):
            people.append(f"and {left} more")
        return (
            f"Result(name={self.name!r}, id={self.id}, size_hw={self.image.shape[:2]}, people=[{', '.join(people)}], "
            f"model={self.model!r}, device={self.device!r})"
        )

    def _repr_png_(self) -> bytes:
        """PNG of `content` for a notebook's cell, at most 1024 pixels wide and high."""
        from deocclude.io.display import to_png

        return to_png(self)

    def __getstate__(self) -> dict[str, Any]:
        # a read-only view of a dict cannot be pickled; process pools return results by pickle
        return self.__dict__ | {"timings": dict(self.timings)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"timings": MappingProxyType(state["timings"])})

    @property
    def photo_bbox(self) -> tuple[int, int, int, int] | None:
        """The photo's place in an extended image, as COCO's boxes: x, y, width, height in pixels; None in any other."""
        if (photo := self.photo_region) is None:
            return None
        return photo.left, photo.top, *photo.size_hw[::-1]

    @property
    def photo_box_xyxy(self) -> tuple[int, int, int, int] | None:
        """(x0, y0, x1, y1): the photo's place in an extended image, in pixels, end excluded; None in any other."""
        if (photo := self.photo_region) is None:
            return None
        return photo.left, photo.top, photo.right, photo.bottom

    @cached_property
    def order(self) -> tuple[Occlusion, ...]:
        """Pairwise occlusions, at most one for each pair of people, by descending area; `front` and `behind` are ids.

        They cover all detected people, including those that were not chosen (`person`) and are not in `people`.
        """
        if self.occlusions is not None:
            return self.occlusions
        bodies = [BodyMasks(person.region, person.visible_part, person.amodal_part) for person in self.people]
        return find_occlusions(bodies, [person.id for person in self.people])

    @cached_property
    def back_to_front(self) -> tuple[Person, ...]:
        """The people by depth, the furthest first. Of a cycle of occlusions, the smallest is ignored."""
        by_id = {person.id: person for person in self.people}
        feet_y = [person.box_xyxy[3] for person in self.people]
        return tuple(by_id[number] for number in back_to_front(list(by_id), self.order_of_people, feet_y))

    @property
    def order_of_people(self) -> list[Occlusion]:
        """`order`, restricted to the people of `people`."""
        ids = {person.id for person in self.people}
        return [pair for pair in self.order if {pair.front, pair.behind} <= ids]

    @property
    def content(self) -> ImageU8:
        """(H, W, 3) uint8: the image with every hidden part painted in, the furthest person first.

        A part that one person occludes of another stays hidden, as it would be without the other occluders.
        `Person.content` shows one person's hidden part regardless of the people in front of it.
        """
        picture: ImageU8 = self.image.copy()
        for person in self.back_to_front:
            person.paint_onto(picture)
            if len(self.people) > 1:  # a nearer person covers the painted parts of the people behind
                visible = person.visible_part
                picture[person.region.slices][visible] = self.image[person.region.slices][visible]
        if self.photo_region is not None:
            self._paint_beyond_photo(picture, self.photo_region)
        return picture

    def _paint_beyond_photo(self, picture: ImageU8, photo_region: Region) -> None:
        """Paint the bodies beyond the photo, in place, as they are cut out: no background is there to blend with."""
        beyond = np.ones(picture.shape[:2], bool)
        beyond[photo_region.slices] = False
        for person in self.back_to_front:
            rgba, region = person.rgba_part, person.region.slices
            painted = beyond[region] & (rgba[..., 3] > 0)
            picture[region][painted] = rgba[..., :3][painted]

    @property
    def alpha(self) -> ProbabilityU8:
        """(H, W) uint8: 255 where `content` is photo or body; 0 beyond the photo of an extended image."""
        if self.photo_region is None:
            return np.full(self.image.shape[:2], 255, np.uint8)
        alpha = np.zeros(self.image.shape[:2], np.uint8)
        for person in self.people:
            np.maximum(alpha[person.region.slices], person.rgba_part[..., 3], out=alpha[person.region.slices])
        alpha[self.photo_region.slices] = 255
        return alpha

    def overlay(self) -> ImageU8:
        """(H, W, 3) uint8: the image with each person tinted, blue where visible, orange where recovered.

        A white outline surrounds each body; a label, such as "#2: 0.97", has the person's id and score.
        """
        picture: ImageU8 = self.image.copy()
        outline_px = max(1, round(max(picture.shape[:2]) / 600))
        for person in self.people:
            tint_person(picture[person.region.slices], person.visible_part, person._invisible_part, outline_px)
        draw_labels(
            picture,
            [f"#{person.id}: {person.score:.2f}" for person in self.people],
            [person.box_xyxy for person in self.people],
        )
        return picture

    def layers(self) -> list[Layer]:
        """The image as layers, bottom to top: the photo, the background without people, each whole person by depth.

        The background is filled where people are and in the rim around them (`rim_px`): no outline remains when a
        person is moved. It covers the photo, which keeps the pixels under soft edges: hide or erase the background to
        see them. People are as in `Person.rgba`, cropped to their region; `Layer.on_canvas` lays one out at the image's
        size.
        """
        from deocclude.io.results import to_layers  # a late import: io is above this module

        return to_layers(self)

    def show(self, what: str = "content") -> None:
        """Open a picture of the result in the system's image viewer, as Pillow's `Image.show`.

        Args:
            what: content or overlay.

        Raises:
            UsageError: another kind.
            DeoccludeError: no viewer was found.
        """
        from deocclude.io.display import show

        show(self, what)

    def to_supervision(self, mask: str = "amodal") -> Detections:
        """The people as `supervision.Detections`, in the order of `people`; the package is not installed by default.

        `mask` is (N, H, W) bool and `xyxy` (N, 4) float32 the boxes of these masks in pixels, end excluded;
        `confidence` is `Person.score`, and `class_id` 0, person. `data` has `class_name`, `person_id`,
        `hidden_fraction` and `hidden_probability`.

        Args:
            mask: amodal, the whole person; or visible.

        Raises:
            UsageError: another mask.
            MissingPackageError: supervision is not installed.
        """
        from deocclude.io.detections import to_supervision

        return to_supervision(self, mask)

    def to_coco(self, file_name: str | None = None, image_id: int | None = None) -> dict[str, Any]:
        """The image as a COCO document: one annotation for each person, with the amodal mask as `segmentation`.

        Masks are compressed run lengths, `bbox` is (x, y, width, height) of the whole person, `area` its pixels. Keys
        beside COCO's own: `visible_segmentation`, `hidden_fraction`, `hidden_probability`, `cut_by` (the values of
        `truncated_by`), `score`, `depth` (0 is the furthest person), of samples `sample_probability`. The document has
        `occlusions`, pairs of annotation ids; the entry of an extended image `photo_bbox`, the photo's place in it.

        The id of an annotation is `person.id + 100_000 * (image_id - 1)`: unique among images of different ids, and the
        person's own in image 1. `merge_coco` joins documents.

        Args:
            file_name: the image's `file_name`; None: `name`.
            image_id: the image's id, from 1; None: `id`.

        Raises:
            UsageError: an image id that is no integer from 1 on.
        """
        from deocclude.io.results import to_coco

        return to_coco(self, file_name, image_id)

    def save(
        self,
        folder: str | Path,
        what: Sequence[str] = ("content", "rgba"),
        stem: str | None = None,
        layer_size: LayerSize = "trimmed",
    ) -> list[Path]:
        """Save outputs of this result. Each file is complete or absent.

        Names: `stem.deoccluded.png`, `stem.overlay.png`, `stem.deoccluded.ora` for layers, `stem.deoccluded.json`, and
        for each person `stem.person1.rgba.png` and so on, with amodal, visible, invisible (black and white) and parsing
        (palette of labels).

        Args:
            folder: created where it is missing.
            what: any of content, rgba, amodal, visible, invisible, parsing, overlay, layers and json, or coco for json;
                or all.
            stem: beginning of the file names; None: that of the result, which is the photo's name without its suffix,
                or "photo" where it has no name.
            layer_size: of layers: trimmed, each layer has its own size and place; canvas, each layer has the image's
                size and lies at 0,0. GIMP 3.0.4 cuts trimmed layers when it saves the file as OpenRaster again.

        Returns:
            The paths of the files.

        Raises:
            UsageError: an unknown kind or layer size.
            DeoccludeError: a file cannot be written.
        """
        from deocclude.io.results import save

        return save(self, folder, what, stem, layer_size)
