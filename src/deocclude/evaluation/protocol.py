"""Run a predictor over an evaluation set and score every person: masks at photo resolution, content in a crop."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence

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
        predictor: a model, or predictions from files, which were made from the one kind in `initial_kinds`.
        initial_kinds: any of INITIAL_KINDS. Predicted masks for content come from the first one.
        typical_poses: centres for that baseline; None leaves it out.
        content: also score the recovered appearance, of the people whose truth the set has.
        perceptual_metrics: networks that score it too, beyond pixels; None for none.
        against: further recoveries by name, sample to (H, W, 3) uint8, scored as recovered from true masks too.
        limit: at most this many records, see `draw_records`.
        method: what the scores call a model; predictions from files are called STORED.
        on_person: called with every record and the answer to the first kind of initial mask.
        on_record: called with (done, all) after every record.

    Raises:
        InputError: a picture of the set cannot be read.
        MissingExtraError: OpenCV is needed (degraded masks, inpainting) and not installed.
        WeightsError: a judge does not run.
        ValueError: an unknown kind of initial mask, or several for predictions from files.
    """
    unknown = [kind for kind in initial_kinds if kind not in INITIAL_KINDS]
    if unknown or not initial_kinds:
        raise ValueError(f"initial kinds must be of {', '.join(INITIAL_KINDS)}, got {', '.join(unknown) or 'none'}")
    stored = isinstance(predictor, StoredPredictions)
    if stored and len(initial_kinds) != 1:
        raise ValueError(f"predictions from files start from one kind of initial mask, got {', '.join(initial_kinds)}")
    perceptual_metrics = perceptual_metrics or PerceptualMetrics()
    records = draw_records(eval_set.records, limit)
    untold = sum(record.files.truth is None for record in records) if content else 0
    content = content and untold < len(records)
    if content or {"degraded", "photo"} & set(initial_kinds):
        require_cv2()  # before the first record, not after some minutes
    result = Evaluation(
        set_name=eval_set.name,
        set_source=eval_set.source,
        initial_kinds=tuple(initial_kinds),
        records=len(records),
        people=len({record.person_id for record in records}),
        method=STORED if stored else method,
        judge_files=perceptual_metrics.files(),
        seconds_by_initial={} if stored else {kind: [] for kind in initial_kinds},
    )
    if stored:
        result.notes += _notes_on_files(predictor, initial_kinds[0])
    if untold:
        result.notes.append(
            f"no unoccluded truth of {untold} of {len(records)} pictures: their appearance is not measured"
        )
    if content and perceptual_metrics.mobilenet is None:
        result.notes.append(f"KID and the feature distance are left out without the MobileNetV2 weights: {INSTALL}")
    if typical_poses is None:
        result.notes.append("the nearest typical pose is left out: there is no typical_poses.npz beside the weights")
    for done, record in enumerate(records, start=1):
        sample = eval_set.load(record)
        for number, kind in enumerate(initial_kinds):
            prompt = InitialPrompt.of(sample, kind, eval_set.seed)
            started = time.perf_counter()
            person = predict(predictor, sample, prompt)
            if not stored:
                result.seconds_by_initial[kind].append(time.perf_counter() - started)
            result.masks += score_masks(sample, prompt, result.method, person, typical_poses)
            if kind == "exact":
                result.parts += score_parts(sample, getattr(person, "parsing", None))
            if number > 0:
                continue
            if on_person is not None:
                on_person(sample, person)
            if content and sample.truth is not None and person.content is not None and is_hidden(sample):
                recovered = {f"{result.method}{PREDICTED_MASKS}": person.content}
                if not stored:
                    by_true_masks = predictor.recover(sample.photo, sample.visible, sample.amodal)
                    recovered = {f"{result.method}{TRUE_MASKS}": by_true_masks} | recovered
                for name, recover in (against or {}).items():
                    recovered[f"{name}{TRUE_MASKS}"] = recover(sample)
                result.content += score_content(sample, recovered, person.amodal_mask, perceptual_metrics, result)
        if on_record is not None:
            on_record(done, len(records))
    return result


def _notes_on_files(predictions: StoredPredictions, initial: str) -> list[str]:
    """What a reader must know of predictions from files."""
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
    """At most `limit` records, in the set's order. Which ones hangs on their ids alone, as if drawn by lot.

    Even steps would not do: a set that lists each person's three occluders in turn would give one kind of occluder.
    """
    if limit is None:
        return list(records)
    drawn = {record.id for record in sorted(records, key=lambda record: zlib.crc32(record.id.encode()))[:limit]}
    return [record for record in records if record.id in drawn]


# --- the three initial masks ---------------------------------------------------------------------------------------


# --- scores --------------------------------------------------------------------------------------------------------
