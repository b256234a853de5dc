"""Scores of one person: masks, body parts, recovered content."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deocclude.data.evalsets.persons import UNKNOWN_PART, EvalSample
from deocclude.evaluation.appearance import CROP, PERSON, VIEWS, FeatureBank, PerceptualMetrics, on_grey
from deocclude.evaluation.baselines import (
    TypicalPoses,
    blur_inside,
    convex_hull,
    grabcut_people,
    inpaint_from_body,
    mean_colour,
    whole_photo,
)
from deocclude.evaluation.predictors import BoolArray, PredictedPerson
from deocclude.evaluation.prompts import InitialPrompt
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.crop import OUTSIDE_GREY, SquareCrop
from deocclude.metrics.content import mean_gradient, region_l1, region_psnr, region_ssim, seam_step
from deocclude.metrics.masks import (
    false_positive_ratio,
    intersection_union,
    invisible_intersection_union,
    label_counts,
    pooled_iou,
    visible_ratio,
)
from deocclude.types import PARSING_NAMES

# content is measured in the working crop: a square around the true amodal box, of this many times its longer side
WORKING_MARGIN = 1.25
WORKING_PX = 256  # side of the working crop in crop pixels
# names of the measured method in scores
OURS = "deocclude"
STORED = "predictions"  # predictions from files
TRAINED = "trained"  # trained weights of a stage or a baseline
# suffixes of a method's name in content scores
TRUE_MASKS = ", true masks"
PREDICTED_MASKS = ", predicted masks"
# the method's own recovery from true masks, blurred inside the occluded region: the score of low frequencies alone
BLURRED = "blurred recovery"
Recover = Callable[[EvalSample], NDArray[np.uint8]]  # photo recovered from true masks, (H, W, 3)


@dataclass(frozen=True)
class MaskScore:
    """Scores of one method's masks of one person, from one kind of initial mask.

    Attributes:
        visible_ratio: true visible area divided by true amodal area, in [0, 1].
        initial: kind of initial mask, see `prompts.INITIAL_KINDS`.
        full: intersection and union of the amodal masks, in pixels.
        invisible: the same of the occluded region.
        visible: the same of the visible masks; (0, 0) without a predicted visible mask.
        extra_share: over-segmentation ratio, see `metrics.masks.false_positive_ratio`.
        claimed_hidden: pixels that the method calls occluded, divided by the true amodal area; NaN without a predicted
            visible mask.
        hidden_probability: the model's probability that more than HIDDEN_SHARE is occluded; NaN for baselines.
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
        """Amodal IoU, in [0, 1]."""
        return pooled_iou([self.full])

    @property
    def invisible_iou(self) -> float:
        """IoU of the occluded region; NaN if it is empty in truth and prediction."""
        return pooled_iou([self.invisible])

    @property
    def visible_iou(self) -> float:
        """IoU of the visible mask; NaN without a predicted one."""
        return pooled_iou([self.visible])


@dataclass(frozen=True)
class ContentScore:
    """Scores of one method's recovered appearance of one person, inside the true occluded region of the working crop.

    Attributes:
        visible_ratio: as in `MaskScore`.
        method: with the suffix TRUE_MASKS or PREDICTED_MASKS; without one for baselines and BLURRED.
        l1: on the 0-255 scale.
        psnr_db: peak 255.
        ssim: in [-1, 1].
        gradient: mean gradient magnitude of the prediction; NaN in a region that is too thin.
        true_gradient: the same of the truth.
        seam: mean step across the region's border, see `metrics.content.seam_step`; NaN without a visible neighbour.
        true_seam: the same of the truth.
        feature_distance: see `mobilenet.feature_distance`, of the person alone; NaN without the network.
        lpips: distance to the truth in the working crop; NaN without the network.
        lpips_person: the same of the person alone.
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
        """`gradient` divided by `true_gradient`; NaN for a constant truth."""
        return self.gradient / self.true_gradient if self.true_gradient > 0 else math.nan

    @property
    def seam_ratio(self) -> float:
        """`seam` divided by `true_seam`; NaN for a truth without a step."""
        return self.seam / self.true_seam if self.true_seam > 0 else math.nan


@dataclass(frozen=True)
class PartScore:
    """Body parts of one person inside the true occluded region, from the exact mask.

    Attributes:
        counts: for each predicted or true part, (intersection, union, true) in pixels of known truth.
    """

    record_id: str
    person_id: str
    counts: dict[str, tuple[int, int, int]]


@dataclass
class Evaluation:
    """Every score of a run.

    Attributes:
        method: name of the measured model in the scores.
        parts: from exact masks.
        features: Inception features of both views.
        mobilenet: MobileNetV2 features of the person alone.
        metric_files: see `PerceptualMetrics.files`.
        seconds_by_initial: of each prediction by kind of initial mask; empty for predictions from files.
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
    metric_files: dict[str, dict[str, str] | None] = field(default_factory=dict)
    seconds_by_initial: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def is_hidden(sample: EvalSample) -> bool:
    """Whether any pixel of the person is occluded."""
    return bool((sample.amodal & ~sample.visible).any())


def score_masks(
    sample: EvalSample, prompt: InitialPrompt, measured: str, person: PredictedPerson, poses: TypicalPoses | None
) -> list[MaskScore]:
    """Mask scores of the measured method and of the baselines for one person.

    Args:
        sample: the person.
        prompt: the initial mask.
        measured: name of the measured method.
        person: its prediction.
        poses: centres of the typical-pose baseline; None leaves it out.
    """
    answers = {measured: (person.visible_mask, person.amodal_mask)}
    initial = prompt.mask  # the visible mask of the baselines
    if prompt.kind == "photo":
        everything = whole_photo(sample.photo)
        largest = next(iter(grabcut_people(sample.photo)), ~everything)
        answers |= {"box of the whole photo": (everything, everything), "GrabCut foreground": (largest, largest)}
    else:
        answers |= {"initial mask": (initial, initial), "convex hull": (initial, convex_hull(initial))}
        if poses is not None:
            answers["nearest typical pose"] = (initial, poses.complete(initial))
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
            # the occluded region depends on the true visible mask, not on the initial mask
            invisible=invisible_intersection_union(amodal, sample.amodal, sample.visible),
            visible=(0, 0) if visible is None else intersection_union(visible, sample.visible),
            extra_share=false_positive_ratio(amodal, sample.amodal),
            claimed_hidden=math.nan if visible is None else np.count_nonzero(amodal & ~visible) / area,
            hidden_probability=person.hidden_probability if method == measured else math.nan,
        )
        for method, (visible, amodal) in answers.items()
    ]


def score_parts(sample: EvalSample, parsing: NDArray[np.uint8] | None) -> list[PartScore]:
    """Score of one person's predicted parts, (H, W) labels; empty without predicted or true parts."""
    if parsing is None or sample.parsing is None:
        return []
    region = sample.amodal & ~sample.visible & (sample.parsing != UNKNOWN_PART)
    if not region.any():
        return []
    counts = label_counts(parsing, sample.parsing, region, len(PARSING_NAMES)).tolist()
    named = {name: tuple(row) for name, row in zip(PARSING_NAMES, counts, strict=True) if row[1]}
    return [PartScore(sample.id, sample.person_id, named)]


def score_content(
    sample: EvalSample,
    recovered: dict[str, NDArray[np.uint8]],
    predicted_amodal: BoolArray,
    perceptual_metrics: PerceptualMetrics,
    result: Evaluation,
) -> list[ContentScore]:
    """Score recovered photos and the baselines of one person; empty if the occluded part is too thin.

    Args:
        sample: the person, with unoccluded truth.
        recovered: photos with the occluded part recovered, (H, W, 3) uint8, by method.
        predicted_amodal: (H, W) bool, of the recoveries from predicted masks.
        perceptual_metrics: networks of the perceptual metrics.
        result: gets the features of FID and KID.
    """
    crop = SquareCrop.from_box_xyxy(mask_to_box_xyxy(sample.amodal), WORKING_MARGIN, WORKING_PX)
    visible = crop.extract(sample.visible)
    # fully occluded pixels only: resampling mixes colours at the region's border
    hidden = crop.extract((sample.amodal & ~sample.visible).astype(np.float32)) > 0.99
    true_body = crop.extract(sample.amodal.astype(np.float32)) > 0.99
    if not hidden.any():  # too thin for the working resolution
        return []
    truth, photo = crop.extract(sample.truth), crop.extract(sample.photo)
    answers = {method: crop.extract(picture) for method, picture in recovered.items()}
    if (own := answers.get(f"{result.method}{TRUE_MASKS}")) is not None:
        answers[BLURRED] = blur_inside(own, hidden, true_body)
    answers |= {
        "inpainting from the body": inpaint_from_body(photo, visible),
        "mean colour of the body": mean_colour(photo, visible),
    }
    true_views = {CROP: truth, PERSON: _person_alone(crop, sample.truth, sample.amodal)}
    if perceptual_metrics.inception is not None:
        result.features.add_truth(
            sample.person_id, {view: perceptual_metrics.inception(true_views[view]) for view in VIEWS}
        )
    if perceptual_metrics.mobilenet is not None:
        from deocclude.evaluation.mobilenet import feature_distance, region_shares  # needs torch

        true_features, shares = perceptual_metrics.mobilenet(true_views[PERSON]), region_shares(hidden)
        result.mobilenet.add_truth(sample.person_id, {PERSON: true_features.pooled})
    scores = []
    true_gradient, true_seam = mean_gradient(truth, hidden), seam_step(truth, hidden, true_body)
    for method, answer in answers.items():
        # the same surroundings in both images: SSIM windows at the region's border must not include the occluder
        composed = np.where(hidden[..., None], answer, truth)
        alone = np.where(hidden[..., None], answer, true_views[PERSON])
        if method in recovered:
            # with predicted masks, the predicted body counts, including pixels outside the true one
            body = predicted_amodal if method.endswith(PREDICTED_MASKS) else sample.amodal
            alone = _person_alone(crop, recovered[method], body)
        views = {CROP: composed, PERSON: alone}
        if perceptual_metrics.inception is not None:
            result.features.add(method, {view: perceptual_metrics.inception(views[view]) for view in VIEWS})
        distance = math.nan
        if perceptual_metrics.mobilenet is not None:
            features = perceptual_metrics.mobilenet(alone)
            result.mobilenet.add(method, {PERSON: features.pooled})
            distance = feature_distance(features.maps, true_features.maps, shares)
        distances = perceptual_metrics.distances(views, true_views)
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
    """The working crop with grey around the person, cut out at photo resolution to avoid a rim of the occluder."""
    return crop.extract(on_grey(photo, person), OUTSIDE_GREY)
