"""How much completion prompts and several hypotheses help, on people of whom much is hidden.

Prompts are simulated from the truth: the box of the whole body, then clicks, each in the middle of the largest error
that is left (Sofiiuk et al. 2021, arXiv 2102.06583). The visible mask is the true one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deocclude.data.evalsets.persons import EvalSample, EvalSet
from deocclude.errors import UsageError
from deocclude.evaluation.protocol import draw_records
from deocclude.evaluation.tables import json_ready, markdown_table, with_interval
from deocclude.imaging.arrays import Mask
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.masks import mask_iou
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.prompted_completion import PromptedCompletion
from deocclude.inference.runtime import find_model, open_networks
from deocclude.metrics.bootstrap import bootstrap_interval
from deocclude.people.hypotheses import likely_completions
from deocclude.train.simulated_prompts import largest_error

MUCH_HIDDEN = 0.4  # of the body
KINDS = {
    "without": "no prompt",
    "extent": "box of the whole body",
    "extent_1": "box and one click",
    "extent_2": "box and two clicks",
    "clicks_2": "two clicks alone",
    "first": "the most probable hypothesis",
    "best": "the best hypothesis",
    "levels": "the best of as many thresholds, without hypotheses",
}
"""Kinds of completion: the key in the scores, and the name in the table."""
_BINS = 10  # of the calibration error


@dataclass
class PromptEvaluation:
    """Scores of one set.

    Attributes:
        set_name: the set.
        hypotheses: how many were requested.
        people: number of measured pictures.
        person_ids: the person in each picture.
        invisible_iou: IoU of the occluded region in each picture, by the keys of KINDS.
        hits: for each hypothesis of each picture its probability, and whether it was the best one.
    """

    set_name: str
    hypotheses: int
    people: int = 0
    person_ids: list[str] = field(default_factory=list)
    invisible_iou: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    hits: list[tuple[float, bool]] = field(default_factory=list)

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error of the hypotheses' probabilities, 0 to 1, in ten bins; None without any."""
        if not self.hits:
            return None
        probability, hit = np.array(self.hits, float).T
        bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
        gaps = [abs(hit[bins == number].mean() - probability[bins == number].mean()) * (bins == number).mean()
                for number in np.unique(bins)]  # fmt: skip
        return float(sum(gaps))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        ready: dict[str, Any] = json_ready(asdict(self) | {"calibration_error": self.calibration_error})
        return ready

    def to_markdown(self) -> str:
        """A table, and how it was measured."""
        rows = []
        base = self.invisible_iou["without"]
        for kind, name in KINDS.items():
            scores = self.invisible_iou[kind]
            if scores:
                gain = 100 * (np.mean(scores) - np.mean(base))
                interval = bootstrap_interval(scores, self.person_ids, np.random.default_rng(0))
                rows.append([name, with_interval(float(np.mean(scores)), interval), f"{gain:+.1f}"])
        table = markdown_table(["completion prompts", "invisible IoU", "points"], rows)
        error = "-" if self.calibration_error is None else f"{self.calibration_error:.3f}"
        return (
            f"{self.set_name}: {self.people} pictures of people of whom more than {MUCH_HIDDEN:.0%} is hidden, true "
            f"visible masks.\n\n{table}\n\n{self.hypotheses} hypotheses; expected calibration error of their "
            f"probabilities {error}.\n"
        )


def measure_completion_prompts(
    eval_set: EvalSet, *, model: str = "base", weights_dir: Path | None = None, device: str = "auto",
    limit: int | None = None, hypotheses: int = 4, on_record: Callable[[int, int], None] | None = None,
) -> PromptEvaluation:  # fmt: skip
    """Measure completion prompts on the people of a set of whom more than MUCH_HIDDEN is hidden.

    Args:
        eval_set: the set.
        model: as in `load`.
        weights_dir: as in `load`.
        device: as in `load`.
        limit: at most so many pictures are drawn, see `draw_records`, before those with less hidden are left out.
        hypotheses: how many are requested.
        on_record: called with (done, all) after each picture.

    Raises:
        UsageError: there is no such model, or it has no prompted head.
    """
    info = find_model(model, weights_dir)
    networks, _ = open_networks(info, device)
    completion, prompted = MaskCompletion.of(networks, info), PromptedCompletion.of(networks, info)
    if prompted is None:
        raise UsageError(f"model {model} has no head for completion prompts")
    records = [record for record in draw_records(eval_set.records, limit) if record.hidden_fraction > MUCH_HIDDEN]
    found = PromptEvaluation(eval_set.name, hypotheses)
    for done, record in enumerate(records, start=1):
        _add_scores(found, eval_set.load(record), completion, prompted)
        if on_record is not None:
            on_record(done, len(records))
    return found


def _add_scores(
    found: PromptEvaluation, sample: EvalSample, completion: MaskCompletion, prompted: PromptedCompletion
) -> None:
    """Add the scores of one person to `found`."""
    photo, size_hw = sample.photo, sample.photo.shape[:2]
    body = completion(photo, sample.visible)
    not_visible = ~sample.visible

    def amodal_for(prompts: CompletionPrompts) -> Mask:
        completed = prompted(photo, body, prompts)
        return completed.on_photo(completed.amodal, size_hw)

    def invisible_iou(amodal: Mask) -> float:
        return mask_iou(amodal & not_visible, sample.amodal & not_visible)

    def add_iou(kind: str, amodal: Mask) -> None:
        found.invisible_iou[kind].append(invisible_iou(amodal))

    found.people += 1
    found.person_ids.append(sample.person_id)
    without = body.on_photo(body.amodal, size_hw)
    add_iou("without", without)
    x0, y0, x1, y1 = mask_to_box_xyxy(sample.amodal)
    extent = CompletionPrompts(extent_xyxy=(x0, y0, x1, y1))
    amodal = amodal_for(extent)
    add_iou("extent", amodal)
    one_click, two_clicks = _after_clicks(extent, amodal, sample, amodal_for, count=2)
    add_iou("extent_1", one_click)
    add_iou("extent_2", two_clicks)
    _, two_clicks = _after_clicks(CompletionPrompts(), without, sample, amodal_for, count=2)
    add_iou("clicks_2", two_clicks)
    hypotheses = likely_completions(prompted, photo, body, CompletionPrompts(), found.hypotheses)
    scores = [invisible_iou(hypothesis.amodal_mask) for hypothesis in hypotheses]
    found.invisible_iou["first"].append(scores[0])
    found.invisible_iou["best"].append(max(scores))
    thresholds = np.arange(1, found.hypotheses + 1) * 255 / (found.hypotheses + 1)
    levels = [body.on_photo(body.amodal_prob >= threshold, size_hw) for threshold in thresholds]
    found.invisible_iou["levels"].append(max(invisible_iou(level) for level in levels))
    best = int(np.argmax(scores))
    found.hits += [(hypothesis.probability, number == best) for number, hypothesis in enumerate(hypotheses)]


def _after_clicks(
    prompts: CompletionPrompts, amodal: Mask, sample: EvalSample, amodal_for: Callable[[CompletionPrompts], Mask],
    count: int,
) -> list[Mask]:  # fmt: skip
    """The amodal masks after one click, after two, and so on. amodal: as completed with `prompts`, before any click."""
    masks = []
    for _ in range(count):
        prompts = clicked(prompts, amodal, sample.amodal, sample.visible)
        amodal = amodal_for(prompts)
        masks.append(amodal)
    return masks


def clicked(prompts: CompletionPrompts, amodal: Mask, truth: Mask, visible: Mask) -> CompletionPrompts:
    """The prompts with one more click, in the middle of the largest part of the larger error.

    The errors are the missing hidden body and the extra one, beyond the true body; the larger has more pixels.

    Args:
        prompts: the former ones.
        amodal: (H, W) bool, as completed with them.
        truth: (H, W) bool, the true amodal mask.
        visible: (H, W) bool, the true visible mask.

    Returns:
        Without an error: the same prompts, or for none that the head reads those with a click on a visible pixel.
    """
    missing, extra = truth & ~amodal & ~visible, amodal & ~truth
    is_missing = np.count_nonzero(missing) >= np.count_nonzero(extra)
    point = largest_error(missing if is_missing else extra, min_share=0.0)
    if point is None:
        return prompts if prompts.for_head else prompts.with_point(_any_pixel(visible), is_body=True)
    return prompts.with_point(point, is_body=bool(is_missing))


def _any_pixel(mask: Mask) -> tuple[float, float]:
    """The centre (x, y) of a pixel of a mask."""
    rows, columns = np.nonzero(mask)
    return float(columns[0]) + 0.5, float(rows[0]) + 0.5
