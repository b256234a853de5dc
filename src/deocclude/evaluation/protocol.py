"""Run a predictor over a frozen validation set and score every person: masks at photo resolution, content in a crop."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deocclude.data.evalsets.persons import UNKNOWN_PART, FrozenRecord, FrozenSample, FrozenSet
from deocclude.evaluation.appearance import CROP, INSTALL, PERSON, VIEWS, FeatureBank, Judges, on_grey
from deocclude.evaluation.baselines import (
    TypicalPoses,
    blur_inside,
    convex_hull,
    grabcut_people,
    inpaint_from_body,
    mean_colour,
    require_cv2,
    whole_photo,
)
from deocclude.evaluation.predictions import StoredPredictions
from deocclude.imaging.crop import OUTSIDE_GREY, SquareCrop
from deocclude.imaging.masks import BoxXyxy, box_to_mask, mask_iou, mask_to_box_xyxy
from deocclude.metrics.content import (
    false_completion_share,
    intersection_union,
    invisible_intersection_union,
    label_counts,
    mean_gradient,
    pooled_iou,
    region_l1,
    region_psnr,
    region_ssim,
    seam_step,
    visible_ratio,
)
from deocclude.types import PARSING_NAMES

BoolArray = NDArray[np.bool_]

# Content is measured in the square of this many times the true body's box, at this size.
WORKING_MARGIN = 1.25
WORKING_PX = 256

PROMPTED_KINDS = ("exact", "degraded", "box")
INITIAL_KINDS = (*PROMPTED_KINDS, "photo")  # the last: nothing but the photo
OURS = "deocclude"
STORED = "predictions"  # read from files, whosever they are
TRAINED = "trained"  # a network fresh from training, ours or a baseline
# What stands behind a method's name where the appearance is measured.
TRUE_MASKS = ", true masks"
PREDICTED_MASKS = ", predicted masks"
# The method's own recovery with true masks, blurred inside the hidden region: what only a low frequency would score.
BLURRED = "blurred recovery"

Recover = Callable[[FrozenSample], NDArray[np.uint8]]  # the photo, recovered from the true masks


class PredictedPerson(Protocol):
    """What is read of one person in a prediction: masks (H, W) bool, content (H, W, 3) uint8, as in `Person`.

    A visible mask or content of None is not predicted and not measured, as is a probability of NaN. A person who also
    has `parsing`, (H, W) uint8 labels into PARSING_NAMES, is measured by body parts too.
    """

    @property
    def hidden_probability(self) -> float: ...
    @property
    def visible_mask(self) -> BoolArray | None: ...
    @property
    def amodal_mask(self) -> BoolArray: ...
    @property
    def content(self) -> NDArray[np.uint8] | None: ...


class Prediction(Protocol):
    """What is read of a prediction, as in `Result`: one person for the one mask or box that was given, or everyone
    found where none was."""

    @property
    def people(self) -> Sequence[PredictedPerson]: ...


class Predictor(Protocol):
    """What can be evaluated: a `Deoccluder`, or anything called like one."""

    def __call__(
        self,
        image: NDArray[np.uint8],
        masks: Sequence[BoolArray] | None = None,
        boxes_xyxy: Sequence[BoxXyxy] | None = None,
    ) -> Prediction: ...

    def recover(self, image: NDArray[np.uint8], visible_mask: BoolArray, amodal_mask: BoolArray) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: the photo with what is amodal and not visible recovered."""
        ...


@dataclass(frozen=True)
class MaskScore:
    """One method's amodal mask of one person, from one kind of initial mask.

    full, invisible, visible: (intersection, union) in pixels. extra_share: pixels predicted outside the true body, as a
    share of the true body. claimed_hidden: pixels that the method itself calls hidden, as a share of the true body.
    hidden_probability: that more than 5 % is hidden, as the model says; NaN for baselines. Without a predicted visible
    mask, visible is (0, 0) and claimed_hidden NaN.
    """

    record_id: str
    person_id: str
    occluder_kind: str
    visible_ratio: float
    initial: str
    method: str
    full: tuple[int, int]
    invisible: tuple[int, int]
    visible: tuple[int, int]
    extra_share: float
    claimed_hidden: float
    hidden_probability: float = math.nan

    @property
    def full_iou(self) -> float:
        return pooled_iou([self.full])

    @property
    def invisible_iou(self) -> float:
        """NaN where nothing is hidden and nothing is predicted to be."""
        return pooled_iou([self.invisible])

    @property
    def visible_iou(self) -> float:
        return pooled_iou([self.visible])


@dataclass(frozen=True)
class ContentScore:
    """One method's recovered appearance of one person, inside the true hidden region of the working crop.

    gradient, true_gradient: mean gradient magnitude of the prediction and of the truth; NaN in a region too thin.
    seam, true_seam: mean step across the region's border, see `metrics.seam_step`; NaN where nothing visible borders.
    feature_distance: see `mobilenet.feature_distance`, of the person alone; lpips, lpips_person: distance to the truth
    in the working crop and of the person alone; NaN without the network.
    """

    record_id: str
    person_id: str
    occluder_kind: str
    visible_ratio: float
    method: str
    l1: float
    psnr_db: float
    ssim: float
    gradient: float
    true_gradient: float
    seam: float
    true_seam: float
    feature_distance: float = math.nan
    lpips: float = math.nan
    lpips_person: float = math.nan

    @property
    def gradient_ratio(self) -> float:
        return self.gradient / self.true_gradient if self.true_gradient > 0 else math.nan

    @property
    def seam_ratio(self) -> float:
        return self.seam / self.true_seam if self.true_seam > 0 else math.nan


@dataclass(frozen=True)
class PartScore:
    """Body parts of one person inside the true hidden region, from the exact mask.

    counts: for each part that is predicted or true there, (intersection, union, true) in pixels of known truth.
    """

    record_id: str
    person_id: str
    counts: dict[str, tuple[int, int, int]]


@dataclass
class Evaluation:
    """Every score of a run.

    method: what the scores call whom they measure, beside the baselines. seconds_by_initial: seconds of each call of
    the predictor, by kind of initial mask; none for predictions from files. judge_files: see `Judges.files`. features:
    Inception's of both views; mobilenet: MobileNetV2's of the person alone. parts: of exact masks alone.
    """

    set_name: str
    set_source: str
    initial_kinds: tuple[str, ...]
    records: int
    people: int
    method: str = OURS
    masks: list[MaskScore] = field(default_factory=list)
    content: list[ContentScore] = field(default_factory=list)
    parts: list[PartScore] = field(default_factory=list)
    features: FeatureBank = field(default_factory=FeatureBank)
    mobilenet: FeatureBank = field(default_factory=FeatureBank)
    judge_files: dict[str, dict[str, str] | None] = field(default_factory=dict)
    seconds_by_initial: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def evaluate(
    frozen: FrozenSet,
    predictor: Predictor | StoredPredictions,
    *,
    initial_kinds: Sequence[str] = PROMPTED_KINDS,
    typical_poses: TypicalPoses | None = None,
    content: bool = True,
    judges: Judges | None = None,
    against: Mapping[str, Recover] | None = None,
    limit: int | None = None,
    method: str = OURS,
    on_person: Callable[[FrozenSample, PredictedPerson], None] | None = None,
    on_record: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score `predictor` and the baselines on a frozen set.

    Args:
        predictor: a model, or predictions from files, which were made from the one kind in `initial_kinds`.
        initial_kinds: any of INITIAL_KINDS. Predicted masks for content come from the first one.
        typical_poses: centres for that baseline; None leaves it out.
        content: also score the recovered appearance, of the people whose truth the set has.
        judges: networks that score it too, beyond pixels; None for none.
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
    judges = judges or Judges()
    records = draw_records(frozen.records, limit)
    untold = sum(record.files.truth is None for record in records) if content else 0
    content = content and untold < len(records)
    if content or {"degraded", "photo"} & set(initial_kinds):
        require_cv2()  # before the first record, not after some minutes
    result = Evaluation(
        set_name=frozen.name,
        set_source=frozen.source,
        initial_kinds=tuple(initial_kinds),
        records=len(records),
        people=len({record.person_id for record in records}),
        method=STORED if stored else method,
        judge_files=judges.files(),
        seconds_by_initial={} if stored else {kind: [] for kind in initial_kinds},
    )
    if stored:
        result.notes += _notes_on_files(predictor, initial_kinds[0])
    if untold:
        result.notes.append(
            f"no unoccluded truth of {untold} of {len(records)} pictures: their appearance is not measured"
        )
    if content and judges.mobilenet is None:
        result.notes.append(f"KID and the feature distance are left out without the MobileNetV2 weights: {INSTALL}")
    if typical_poses is None:
        result.notes.append("the nearest typical pose is left out: there is no typical_poses.npz beside the weights")
    for done, record in enumerate(records, start=1):
        sample = frozen.load(record)
        for number, kind in enumerate(initial_kinds):
            prompt = InitialPrompt.of(sample, kind, frozen.seed)
            started = time.perf_counter()
            person = predict(predictor, sample, prompt)
            if not stored:
                result.seconds_by_initial[kind].append(time.perf_counter() - started)
            result.masks += _score_masks(sample, prompt, result.method, person, typical_poses)
            if kind == "exact":
                result.parts += _score_parts(sample, getattr(person, "parsing", None))
            if number > 0:
                continue
            if on_person is not None:
                on_person(sample, person)
            if content and sample.truth is not None and person.content is not None and _is_hidden(sample):
                recovered = {f"{result.method}{PREDICTED_MASKS}": person.content}
                if not stored:
                    by_true_masks = predictor.recover(sample.photo, sample.visible, sample.amodal)
                    recovered = {f"{result.method}{TRUE_MASKS}": by_true_masks} | recovered
                for name, recover in (against or {}).items():
                    recovered[f"{name}{TRUE_MASKS}"] = recover(sample)
                result.content += _score_content(sample, recovered, person.amodal_mask, judges, result)
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


def draw_records(records: Sequence[FrozenRecord], limit: int | None) -> list[FrozenRecord]:
    """At most `limit` records, in the set's order. Which ones hangs on their ids alone, as if drawn by lot.

    Even steps would not do: a set that lists each person's three occluders in turn would give one kind of occluder.
    """
    if limit is None:
        return list(records)
    drawn = {record.id for record in sorted(records, key=lambda record: zlib.crc32(record.id.encode()))[:limit]}
    return [record for record in records if record.id in drawn]


# --- the three initial masks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InitialPrompt:
    """What the predictor is told of a person. mask: (H, W) bool; box_xyxy: set when it is told the box alone.

    Of kind photo it is told nothing, and `mask` is what a person found is recognised by: the true visible mask.
    """

    kind: str
    mask: BoolArray
    box_xyxy: BoxXyxy | None

    @classmethod
    def of(cls, sample: FrozenSample, kind: str, set_seed: int) -> InitialPrompt:
        """exact: the true visible mask. degraded: spoilt with a seed of the set and the record, the same in every run.

        box: the visible mask's box, right and bottom exclusive, as a filled rectangle in `mask`.
        """
        visible = sample.visible
        if kind == "box" and visible.any():
            box_xyxy = mask_to_box_xyxy(visible)
            return cls(kind, box_to_mask(box_xyxy, visible.shape), box_xyxy)
        if kind == "degraded":
            from deocclude.data.synthesis.mask_corruption import degrade_mask  # needs OpenCV

            rng = np.random.default_rng([set_seed, zlib.crc32(sample.id.encode())])
            return cls(kind, degrade_mask(visible, rng, None), None)
        return cls(kind, visible, None)


def predict(predictor: Predictor | StoredPredictions, sample: FrozenSample, prompt: InitialPrompt) -> PredictedPerson:
    """The predictor's answer for one person. A prompt that shows nothing is answered with nothing.

    Without a prompt, the person found whose visible mask is most like the true one; nobody where none shares a pixel.
    Predictions from files are what they are, whatever the prompt.
    """
    if isinstance(predictor, StoredPredictions):
        return predictor.person(sample)
    if not prompt.mask.any():
        return _Nobody(prompt.mask, prompt.mask, sample.photo)
    if prompt.kind == "photo":
        likeness = [(mask_iou(one.visible_mask, prompt.mask), one) for one in predictor(sample.photo).people]
        best, person = max(likeness, key=lambda pair: pair[0], default=(0.0, None))
        nothing = np.zeros_like(prompt.mask)
        return person if best > 0 else _Nobody(nothing, nothing, sample.photo)
    if prompt.box_xyxy is not None:
        return predictor(sample.photo, boxes_xyxy=[prompt.box_xyxy]).people[0]
    return predictor(sample.photo, masks=[prompt.mask]).people[0]


@dataclass(frozen=True)
class _Nobody:
    visible_mask: BoolArray
    amodal_mask: BoolArray
    content: NDArray[np.uint8]
    hidden_probability: float = 0.0


# --- scores --------------------------------------------------------------------------------------------------------


def _is_hidden(sample: FrozenSample) -> bool:
    return bool((sample.amodal & ~sample.visible).any())


def _score_masks(
    sample: FrozenSample, prompt: InitialPrompt, measured: str, person: PredictedPerson, poses: TypicalPoses | None
) -> list[MaskScore]:
    answers = {measured: (person.visible_mask, person.amodal_mask)}
    seen = prompt.mask  # the baselines take the initial mask for what is visible
    if prompt.kind == "photo":
        everything = whole_photo(sample.photo)
        largest = next(iter(grabcut_people(sample.photo)), ~everything)
        answers |= {"box of the whole photo": (everything, everything), "GrabCut foreground": (largest, largest)}
    else:
        answers |= {"initial mask": (seen, seen), "convex hull": (seen, convex_hull(seen))}
        if poses is not None:
            answers["nearest typical pose"] = (seen, poses.complete(seen))
    area = np.count_nonzero(sample.amodal)
    return [
        MaskScore(
            record_id=sample.id,
            person_id=sample.person_id,
            occluder_kind=sample.occluder_kind,
            visible_ratio=visible_ratio(sample.visible, sample.amodal),
            initial=prompt.kind,
            method=method,
            full=intersection_union(amodal, sample.amodal),
            # Whatever the initial mask was, what is hidden is what the true visible mask leaves over.
            invisible=invisible_intersection_union(amodal, sample.amodal, sample.visible),
            visible=(0, 0) if visible is None else intersection_union(visible, sample.visible),
            extra_share=false_completion_share(amodal, sample.amodal),
            claimed_hidden=math.nan if visible is None else np.count_nonzero(amodal & ~visible) / area,
            hidden_probability=person.hidden_probability if method == measured else math.nan,
        )
        for method, (visible, amodal) in answers.items()
    ]


def _score_parts(sample: FrozenSample, parsing: NDArray[np.uint8] | None) -> list[PartScore]:
    """The score of one person's predicted parts, (H, W) labels; none where there are no parts or no truth of them."""
    if parsing is None or sample.parsing is None:
        return []
    region = sample.amodal & ~sample.visible & (sample.parsing != UNKNOWN_PART)
    if not region.any():
        return []
    counts = label_counts(parsing, sample.parsing, region, len(PARSING_NAMES)).tolist()
    named = {name: tuple(row) for name, row in zip(PARSING_NAMES, counts, strict=True) if row[1]}
    return [PartScore(sample.id, sample.person_id, named)]


def _score_content(
    sample: FrozenSample,
    recovered: dict[str, NDArray[np.uint8]],
    predicted_amodal: BoolArray,
    judges: Judges,
    result: Evaluation,
) -> list[ContentScore]:
    """Score photos with the hidden part recovered, by method, and the baselines. Adds features to `result`."""
    crop = SquareCrop.from_box_xyxy(mask_to_box_xyxy(sample.amodal), WORKING_MARGIN, WORKING_PX)
    visible = crop.extract(sample.visible)
    # Only pixels that are hidden all over: at the region's edge resampling mixes in what lies beside it.
    hidden = crop.extract((sample.amodal & ~sample.visible).astype(np.float32)) > 0.99
    true_body = crop.extract(sample.amodal.astype(np.float32)) > 0.99
    if not hidden.any():
        return []  # a sliver that the working resolution does not show
    truth, photo = crop.extract(sample.truth), crop.extract(sample.photo)
    answers = {method: crop.extract(picture) for method, picture in recovered.items()}
    if (ours := answers.get(f"{result.method}{TRUE_MASKS}")) is not None:
        answers[BLURRED] = blur_inside(ours, hidden, true_body)
    answers |= {
        "inpainting from the body": inpaint_from_body(photo, visible),
        "mean colour of the body": mean_colour(photo, visible),
    }
    true_views = {CROP: truth, PERSON: _person_alone(crop, sample.truth, sample.amodal)}
    if judges.inception is not None:
        result.features.add_truth(sample.person_id, {view: judges.inception(true_views[view]) for view in VIEWS})
    if judges.mobilenet is not None:
        from deocclude.evaluation.mobilenet import feature_distance, region_shares  # needs torch

        true_features, shares = judges.mobilenet(true_views[PERSON]), region_shares(hidden)
        result.mobilenet.add_truth(sample.person_id, {PERSON: true_features.pooled})
    scores = []
    true_gradient, true_seam = mean_gradient(truth, hidden), seam_step(truth, hidden, true_body)
    for method, answer in answers.items():
        # The same surroundings in both pictures: SSIM windows at the region's edge must not see the occluder.
        composed = np.where(hidden[..., None], answer, truth)
        if method in recovered:
            # Whoever predicts the body too is judged by that body, with what is painted outside the true one.
            body = predicted_amodal if method.endswith(PREDICTED_MASKS) else sample.amodal
            alone = _person_alone(crop, recovered[method], body)
        else:
            alone = np.where(hidden[..., None], answer, true_views[PERSON])
        views = {CROP: composed, PERSON: alone}
        if judges.inception is not None:
            result.features.add(method, {view: judges.inception(views[view]) for view in VIEWS})
        distance = math.nan
        if judges.mobilenet is not None:
            features = judges.mobilenet(alone)
            result.mobilenet.add(method, {PERSON: features.pooled})
            distance = feature_distance(features.maps, true_features.maps, shares)
        distances = judges.distances(views, true_views)
        scores.append(
            ContentScore(
                record_id=sample.id,
                person_id=sample.person_id,
                occluder_kind=sample.occluder_kind,
                visible_ratio=visible_ratio(sample.visible, sample.amodal),
                method=method,
                l1=region_l1(composed, truth, hidden),
                psnr_db=region_psnr(composed, truth, hidden),
                ssim=region_ssim(composed, truth, hidden),
                gradient=mean_gradient(composed, hidden),
                true_gradient=true_gradient,
                seam=seam_step(composed, hidden, true_body),
                true_seam=true_seam,
                feature_distance=distance,
                lpips=distances[CROP],
                lpips_person=distances[PERSON],
            )
        )
    return scores


def _person_alone(crop: SquareCrop, photo: NDArray[np.uint8], person: BoolArray) -> NDArray[np.uint8]:
    """The working crop with grey around the person, cut out at photo resolution: an occluder beside leaves no rim."""
    return crop.extract(on_grey(photo, person), OUTSIDE_GREY)
