"""How natural recovered people look to a network: FID and KID over all of them, LPIPS of each against the truth.

The networks are files of the user's; without one, its measures are not computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deocclude.crop import OUTSIDE_GREY
from deocclude.errors import WeightsError
from deocclude.evaluation.distribution import frechet_distance, kernel_distance
from deocclude.evaluation.picture_network import PictureNetwork
from deocclude.evaluation.tables import markdown_table, number, with_interval

CROP, PERSON = "working crop", "person alone"
VIEWS = (CROP, PERSON)
TRUTH = "truth"
NOT_COMPUTED = "not computed"

Views = Mapping[str, NDArray[np.uint8]]  # a picture for each of VIEWS


@dataclass(frozen=True)
class Judges:
    """The networks that there are. inception: a picture to features. lpips: two pictures to their distance."""

    inception: PictureNetwork | None = None
    lpips: PictureNetwork | None = None

    @classmethod
    def open(cls, inception: Path | None, lpips: Path | None, *, size_px: int) -> Judges:
        """Read the files that are named. Raises WeightsError and MissingExtraError as `PictureNetwork.open` does."""
        judges = cls(
            PictureNetwork.open(inception, pictures=1, size_px=size_px) if inception is not None else None,
            PictureNetwork.open(lpips, pictures=2, size_px=size_px) if lpips is not None else None,
        )
        if judges.lpips is not None:
            blank = np.zeros((size_px, size_px, 3), np.uint8)
            numbers = judges.lpips(blank, blank).size
            if numbers != 1:
                raise WeightsError(f"{lpips}: expected one distance for two pictures, got {numbers} numbers")
        return judges

    def distances(self, answer: Views, truth: Views) -> dict[str, float]:
        """LPIPS distance in each view; NaN without the network."""
        if self.lpips is None:
            return dict.fromkeys(VIEWS, math.nan)
        return {view: float(self.lpips(answer[view], truth[view])[0]) for view in VIEWS}

    def files(self) -> dict[str, dict[str, str] | None]:
        """Name and hash of each network's file, or None."""
        return {
            name: None if network is None else {"file": network.path.name, "sha256": network.sha256}
            for name, network in (("inception", self.inception), ("lpips", self.lpips))
        }


@dataclass
class FeatureBank:
    """Inception features of every picture by view and method; `TRUTH` is the method of the true pictures."""

    rows: dict[tuple[str, str], list[NDArray[np.float64]]] = field(default_factory=dict)

    def add(self, inception: PictureNetwork | None, method: str, pictures: Views) -> None:
        """Keep the features of one person's pictures; nothing without the network."""
        if inception is not None:
            for view in VIEWS:
                self.rows.setdefault((view, method), []).append(inception(pictures[view]))

    def figures(self) -> dict[str, dict[str, dict[str, float]] | None]:
        """{"fid": {view: {method: value}}, "kid": the same}; None for both when there are no features."""
        if not self.rows:
            return {"fid": None, "kid": None}
        measures = {"fid": frechet_distance, "kid": kernel_distance}
        return {
            name: {
                view: {
                    method: measure(np.stack(rows), np.stack(self.rows[view, TRUTH]))
                    for (its_view, method), rows in self.rows.items()
                    if its_view == view and method != TRUTH
                }
                for view in VIEWS
            }
            for name, measure in measures.items()
        }


def on_grey(picture: NDArray[np.uint8], person: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The person alone: grey everywhere else. picture: (H, W, 3) uint8; person: (H, W) bool."""
    return np.where(person[..., None], picture, np.uint8(OUTSIDE_GREY))


_LABELS = {"fid": "FID", "kid": "KID, paired", "lpips": "LPIPS"}


def appearance_table(appearance: Mapping[str, Any], methods: list[str]) -> str:
    """A row a measure and view, a column a method; rows say "not computed" where there is no network."""
    rows = []
    for name, digits in (("fid", 2), ("kid", 4), ("lpips", 3)):
        for view in VIEWS:
            figures = appearance[name]
            cells = [NOT_COMPUTED if figures is None else _cell(figures[view][method], digits) for method in methods]
            rows.append([f"{_LABELS[name]}, {view}", *cells])
    return markdown_table(["measure", *methods], rows)


def _cell(value: float | Mapping[str, Any] | None, digits: int) -> str:
    if isinstance(value, Mapping):
        return with_interval(value["mean"], value["interval"], digits)
    return number(None if value is None else round(value, digits) + 0.0, digits)  # never "-0.00"
