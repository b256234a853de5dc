"""Protocol of scenes without prompts: detection, mask quality and depth order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deocclude.data.evalsets.scenes import SceneSample, SceneSet
from deocclude.evaluation.baselines import grabcut_people, whole_photo
from deocclude.evaluation.protocol import draw_records
from deocclude.evaluation.scores import OURS
from deocclude.evaluation.tables import json_ready, markdown_table, number, percent
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.masks import mask_iou
from deocclude.metrics.bootstrap import mean_of_known
from deocclude.metrics.detection import Matched, match_boxes, recall_precision

BoolArray = NDArray[np.bool_]

COUNTED_HEIGHT_PX = 96  # least height of people in recall and precision
HEIGHTS_PX = (40, 96, 192, 384)  # bounds of the classes of height
_LEAST_VISIBLE = 0.1  # visible fraction of a body below which a person is ignored
_LEAST_HIDDEN = 0.02  # occluded fraction of a body from which a pair has a depth order

PROTOCOL = {
    "finding": (
        "A detection is correct if the box of its visible mask has an IoU of at least 0.5 with a true one; boxes are "
        "matched once, by descending confidence. Recall and precision over people at least "
        f"{COUNTED_HEIGHT_PX} px high in the photo. Ignored: people with less than {_LEAST_VISIBLE:.0%} visible, and "
        "boxes mostly in areas of unlabelled people."
    ),
    "masks": (
        "Mean IoU of the visible and of the amodal mask over people whose visible mask has an IoU of at least 0.5 with "
        "a detected one; masks are matched once, by descending confidence."
    ),
    "order": (
        f"Pairs with both people matched by their masks, one of whom occludes at least {_LEAST_HIDDEN:.0%} of the "
        "other: fraction with the correct depth order."
    ),
}


class FoundPerson(Protocol):
    """One detected person, as in `Person`."""

    id: int
    score: float

    @property
    def visible_mask(self) -> BoolArray: ...
    @property
    def amodal_mask(self) -> BoolArray: ...


class FoundPeople(Protocol):
    """Detected people of a photo, as in `Result`."""

    @property
    def people(self) -> Sequence[FoundPerson]: ...
    @property
    def back_to_front(self) -> Sequence[FoundPerson]: ...


@dataclass(frozen=True)
class Answer:
    """One method's people in a photo.

    Attributes:
        masks: (visible, amodal) masks of each person, (H, W) bool.
        scores: confidence of each person.
        depth: place of each person in the depth order, 0 is the farthest; None without an order.
    """

    masks: list[tuple[BoolArray, BoolArray]]
    scores: list[float]
    depth: list[int] | None = None


@dataclass
class SceneScores:
    """Scores of one method over a set.

    Attributes:
        matched: matched boxes of each photo.
        matched_by_height: the same by range of true heights.
        visible_iou: of each true person with a detected partner, see `_partners`.
        amodal_iou: the same of those with a true amodal mask.
        pairs: pairs of people with a true depth order.
        pairs_found: those in which both have a partner, and the method gives an order.
        pairs_right: those of `pairs_found` with the correct order.
        false_alarms: detections in photos without people.
        empty_photos: photos without people.
    """

    matched: list[Matched] = field(default_factory=list)
    matched_by_height: dict[str, list[Matched]] = field(default_factory=dict)
    visible_iou: list[float] = field(default_factory=list)
    amodal_iou: list[float] = field(default_factory=list)
    pairs: int = 0
    pairs_found: int = 0
    pairs_right: int = 0
    false_alarms: int = 0
    empty_photos: int = 0


@dataclass
class SceneEvaluation:
    """Every score of a run by method, and the predictor's seconds for each photo."""

    set_name: str
    set_source: str
    photos: int
    people: int
    methods: dict[str, SceneScores]
    seconds: list[float] = field(default_factory=list)


def evaluate_scenes(
    scenes: SceneSet,
    predictor: Callable[[NDArray[np.uint8]], FoundPeople],
    *,
    baselines: bool = True,
    limit: int | None = None,
    on_record: Callable[[int, int], None] | None = None,
) -> SceneEvaluation:
    """Score a predictor and the baselines on a set of scenes.

    Args:
        scenes: the evaluation set.
        predictor: photo (H, W, 3) uint8 -> people, such as a `Deoccluder`.
        baselines: also score the box of the whole photo and GrabCut.
        limit: at most this many records, see `draw_records`.
        on_record: called with (done, all) after every record.

    Raises:
        InputError: a picture cannot be read.
        MissingExtraError: OpenCV is needed by a baseline and not installed.
    """
    records = draw_records(scenes.records, limit)
    methods = {OURS: SceneScores()}
    result = SceneEvaluation(scenes.name, scenes.source, len(records), sum(r.people for r in records), methods)
    for done, record in enumerate(records, start=1):
        sample = scenes.load(record)
        started = time.perf_counter()
        found = predictor(sample.photo)
        result.seconds.append(time.perf_counter() - started)
        answers = {OURS: as_answer(found)}
        if baselines:
            answers["box of the whole photo"] = _answer_of_masks([whole_photo(sample.photo)])
            answers["GrabCut foreground"] = _answer_of_masks(grabcut_people(sample.photo))
        for name, answer in answers.items():
            _add_scores(methods.setdefault(name, SceneScores()), sample, answer)
        if on_record is not None:
            on_record(done, len(records))
    return result


def as_answer(found: FoundPeople) -> Answer:
    """The people of a result with a non-empty visible mask."""
    place = {person.id: depth for depth, person in enumerate(found.back_to_front)}
    people = [person for person in found.people if person.visible_mask.any()]
    return Answer(
        [(person.visible_mask, person.amodal_mask) for person in people],
        [person.score for person in people],
        [place[person.id] for person in people],
    )


def _answer_of_masks(masks: Sequence[BoolArray]) -> Answer:
    """A baseline's answer: amodal and visible masks are the same, every score is 1, all depths are unknown."""
    return Answer([(mask, mask) for mask in masks], [1.0] * len(masks))


def _add_scores(scores: SceneScores, sample: SceneSample, answer: Answer) -> None:
    """Add one photo to a method's scores."""
    counted = np.array(
        [
            visible.any() and (sample.amodal is None or visible.sum() >= _LEAST_VISIBLE * sample.amodal[i].sum())
            for i, visible in enumerate(sample.visible)
        ],
        bool,
    )
    truth = _boxes_around([visible for visible, counts in zip(sample.visible, counted, strict=True) if counts])
    ignore = sample.ignore | sample.visible[~counted].any(0) if len(sample.visible) else sample.ignore
    found, confidences = _boxes_around([visible for visible, _ in answer.masks]), np.array(answer.scores)
    scores.matched.append(match_boxes(found, confidences, truth, ignore=ignore, min_height_px=COUNTED_HEIGHT_PX))
    for low, high in zip(HEIGHTS_PX, (*HEIGHTS_PX[1:], math.inf), strict=True):
        heights = truth[:, 3] - truth[:, 1]
        within = (heights >= low) & (heights < high)
        name = f"{low}-{high:.0f} px" if high < math.inf else f"from {low} px"
        matched = match_boxes(found, confidences, truth[within])
        scores.matched_by_height.setdefault(name, []).append(matched)
    if not len(sample.visible):
        scores.empty_photos += 1
        scores.false_alarms += len(found)
    partners = _partners(sample.visible, answer)
    for true, detected in partners.items():
        visible, amodal = answer.masks[detected]
        scores.visible_iou.append(mask_iou(visible, sample.visible[true]))
        if sample.amodal is not None:
            scores.amodal_iou.append(mask_iou(amodal, sample.amodal[true]))
    if sample.amodal is None:
        return
    # the sample's people are sorted from back to front
    for behind in range(len(sample.visible)):
        for front in range(behind + 1, len(sample.visible)):
            hidden = (sample.amodal[behind] & sample.visible[front]).sum()
            if hidden < _LEAST_HIDDEN * sample.amodal[behind].sum():
                continue
            scores.pairs += 1
            if answer.depth is not None and behind in partners and front in partners:
                scores.pairs_found += 1
                scores.pairs_right += answer.depth[partners[front]] > answer.depth[partners[behind]]


def _partners(truth: NDArray[np.bool_], answer: Answer) -> dict[int, int]:
    """{index of a true person: index of the detected one}, matched by an IoU of visible masks of at least 0.5.

    By descending confidence, each detected person takes the free true one with the highest IoU. truth: (N, H, W) bool.
    """
    partners: dict[int, int] = {}
    for j in np.argsort(-np.array(answer.scores), kind="stable"):
        free = [i for i in range(len(truth)) if i not in partners]
        ious = [mask_iou(answer.masks[j][0], truth[i]) for i in free]
        if ious and max(ious) >= 0.5:
            partners[free[int(np.argmax(ious))]] = int(j)
    return partners


def _boxes_around(masks: Sequence[BoolArray]) -> NDArray[np.float32]:
    """(N, 4) boxes of N masks, xyxy in pixels."""
    return np.array([mask_to_box_xyxy(m) for m in masks], np.float32).reshape(-1, 4)


# --- summary and tables --------------------------------------------------------------------------------------------


def summarise_scenes(evaluation: SceneEvaluation, *, model: str = "") -> dict[str, Any]:
    """The figures of a run as a JSON-ready dictionary: set, model, protocol, seconds (median per photo), methods."""
    seconds = evaluation.seconds
    return json_ready(
        {
            "format": 1,
            "set": {
                "name": evaluation.set_name,
                "source": evaluation.set_source,
                "photos": evaluation.photos,
                "people": evaluation.people,
            },
            "model": model,
            "protocol": PROTOCOL,
            "seconds": float(np.median(seconds)) if seconds else math.nan,
            "methods": {name: _figures(scores) for name, scores in evaluation.methods.items()},
        }
    )


def _recall(matched: Sequence[Matched]) -> dict[str, Any]:
    """The number of people and their recall; NaN without people."""
    people = sum(m.people for m in matched)
    return {"people": people, "recall": float(recall_precision(matched)[0]) if people else math.nan}


def _figures(scores: SceneScores) -> dict[str, Any]:
    """One method's entry in the summary; NaN for what cannot be computed."""
    any_found = any(len(m.scores) for m in scores.matched)
    return {
        **_recall(scores.matched),
        "precision": float(recall_precision(scores.matched)[1]) if any_found else math.nan,
        "recall_by_height": {name: _recall(parts) for name, parts in scores.matched_by_height.items()},
        "visible_iou": mean_of_known(scores.visible_iou),
        "amodal_iou": mean_of_known(scores.amodal_iou),
        "pairs": scores.pairs,
        "pairs_found": scores.pairs_found,
        "order_accuracy": scores.pairs_right / scores.pairs_found if scores.pairs_found else math.nan,
        "photos_without_people": scores.empty_photos,
        "found_in_photos_without_people": scores.false_alarms,
    }


def scenes_to_markdown(summary: dict[str, Any]) -> str:
    """The summary as Markdown with a final line break."""
    about, methods = summary["set"], summary["methods"]
    head = f"# {summary['model'] or 'Model'} on {about['name']}: {about['people']} people, {about['photos']} photos"
    rows = [
        [
            name, number(row["recall"]), number(row["precision"]), number(row["visible_iou"]),
            number(row["amodal_iou"]), number(row["order_accuracy"]), f"{row['pairs_found']} of {row['pairs']}",
            f"{row['found_in_photos_without_people']} in {row['photos_without_people']}",
        ]
        for name, row in methods.items()
    ]  # fmt: skip
    header = [
        "method", "recall", "precision", "visible IoU", "amodal IoU", "order correct", "pairs detected",
        "detections in empty photos",
    ]  # fmt: skip
    first = next(iter(methods.values()))
    people = [f"{height} ({row['people']})" for height, row in first["recall_by_height"].items()]
    by_height = [
        [name, *(percent(part["recall"]) for part in row["recall_by_height"].values())] for name, row in methods.items()
    ]
    counted = first["people"]
    parts = [
        head,
        f"## Detection\n\n{counted} people of at least {COUNTED_HEIGHT_PX} px.\n\n" + markdown_table(header, rows),
        "## Recall by height (people)\n\n" + markdown_table(["method", *people], by_height),
        f"Seconds per photo, median, both stages: {number(summary['seconds'], 2)}.",
        "## Protocol\n\n" + "\n".join(f"- {name}: {text}" for name, text in summary["protocol"].items()),
    ]
    return "\n\n".join(parts) + "\n"
