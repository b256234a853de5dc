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
from deocclude.data.sources.cutting import SURROUNDINGS, background_without_people, cut_out
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
    cv2.setNumThreads(1)  # photos are processed in parallel, so that OpenCV needs no threads of its own
    try:
        people = candidates(photo)
        judged = [Judgement(p.person, failed_rules(p, settings.rules, settings.limits)) for p in people]
        return PhotoOutcome(photo, tuple(judged), tuple(_rows(photo, number, people, judged, settings)))
    except DeoccludeError as error:
        message = str(error)
        return PhotoOutcome(photo, problem=message if photo.image in message else f"{photo.image}: {message}")


def _rows(
    photo: PhotoRecord, number: int, people: list[Candidate], judged: list[Judgement], settings: BuildSettings
) -> list[dict[str, Any]]:
    """Rows of the photo's subjects, occluders and background. The photo is read only where it can have rows.

    people, judged: all people, and their failed rules in the same order.
    """
    selected: list[tuple[Candidate, Literal["person", "occluder"]]] = [
        (candidate, "person" if not verdict.failed else "occluder")
        for candidate, verdict in zip(people, judged, strict=True)
        if not verdict.failed or is_occluder(verdict.failed)
    ]
    if not selected and not photo.has_background:
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
    rows = [_person_row(candidate, kind, pixels, settings, facts) for candidate, kind in selected]
    background = (
        background_without_people(pixels, (candidate.mask for candidate in people)) if photo.has_background else None
    )
    if background is not None:
        facts_of_background = {"whole": False, "has_background": True, **facts}
        rows.append(
            encode("background", f"{facts['photo_id']}/background", background, None, None, **facts_of_background)
        )
    return rows


def _person_row(
    candidate: Candidate, kind: Literal["person", "occluder"], pixels: np.ndarray, settings: BuildSettings,
    facts: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The row of a training subject or an occluder. pixels: the photo; facts: the columns that all its rows share.

    Raises InputError for a person thinner than a pixel after scaling, and for labels that cannot be read.
    """
    row_id = f"{facts['photo_id']}/{candidate.person.id}"
    facts_of_person = {
        "whole": is_inside(candidate, settings.limits),
        "has_background": candidate.photo.has_background,
        **facts,
    }
    labels = None
    if kind == "person" and candidate.person.parsing is not None:
        labels = to_parsing_groups(candidate.person.parsing_labels(), candidate.person.parsing.taxonomy)
    surroundings = SURROUNDINGS if kind == "person" else _OCCLUDER_MARGIN
    cut = cut_out(pixels, candidate.mask, max_px=settings.max_px, surroundings=surroundings, parsing=labels)
    if not cut.mask.any():
        raise InputError(f"person {candidate.person.id} is thinner than a pixel at {settings.max_px} px")
    if kind == "occluder":
        return encode(kind, row_id, cut.rgb, cut.mask, None, **facts_of_person)
    parsing, parser = cut.parsing, parser_of(settings.parser)
    if parsing is None and parser is not None:
        parsing = parser(cut)
    return encode(kind, row_id, cut.rgb, cut.mask, parsing, **facts_of_person)


@lru_cache(maxsize=1)
def parser_of(spec: str) -> Parser | None:
    """The parser of a spec, loaded once a process."""
    return open_parser(spec)
