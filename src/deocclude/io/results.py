"""Results on disk: images, layers and COCO JSON, and the names of their files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

import numpy as np

from deocclude.errors import UsageError
from deocclude.imaging.arrays import Array, ImageU8
from deocclude.imaging.compositing import PARSING_PALETTE
from deocclude.imaging.crop import Region
from deocclude.imaging.masks import dilate
from deocclude.imaging.rle import encode_rle
from deocclude.io.coco import annotation_ids
from deocclude.io.files import save_text
from deocclude.io.images import save_image
from deocclude.io.photo_metadata import Metadata
from deocclude.io.picture_format import FORMAT_KINDS, FORMATS, PictureFormat
from deocclude.io.request_stamp import stamp_text
from deocclude.types import Person, Result

if TYPE_CHECKING:
    from deocclude.io.openraster import Layer

# Outputs of `Result.save`, in the order in which they are written.
SAVE_KINDS: tuple[str, ...] = (
    "content", "rgba", "amodal", "visible", "invisible", "parsing", "overlay", "layers", "json",
)  # fmt: skip
KIND_ALIASES = {"coco": "json"}  # the JSON is COCO JSON
ALL_KINDS = "all"  # stands for every kind of SAVE_KINDS
PERSON_KINDS: tuple[str, ...] = ("rgba", "amodal", "visible", "invisible", "parsing")  # one file for each person
LayerSize = Literal["trimmed", "canvas"]  # of the layers of an OpenRaster file, see `Result.save`
FILE_SUFFIXES = {"layers": ".ora", "json": ".json"}  # of kinds that are no pictures; of the others: .png
FILE_KINDS: tuple[str, ...] = tuple(FILE_SUFFIXES)
# what file names call a kind, where that is not the kind itself
_LABELS = {"content": "deoccluded", "layers": "deoccluded", "json": "deoccluded"}


class Picture(NamedTuple):
    """Pixels to save.

    Attributes:
        pixels: as `save_image` takes them.
        palette: colours of labels.
        icc_profile: colour profile of RGB pixels.
        metadata: of the photo whose pixels these are; empty for masks and labels.
    """

    pixels: Array
    palette: ImageU8 | None = None
    icc_profile: bytes | None = None
    metadata: Metadata = Metadata()

    def exif(self, software: str | None = None) -> bytes | None:
        """EXIF of the picture's file, as `Metadata.exif`."""
        return self.metadata.exif((self.pixels.shape[1], self.pixels.shape[0]), software)


def read_kinds(what: Sequence[str]) -> list[str]:
    """The kinds of SAVE_KINDS in a user's list, each once; `all` stands for every kind.

    Raises:
        UsageError: an unknown kind.
    """
    if not isinstance(what, Iterable):
        raise UsageError(f"the outputs are a list of {', '.join(SAVE_KINDS)}, got {what!r}")
    named = [KIND_ALIASES.get(kind, kind) for kind in what]
    kinds = list(dict.fromkeys(each for kind in named for each in (SAVE_KINDS if kind == ALL_KINDS else (kind,))))
    unknown = [kind for kind in kinds if kind not in SAVE_KINDS]
    choice = ", ".join((*SAVE_KINDS, *KIND_ALIASES, ALL_KINDS))
    if unknown:
        raise UsageError(f"cannot save {', '.join(map(repr, unknown))}: choose from {choice}")
    return kinds


def check_layer_size(layer_size: str) -> LayerSize:
    """The value, if it is one of LayerSize.

    Raises:
        UsageError: another value.
    """
    if layer_size not in get_args(LayerSize):
        raise UsageError(f"layer size must be {' or '.join(get_args(LayerSize))}, got {layer_size!r}")
    return cast(LayerSize, layer_size)


def suffix_of(kind: str, picture_format: PictureFormat = PictureFormat()) -> str:
    """The file suffix of a kind of SAVE_KINDS. picture_format: of kinds that have one."""
    return picture_format.suffix if kind in FORMAT_KINDS else FILE_SUFFIXES.get(kind, ".png")


def output_name(stem: str, kind: str, person: int = 0, picture_format: PictureFormat = PictureFormat()) -> str:
    """The file name of an output.

    Args:
        stem: the photo's name without its suffix.
        kind: a kind of SAVE_KINDS.
        person: the person's id; 0 for an output of the whole photo.
        picture_format: of content and overlay.
    """
    label = f"person{person}.{kind}" if person else _LABELS.get(kind, kind)
    return f"{stem}.{label}{suffix_of(kind, picture_format)}"


def _name_pattern(kind: str) -> str:
    """The regular expression of what follows the photo's stem in the names of a kind."""
    formats = FORMATS if kind in FORMAT_KINDS else (None,)
    names = {output_name("", kind, int(kind in PERSON_KINDS), PictureFormat(name)) for name in formats}
    return "|".join(re.escape(name).replace("person1", r"person\d+") for name in sorted(names))


OUTPUT_NAME = re.compile(f"({'|'.join(map(_name_pattern, SAVE_KINDS))})$")
"""What follows the photo's stem in the name of an output."""


def to_layers(result: Result) -> list[Layer]:
    """See `Result.layers`."""
    # layers are seldom asked for: `run` starts without zip, XML and the filling of backgrounds
    from deocclude.imaging.background import fill_background, rim_px
    from deocclude.io.openraster import Layer

    hole = np.zeros(result.image.shape[:2], dtype=bool)
    for person in result.people:
        hole[person.region.slices] |= person.amodal_part
    # the rim around each person is part of the hole
    photo = result.photo_region or Region(0, 0, *result.image.shape[:2])
    hole = dilate(hole[photo.slices], rim_px(photo.size_hw))
    original = result.image[photo.slices]
    background = fill_background(original, hole, grow_px=0)
    return [
        Layer("photo", original, (photo.left, photo.top)),
        Layer("background", background, (photo.left, photo.top)),
        *(
            Layer(
                f"person {person.id} ({100 * person.hidden_fraction:.0f} % hidden)",
                person.rgba_part,
                (person.region.left, person.region.top),
            )
            for person in result.back_to_front
        ),
    ]


def to_coco(result: Result, file_name: str | None = None, image_id: int | None = None) -> dict[str, Any]:
    """See `Result.to_coco`."""
    image_id = result.id if image_id is None else image_id
    depth = {person.id: place for place, person in enumerate(result.back_to_front)}
    height, width = result.image.shape[:2]
    annotation_id = annotation_ids([person.id for person in result.people], image_id)
    image_id = int(image_id)  # JSON takes no integers of numpy
    annotations = []
    for person in result.people:
        x0, y0, x1, y1 = person.box_xyxy
        annotations.append(
            {
                "id": annotation_id[person.id],
                "image_id": image_id,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(np.count_nonzero(person.amodal_part)),
                "segmentation": encode_rle(person.amodal_mask),
                "visible_segmentation": encode_rle(person.visible_mask),
                "hidden_fraction": round(person.hidden_fraction, 6),
                "cut_by": list(person.truncated_by),
                "hidden_probability": round(person.hidden_probability, 6),
                "score": round(person.score, 6),
                "depth": depth[person.id],
                **_sample_fields(person),
            }
        )
    name = result.name if file_name is None else file_name
    image = {"id": image_id, "file_name": name, "width": width, "height": height}
    if result.photo_bbox is not None:
        image["photo_bbox"] = list(result.photo_bbox)
    return {
        "info": {"description": "people made whole by deocclude", "model": result.model, "device": result.device},
        "images": [image],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": annotations,
        "occlusions": [
            asdict(pair) | {"front": annotation_id[pair.front], "behind": annotation_id[pair.behind]}
            for pair in result.order_of_people
        ],
    }


def _sample_fields(person: Person) -> dict[str, float]:
    """`sample_probability` of an annotation; nothing for a person with the model's single answer."""
    return {} if person.sample_probability is None else {"sample_probability": round(person.sample_probability, 6)}


def save(
    result: Result,
    folder: str | Path,
    what: Sequence[str] = ("content", "rgba"),
    stem: str | None = None,
    layer_size: LayerSize = "trimmed",
) -> list[Path]:
    """See `Result.save`."""
    stem = result.stem if stem is None else stem
    what = read_kinds((what,) if isinstance(what, str) else what)
    layer_size = check_layer_size(layer_size)
    folder = Path(folder)
    return [
        write(result, kind, folder / output_name(stem, kind, person.id if person else 0), person, layer_size=layer_size)
        for kind in SAVE_KINDS
        if kind in what
        for person in (result.people if kind in PERSON_KINDS else (None,))
    ]


def write(
    result: Result,
    kind: str,
    path: Path,
    person: Person | None = None,
    file_name: str | None = None,
    stamp: str | None = None,
    layer_size: LayerSize = "trimmed",
    quality: int | None = None,
) -> Path:
    """Save one output of a result; the file is complete or absent.

    Args:
        result: the result.
        kind: a kind of SAVE_KINDS.
        path: the file.
        person: the person, for kinds of PERSON_KINDS.
        file_name: the photo's file name, for json; None: the result's.
        stamp: digest of the request, stored in the file.
        layer_size: see `Result.save`.
        quality: of JPEG and WebP, 1 to 100; None: 95.

    Returns:
        The path.

    Raises:
        DeoccludeError: the file cannot be written.
    """
    software = stamp_text(stamp, [one.id for one in result.people]) if stamp else None
    if kind == "json":
        document = to_coco(result, file_name)
        if software:
            document["info"]["software"] = software
        return save_text(json.dumps(document, indent=1) + "\n", path)
    if kind == "layers":
        from deocclude.io.openraster import save_layers

        return save_layers(
            path, to_layers(result), result.image.shape[:2], result.icc_profile, software or "", layer_size,
            result.metadata or Metadata(),
        )  # fmt: skip
    picture = picture_of(result, kind, person)
    return save_image(
        picture.pixels,
        path,
        picture.palette,
        picture.icc_profile,
        picture.exif(software),
        picture.metadata.dpi,
        quality,
    )


def picture_of(result: Result, kind: str, person: Person | None = None) -> Picture:
    """The image of an output: any kind but those of FILE_KINDS.

    Args:
        result: the result.
        kind: content or overlay, or a kind of PERSON_KINDS.
        person: the person, for kinds of PERSON_KINDS; None for the others.

    Raises:
        UsageError: an unknown kind, one of FILE_KINDS, or a kind that does not go with `person`.
    """
    if kind not in SAVE_KINDS or kind in FILE_KINDS or (person is None) == (kind in PERSON_KINDS):
        raise UsageError(f"{kind} is no image of {'the photo' if person is None else 'a person'}")
    if person is None:
        pixels = result.content if kind == "content" else result.overlay()
        if result.photo_region is not None:
            pixels = np.dstack([pixels, result.alpha])
        return Picture(pixels, icc_profile=result.icc_profile, metadata=result.metadata or Metadata())
    if kind == "rgba":
        return Picture(person.rgba, icc_profile=result.icc_profile, metadata=result.metadata or Metadata())
    if kind == "parsing":
        return Picture(person.parsing, palette=PARSING_PALETTE)
    return Picture(getattr(person, f"{kind}_mask"))
