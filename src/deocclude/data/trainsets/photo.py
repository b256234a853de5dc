"""One photo of a build: selection of its people, and their rows. Runs in a worker process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np

from deocclude.data.datasets.each_photo import UnusablePhoto
from deocclude.data.datasets.record import PhotoRecord
from deocclude.data.datasets.taxonomies import to_parsing_groups
from deocclude.data.sources.cutting import background_without_people, cut_out
from deocclude.data.sources.layers import PERSON_MAX_PX
from deocclude.data.sources.selection import (
    RULES,
    Candidate,
    Thresholds,
    candidates,
    failed_rules,
    is_inside,
    is_occluder,
)
from deocclude.data.sources.shard_rows import encode
from deocclude.data.sources.shard_tally import Judgement, PhotoOutcome
from deocclude.data.sources.splits import Split, split_of
from deocclude.data.storage import read_bytes
from deocclude.data.trainsets.parsers import Parser, open_parser
from deocclude.errors import DeoccludeError, InputError
from deocclude.io.images import load_image

_OCCLUDER_MARGIN = 0.02  # context around an occluder, as a fraction of its longer side: enough for its soft edge


@dataclass(frozen=True)
class BuildSettings:
    """Settings of a built set; the same records and settings give the same set.

    Attributes:
        rules: names of the selection rules.
        limits: thresholds of the rules.
        parser: own, none or hf:MODEL, for people without labels in the dataset.
        split: how photos are held out.
        licence: licence of photos whose records state none.
        max_px: longest side of a stored person, in pixels.
        shard_rows: approximate number of rows in a shard.
    """

    rules: tuple[str, ...] = tuple(RULES)
    limits: Thresholds = field(default_factory=Thresholds)
    parser: str = "own"
    split: Split = "keep"
    licence: str | None = None
    max_px: int = PERSON_MAX_PX
    shard_rows: int = 500


def build_photo(numbered: tuple[int, PhotoRecord | UnusablePhoto], settings: BuildSettings) -> PhotoOutcome:
    """Apply the rules to all people of a photo and crop those who are kept.

    Args:
        numbered: the photo's number in the dataset, from 0, and its record.
        settings: how the set is built.

    Returns:
        The outcome; an unusable photo has a `problem`.
    """
    number, photo = numbered
    if isinstance(photo, UnusablePhoto):
        return PhotoOutcome(None, problem=photo.what)
    cv2.setNumThreads(1)  # parallelism is over photos
    try:
        people = candidates(photo)
        judged = [Judgement(one.person, failed_rules(one, settings.rules, settings.limits)) for one in people]
        return PhotoOutcome(photo, tuple(judged), tuple(_rows(photo, number, people, judged, settings)))
    except DeoccludeError as error:
        message = str(error)
        return PhotoOutcome(photo, problem=message if photo.image in message else f"{photo.image}: {message}")


def _rows(
    photo: PhotoRecord, number: int, people: list[Candidate], judged: list[Judgement], settings: BuildSettings
) -> list[dict[str, Any]]:
    wanted: list[tuple[Candidate, Literal["person", "occluder"]]] = [
        (one, "person" if not verdict.failed else "occluder")
        for one, verdict in zip(people, judged, strict=True)
        if not verdict.failed or is_occluder(verdict.failed)
    ]
    if not wanted and not photo.has_background:
        return []
    pixels = load_image(read_bytes(photo.image))
    if pixels.shape[:2] != tuple(photo.size_hw):
        raise InputError(f"{photo.image}: its record says {photo.size_hw} (HxW), the photo is {pixels.shape[:2]}")
    facts = {
        "photo_id": f"{photo.source}/{photo.id}",
        "source": photo.source,
        "split": split_of(photo, number, settings.split),
        "licence": photo.licence or settings.licence,
    }
    rows = [_person_row(one, kind, pixels, settings, facts) for one, kind in wanted]
    place = background_without_people(pixels, (one.mask for one in people)) if photo.has_background else None
    if place is not None:
        more = {"whole": False, "has_background": True, **facts}
        rows.append(encode("background", f"{facts['photo_id']}/background", place, None, None, **more))
    return rows


def _person_row(
    one: Candidate, kind: Literal["person", "occluder"], pixels: np.ndarray, settings: BuildSettings,
    facts: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    row_id = f"{facts['photo_id']}/{one.person.id}"
    more = {"whole": is_inside(one, settings.limits), "has_background": one.photo.has_background, **facts}
    if kind == "occluder":
        cut = cut_out(pixels, one.mask, max_px=settings.max_px, surroundings=_OCCLUDER_MARGIN)
        return encode(kind, row_id, cut.rgb, cut.mask, None, **more)
    labels = None
    if one.person.parsing is not None:
        labels = to_parsing_groups(one.person.parsing_labels(), one.person.parsing.taxonomy)
    cut = cut_out(pixels, one.mask, max_px=settings.max_px, parsing=labels)
    if not cut.mask.any():
        raise InputError(f"person {one.person.id} is thinner than a pixel at {settings.max_px} px")
    parsing, parser = cut.parsing, parser_of(settings.parser)
    if parsing is None and parser is not None:
        parsing = parser(cut)
    return encode(kind, row_id, cut.rgb, cut.mask, parsing, **more)


@lru_cache(maxsize=1)
def parser_of(spec: str) -> Parser | None:
    """The parser of a spec, loaded once a process."""
    return open_parser(spec)
