"""Run a predictor over an evaluation set and score every person: masks at photo resolution, content in a crop."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deocclude.data.evalsets.persons import EvalRecord, EvalSample, EvalSet
from deocclude.evaluation.appearance import INSTALL, PerceptualMetrics
from deocclude.evaluation.baselines import (
    TypicalPoses,
    require_cv2,
)
from deocclude.evaluation.predictions import StoredPredictions
from deocclude.evaluation.predictors import PredictedPerson, Predictor
from deocclude.evaluation.prompts import INITIAL_KINDS, PROMPTED_KINDS, InitialPrompt, predict
from deocclude.evaluation.scores import (
    OURS,
    PREDICTED_MASKS,
    STORED,
    TRUE_MASKS,
    Evaluation,
    Recover,
    is_hidden,
    score_content,
    score_masks,
    score_parts,
)


def evaluate(
    eval_set: EvalSet,
    predictor: Predictor | StoredPredictions,
    *,
    initial_kinds: Sequence[str] = PROMPTED_KINDS,
    typical_poses: TypicalPoses | None = None,
    content: bool = True,
    perceptual_metrics: PerceptualMetrics | None = None,
    against: Mapping[str, Recover] | None = None,
    limit: int | None = None,
    method: str = OURS,
    on_person: Callable[[EvalSample, PredictedPerson], None] | None = None,
    on_record: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score `predictor` and the baselines on an evaluation set.

    Args:
        eval_set: the evaluation set.
        predictor: a model, or predictions from files, which were made from the one kind in `initial_kinds`.
        initial_kinds: any of INITIAL_KINDS. Content from predicted masks uses the first kind.
        typical_poses: centres of the typical-pose baseline; None leaves it out.
        content: also score the recovered appearance of occluded people with unoccluded truth in the set.
        perceptual_metrics: networks of the perceptual metrics; None for none.
        against: further recoveries by name, sample -> (H, W, 3) uint8, scored as recovered from true masks.
        limit: at most this many records, see `draw_records`.
        method: the model's name in the scores; predictions from files are called STORED.
        on_person: called with every sample and the prediction from the first kind of initial mask.
        on_record: called with (done, all) after every record.

    Returns:
        All scores.

    Raises:
        InputError: a picture of the set cannot be read.
        MissingExtraError: OpenCV is needed (degraded masks, GrabCut, inpainting) and not installed.
        WeightsError: a network of the perceptual metrics does not run.
        ValueError: an unknown kind of initial mask, or several kinds for predictions from files.
    """
    stored = isinstance(predictor, StoredPredictions)
    _check_kinds(initial_kinds, stored)
    perceptual_metrics = perceptual_metrics or PerceptualMetrics()
    records = draw_records(eval_set.records, limit)
    without_truth = sum(record.files.truth is None for record in records) if content else 0
    content = content and without_truth < len(records)
    if content or {"degraded", "photo"} & set(initial_kinds):
        require_cv2()  # fail before the first record, not after some minutes
    result = Evaluation(
        set_name=eval_set.name,
        set_source=eval_set.source,
        initial_kinds=tuple(initial_kinds),
        records=len(records),
        people=len({record.person_id for record in records}),
        method=STORED if stored else method,
        metric_files=perceptual_metrics.files(),
        seconds_by_initial={} if stored else {kind: [] for kind in initial_kinds},
    )
    if stored:
        result.notes += _notes_on_files(predictor, initial_kinds[0])
    if without_truth:
        result.notes.append(
            f"no unoccluded truth of {without_truth} of {len(records)} pictures: their appearance is not measured"
        )
    if content and perceptual_metrics.mobilenet is None:
        result.notes.append(f"KID and the feature distance are left out without the MobileNetV2 weights: {INSTALL}")
    if typical_poses is None:
        result.notes.append("the nearest typical pose is left out: there is no typical_poses.npz beside the weights")
    for done, record in enumerate(records, start=1):
        sample = eval_set.load(record)
        person = _score_sample(result, sample, predictor, eval_set.seed, typical_poses)
        if on_person is not None:
            on_person(sample, person)
        if content and sample.truth is not None and person.content is not None and is_hidden(sample):
            recovered = _recoveries(result.method, sample, person, None if stored else predictor, against or {})
            result.content += score_content(sample, recovered, person.amodal_mask, perceptual_metrics, result)
        if on_record is not None:
            on_record(done, len(records))
    return result


def _check_kinds(initial_kinds: Sequence[str], stored: bool) -> None:
    """Raise ValueError for unknown kinds, none, or several for predictions from files (`stored`)."""
    unknown = [kind for kind in initial_kinds if kind not in INITIAL_KINDS]
    if unknown or not initial_kinds:
        raise ValueError(f"initial kinds must be of {', '.join(INITIAL_KINDS)}, got {', '.join(unknown) or 'none'}")
    if stored and len(initial_kinds) != 1:
        raise ValueError(f"predictions from files start from one kind of initial mask, got {', '.join(initial_kinds)}")


def _score_sample(
    result: Evaluation, sample: EvalSample, predictor: Predictor | StoredPredictions, set_seed: int,
    typical_poses: TypicalPoses | None,
) -> PredictedPerson:  # fmt: skip
    """Add mask, part and time scores of one sample, from every kind of initial mask.

    Returns:
        The prediction from the first kind.
    """
    first = None
    for kind in result.initial_kinds:
        prompt = InitialPrompt.of(sample, kind, set_seed)
        started = time.perf_counter()
        person = predict(predictor, sample, prompt)
        if kind in result.seconds_by_initial:
            result.seconds_by_initial[kind].append(time.perf_counter() - started)
        result.masks += score_masks(sample, prompt, result.method, person, typical_poses)
        if kind == "exact":
            result.parts += score_parts(sample, getattr(person, "parsing", None))
        first = person if first is None else first
    return first


def _recoveries(
    method: str, sample: EvalSample, person: PredictedPerson, predictor: Predictor | None,
    against: Mapping[str, Recover],
) -> dict[str, NDArray[np.uint8]]:  # fmt: skip
    """Recovered photos of one sample by method, (H, W, 3) uint8, in the order of the report.

    method: the model's name; person: its prediction; predictor: None for predictions from files.
    """
    recovered = {}
    if predictor is not None:
        recovered[f"{method}{TRUE_MASKS}"] = predictor.recover(sample.photo, sample.visible, sample.amodal)
    recovered[f"{method}{PREDICTED_MASKS}"] = person.content
    return recovered | {f"{name}{TRUE_MASKS}": recover(sample) for name, recover in against.items()}


def _notes_on_files(predictions: StoredPredictions, initial: str) -> list[str]:
    """Notes of the report on predictions from files."""
    notes = [f"the predictions are read from files and taken to start from this initial mask: {initial}"]
    notes += [
        f"no {kind} pictures, so not measured" for kind in ("visible", "content") if kind not in predictions.missing
    ]
    notes += [
        f"{count} {kind} pictures are missing and counted as " + ("the photo" if kind == "content" else "empty masks")
        for kind, count in predictions.missing.items()
        if count
    ]
    return notes


def draw_records(records: Sequence[EvalRecord], limit: int | None) -> list[EvalRecord]:
    """At most `limit` records, in the set's order, selected by a hash (CRC-32) of the id.

    Regular steps would be biased: a set that lists each person's three occluders in turn would give one kind of
    occluder.
    """
    if limit is None:
        return list(records)
    drawn = {record.id for record in sorted(records, key=lambda record: zlib.crc32(record.id.encode()))[:limit]}
    return [record for record in records if record.id in drawn]
