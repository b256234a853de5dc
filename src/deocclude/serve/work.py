"""What a worker process does with a request: limits before decoding, the pipeline, and the answer's bytes."""

from __future__ import annotations

import base64
import io
import json
import logging
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from deocclude.errors import DeoccludeError, InputError, MissingPackageError, UsageError
from deocclude.imaging.arrays import Mask
from deocclude.imaging.boxes import BoxXyxy
from deocclude.imaging.rle import decode_rle, encode_rle
from deocclude.inference.completion_prompts import MASK_FIELDS, CompletionPrompts
from deocclude.inference.memory import give_back_freed
from deocclude.io.decoder import DecodeError, quiet_pillow
from deocclude.io.images import save_options, stated_size, to_image
from deocclude.io.results import PERSON_KINDS, SAVE_KINDS, picture_of
from deocclude.serve.errors import ServiceError
from deocclude.serve.settings import ServeSettings
from deocclude.types import Person, Result

MediaType = Literal["application/json", "application/zip", "image/png"]
JSON: MediaType = "application/json"
ZIP: MediaType = "application/zip"
PNG: MediaType = "image/png"

_MASKS_PER_PHOTO = 4  # limit of the pixels of all masks together, as a multiple of the photo's limit

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A request on its way to a worker process.

    Attributes:
        photo: the photo's file.
        masks: files of visible masks, one a person.
        boxes_xyxy: boxes of people.
        prompts: for a person's number the fields of CompletionPrompts; masks are {"size", "counts"} or {"png": base64}.
        options: options of the pipeline's call.
        media_type: of the answer.
        save: kinds of SAVE_KINDS.
    """

    photo: bytes
    masks: tuple[bytes, ...] = ()
    boxes_xyxy: tuple[BoxXyxy, ...] = ()
    prompts: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    media_type: MediaType = JSON
    save: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a request gets, and figures for the metrics. `content` is of `media_type`."""

    content: bytes
    media_type: str
    people: int = 0
    timings_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """A request that cannot be answered; `code` is one of `errors.STATUS_OF`."""

    code: str
    message: str


def open_pipeline(settings: ServeSettings, scratch: Path) -> PhotoWork:
    """Open the model in a worker process. Raises what `deocclude.load` raises."""
    from deocclude.pipeline import load

    pipe = load(settings.model, device=settings.device, weights_dir=settings.weights_dir, threads=settings.threads_each)
    return PhotoWork(pipe, settings, scratch)


class PhotoWork:
    """The work on jobs, one after another."""

    def __init__(self, pipe: Callable[..., Result], settings: ServeSettings, scratch: Path) -> None:
        """Keep a pipeline for all jobs of this process.

        Args:
            pipe: a Deoccluder, or whatever is called as one.
            settings: limits.
            scratch: folder for temporary files, removed with the process.
        """
        self._pipe, self._settings = pipe, settings
        tempfile.tempdir = str(scratch)
        quiet_pillow()

    def __call__(self, job: Job) -> Answer | Refusal:
        """The answer to a job. Never raises: what goes wrong is the client's error or an internal one."""
        try:
            check_pixels(job, self._settings.max_pixels)
            result = recover(self._pipe, job, self._settings.max_pixels)
            return Answer(render(result, job), job.media_type, len(result.people), dict(result.timings))
        except ServiceError as error:
            return Refusal(error.code, error.message)
        except (InputError, UsageError, MissingPackageError) as error:
            return Refusal("invalid_input", str(error))
        except MemoryError:
            return Refusal("out_of_memory", "not enough memory for this photo")
        except DeoccludeError as error:
            _log.exception("a request failed")
            no_memory = "not enough memory" in str(error)
            return Refusal("out_of_memory" if no_memory else "internal", "the photo could not be processed")
        except Exception:  # the process goes on with the next request
            _log.exception("a request failed")
            return Refusal("internal", "the photo could not be processed")
        finally:
            give_back_freed()


def check_pixels(job: Job, max_pixels: int) -> None:
    """Check the sizes that a job's files state, before anything is decoded.

    Raises:
        ServiceError: too many pixels. InputError: a mask of completion prompts is no base64.
    """
    for_masks = sum(_stated_pixels(mask) for mask in job.masks) + sum(
        _prompt_pixels(mask) for mask in _prompt_masks(job)
    )
    for name, stated, limit in (
        ("the photo", _stated_pixels(job.photo), max_pixels),
        ("the masks", for_masks, _MASKS_PER_PHOTO * max_pixels),
    ):
        if stated > limit:
            raise ServiceError("too_many_pixels", f"{name}: {stated} pixels, and at most {limit} are accepted")


def _stated_pixels(content: bytes) -> int:
    """Pixels of an image by its header; 0 where no header can be read: decoding says why."""
    try:
        width, height = stated_size(content)
    except DecodeError:
        return 0
    return width * height


def _prompt_masks(job: Job) -> list[Mapping[str, Any]]:
    """The masks of all completion prompts, as in `Job.prompts`."""
    return [fields[name] for fields in job.prompts.values() for name in MASK_FIELDS if name in fields]


def _prompt_pixels(mask: Mapping[str, Any]) -> int:
    """Pixels of a mask of completion prompts by its header or its size. Raises InputError."""
    return _stated_pixels(_from_base64(mask["png"])) if "png" in mask else mask["size"][0] * mask["size"][1]


def recover(pipe: Callable[..., Result], job: Job, max_pixels: int) -> Result:
    """Run the pipeline on a job. Raises InputError, UsageError and other DeoccludeErrors."""
    prompts = {number: read_prompts(fields, max_pixels) for number, fields in job.prompts.items()}
    return pipe(
        job.photo, masks=list(job.masks) or None, boxes_xyxy=list(job.boxes_xyxy) or None,
        completion_prompts=prompts or None, **job.options,
    )  # fmt: skip


def read_prompts(fields: Mapping[str, Any], max_pixels: int) -> CompletionPrompts:
    """The completion prompts of a person; the pipeline checks them against the photo.

    Args:
        fields: as `Job.prompts`.
        max_pixels: of a mask.

    Raises:
        InputError: a mask cannot be read.
    """
    masks = {name: _read_mask(fields[name], max_pixels, name) for name in MASK_FIELDS if name in fields}
    # a mask's file is passed on as it is: the pipeline decodes it
    return CompletionPrompts(**{**fields, **masks})


def _read_mask(given: Mapping[str, Any], max_pixels: int, name: str) -> Mask | bytes:
    """A mask of run lengths, decoded, or the file of a PNG mask. Raises InputError."""
    if "png" in given:
        return _from_base64(given["png"])
    height, width = given["size"]
    if height * width > max_pixels:  # before anything of the stated size is made
        raise InputError(f"{name}: {height * width} pixels, and at most {max_pixels} are accepted")
    try:
        return decode_rle(dict(given))
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(f"{name}: not run lengths of COCO") from error


def _from_base64(text: str) -> bytes:
    """The bytes of a mask's file. Raises InputError."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InputError("a mask is not base64") from error


def render(result: Result, job: Job) -> bytes:
    """The answer's bytes in the requested media type."""
    if job.media_type == PNG:
        return png_of(result, "content")
    if job.media_type == ZIP:
        return to_zip(result, job.save or ("content", "rgba"))
    return json.dumps(to_document(result, job.save)).encode()


def to_document(result: Result, save: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON answer: `schemas.Deoccluded`.

    Args:
        result: the result.
        save: pictures that are added as base64 PNG: kinds of SAVE_KINDS without FILE_KINDS.
    """
    height, width = result.image.shape[:2]
    depth = {person.id: place for place, person in enumerate(result.back_to_front)}
    return {
        "model": result.model,
        "device": result.device,
        "size_hw": [height, width],
        "photo_box_xyxy": result.photo_box_xyxy,
        "people": [_person_entry(person, result, depth[person.id], save) for person in result.people],
        "occlusions": [asdict(pair) for pair in result.order_of_people],
        "timings_s": {name: round(seconds, 4) for name, seconds in result.timings.items()},
        "images": {kind: _base64_png(result, kind) for kind in save if kind not in PERSON_KINDS},
    }


def _person_entry(person: Person, result: Result, depth: int, save: Sequence[str]) -> dict[str, Any]:
    """A person's entry of the JSON answer: `schemas.DeoccludedPerson`. depth: 0 is the furthest person."""
    return {
        "id": person.id,
        "score": round(person.score, 6),
        "box_xyxy": list(person.box_xyxy),
        "visible_box_xyxy": list(person.visible_box_xyxy),
        "hidden_fraction": round(person.hidden_fraction, 6),
        "hidden_probability": round(person.hidden_probability, 6),
        "truncated_by": list(person.truncated_by),
        "left_alone": person.left_alone,
        "depth": depth,
        "amodal_mask": encode_rle(person.amodal_mask),
        "visible_mask": encode_rle(person.visible_mask),
        "images": {kind: _base64_png(result, kind, person) for kind in save if kind in PERSON_KINDS},
    }


def _base64_png(result: Result, kind: str, person: Person | None = None) -> str:
    return base64.b64encode(png_of(result, kind, person)).decode("ascii")


def png_of(result: Result, kind: str, person: Person | None = None) -> bytes:
    """The PNG file of a picture, as `Result.save` writes it. kind: of SAVE_KINDS without FILE_KINDS."""
    picture = picture_of(result, kind, person)
    options = save_options(
        "PNG", icc_profile=picture.icc_profile, exif=picture.exif(), dpi=picture.metadata.dpi
    )  # fmt: skip
    with io.BytesIO() as file:
        to_image(picture.pixels, picture.palette).save(file, "PNG", **options)
        return file.getvalue()


def to_zip(result: Result, save: Sequence[str]) -> bytes:
    """A zip archive of the files that `Result.save` writes, named photo.*."""
    kinds = [kind for kind in SAVE_KINDS if kind in save]
    with tempfile.TemporaryDirectory() as folder, io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # pictures are compressed already
            for path in result.save(folder, kinds, stem="photo"):
                archive.write(path, path.name)
        return file.getvalue()
