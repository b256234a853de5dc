"""Calibration of the occlusion probability on known people; the result is stored in the manifest.

People of evaluation sets are occluded synthetically, which says exactly what is hidden. Whether something is really in
front shows in real photos alone: COCO's annotated joints say where people are covered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deocclude.data.evalsets.persons import EvalRecord, EvalSample, EvalSet
from deocclude.data.sources.readers import ordered
from deocclude.data.sources.real_photos import REAL_SETS, JointedPerson, read_jointed_people
from deocclude.errors import UsageError
from deocclude.evaluation.calibration_fit import fit_bodies, fit_regions
from deocclude.evaluation.prompts import InitialPrompt
from deocclude.imaging.arrays import Float, ImageU8, Mask
from deocclude.imaging.boxes import box_to_mask
from deocclude.imaging.masks import dilate
from deocclude.inference.body import Body
from deocclude.inference.hidden_regions import HiddenRegions, RegionCalibration, find_regions
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.occlusion_probability import HIDDEN_SHARE, OcclusionCalibration
from deocclude.inference.runtime import BUNDLED_WEIGHTS, MANIFEST_NAME, find_model, open_networks
from deocclude.io.files import save_text
from deocclude.metrics.masks import visible_ratio

_KINDS = ("exact", "box")  # of prompts
_MIN_SHARE = 0.002  # of the body's area: smaller regions are not fitted
# weight of a region of a real photo, 1 for synthetic occluders: real ones are fewer, and users have real photos
_REAL_WEIGHT = 4.0
_JOINT_MARGIN = 0.02  # how far a joint may lie outside its region, divided by the square root of the body's area
_MIN_HEIGHT_PX = 128.0  # of a person with joints
_MIN_SEEN_JOINTS = 12  # a person without covered joints counts as unoccluded with at least so many seen ones


class _Completed(NamedTuple):
    """What the calibration needs of one prompt's completion, with N hidden regions.

    features: (N, 6 + C), as `HiddenRegions.features`.
    is_body: (N,) 1 for a region that is truly body, 0 for another, NaN where that is unknown.
    region_px: (N,) area of the regions in pixels.
    visible_px: area of the visible mask in pixels.
    probable_hidden: as `Body.probable_hidden`.
    hidden: whether more than HIDDEN_SHARE of the person is hidden; None where that is unknown, in real photos.
    """

    features: Float
    is_body: Float
    region_px: Float
    visible_px: int
    probable_hidden: float
    hidden: bool | None


def calibrate(
    sets: Sequence[EvalSet],
    *,
    joints_root: Path | None = None,
    model: str = "base",
    weights_dir: Path | None = None,
    device: str = "auto",
    on_record: Callable[[int], None] | None = None,
) -> OcclusionCalibration:
    """Fit a model's occlusion probabilities on evaluation sets, over exact and box prompts, and on covered joints.

    The probability that a hidden region is body is fitted first. The probability that a person is occluded follows,
    without unlikely regions. The manifest's row of stage 1 gets both: region_calibration and feature_calibration, and
    hidden_calibration, with the names of the sets. A new export of stage 1 removes them; a new box segmenter needs a
    new calibration.

    Args:
        sets: other sets than those of reported figures.
        joints_root: the data folder; the training people of its coco_people with annotated joints count too. None: no
            such people.
        model: name in the manifest.
        weights_dir: folder of the manifest; None for the bundled one.
        device: auto, cpu or cuda.
        on_record: called with the number of finished people after each.

    Returns:
        The calibration, not rounded as in the manifest.

    Raises:
        UsageError: an unknown model, sets with only occluded or only unoccluded people, or people for whom stage 1
            predicts no hidden region.
        InputError: data that cannot be read.
    """
    info = find_model(model, weights_dir)
    networks, _ = open_networks(info, device, threads=1)
    rows = list(_complete_all(sets, joints_root, MaskCompletion.of(networks, info), on_record))
    if not rows:
        raise UsageError("calibration needs people with a visible part, got none")
    of_regions = fit_regions(*_known_regions(rows))
    known = [row for row in rows if row.hidden is not None]
    of_bodies = fit_bodies(
        np.array(
            [
                _hidden_fraction_of_likely_regions(row, of_regions, info.settings.occlusion.min_region_probability)
                for row in known
            ]
        ),
        np.array([row.probable_hidden for row in known]),
        np.array([row.hidden for row in known]),
    )
    path = (weights_dir or BUNDLED_WEIGHTS) / MANIFEST_NAME
    manifest = json.loads(path.read_text(encoding="utf-8"))
    row = manifest["models"][model]["networks"]["mask_completion"]
    row |= {
        "hidden_calibration": [round(w, 4) for w in of_bodies],
        "region_calibration": [round(w, 4) for w in of_regions[:-1]],
        "feature_calibration": [round(w, 4) for w in of_regions.image_features],
        "calibrated_on": [eval_set.name for eval_set in sets] + (["joints of coco"] if joints_root else []),
    }
    save_text(json.dumps(manifest, indent=2) + "\n", path)
    return OcclusionCalibration(of_bodies, of_regions)


def _known_regions(rows: Sequence[_Completed]) -> tuple[Float, Mask, Float]:
    """The K regions that are large enough and known: (K, 6 + C) features, (K,) whether body, (K,) weight of each."""
    features, is_body = (np.concatenate(parts) for parts in zip(*((r.features, r.is_body) for r in rows), strict=True))
    weight = np.concatenate([np.full(len(row.is_body), _REAL_WEIGHT if row.hidden is None else 1.0) for row in rows])
    share = np.concatenate([row.region_px / (row.visible_px + row.region_px.sum()) for row in rows])
    fitted = np.isfinite(is_body) & (share >= _MIN_SHARE)
    return features[fitted], is_body[fitted] > 0, weight[fitted]


def _hidden_fraction_of_likely_regions(
    row: _Completed, calibration: RegionCalibration, min_probability: float
) -> float:
    """The hidden fraction of a body, 0 to 1, without regions below `min_probability`."""
    likely_px = float(row.region_px[calibration.probability(row.features) >= min_probability].sum())
    return likely_px / (row.visible_px + likely_px) if likely_px else 0.0


def _complete_all(
    sets: Sequence[EvalSet], joints_root: Path | None, complete: MaskCompletion, on_record: Callable[[int], None] | None
) -> Iterator[_Completed]:
    """Complete every prompt of the sets and of the people with joints, on two threads."""

    def complete_record(eval_set: EvalSet, record: EvalRecord) -> list[_Completed]:
        return _complete_sample(eval_set.load(record), eval_set.seed, complete)

    def jobs() -> Iterator[Callable[[], list[_Completed]]]:
        """One function for each record, and for each person with joints."""
        yield from (partial(complete_record, eval_set, record) for eval_set in sets for record in eval_set)
        if joints_root is not None:
            people = read_jointed_people(joints_root / REAL_SETS["coco"][0], "train", min_height_px=_MIN_HEIGHT_PX)
            yield from (partial(_complete_jointed, person, complete) for person in people)

    for done, found in enumerate(ordered(lambda job: job(), jobs(), threads=2), start=1):
        if on_record is not None:
            on_record(done)
        yield from found


def _complete_sample(sample: EvalSample, seed: int, complete: MaskCompletion) -> list[_Completed]:
    """Complete one synthetically occluded person, from each kind of prompt."""
    hidden = 1 - visible_ratio(sample.visible, sample.amodal) > HIDDEN_SHARE
    prompts = (InitialPrompt.of(sample, kind, seed).mask for kind in _KINDS)
    return [
        _complete_prompt(complete, sample.photo, prompt, partial(_match_true_body, sample=sample), bool(hidden))
        for prompt in prompts
        if prompt.any()
    ]


def _complete_jointed(person: JointedPerson, complete: MaskCompletion) -> list[_Completed]:
    """Complete one person of a real photo, from the box and the outline; empty where joints do not tell enough.

    They tell enough of a person with a covered joint, and of one with many seen joints and no covered one.
    """
    if not len(person.covered_xy) and len(person.seen_xy) < _MIN_SEEN_JOINTS:
        return []
    prompts = [box_to_mask(person.box_xyxy, person.rgb.shape[:2])]
    if person.visible is not None:
        prompts.append(person.visible)
    label = partial(_hold_covered_joints, person=person)
    return [_complete_prompt(complete, person.rgb, prompt, label, None) for prompt in prompts if prompt.any()]


def _complete_prompt(
    complete: MaskCompletion, photo: ImageU8, prompt: Mask, label: Callable[[Body, HiddenRegions], Float],
    hidden: bool | None,
) -> _Completed:  # fmt: skip
    """Complete one prompt. label: gives `_Completed.is_body` of the hidden regions; hidden: as in `_Completed`."""
    body = complete(photo, prompt)
    regions = find_regions(body, np.zeros(body.region.size_hw, bool), complete.feature_map(photo, body))
    pixels = np.array([np.count_nonzero(mask) for mask in _predicted_masks(body, regions)], float) * regions.step**2
    return _Completed(regions.features, label(body, regions), pixels, body.area_px, body.probable_hidden, hidden)


def _predicted_masks(body: Body, regions: HiddenRegions) -> Mask:
    """(N, h, w) bool on the coarse grid: the regions' masks without the margin that `find_regions` adds."""
    predicted = (body.amodal & ~body.visible)[:: regions.step, :: regions.step]
    inside: Mask = regions.masks & predicted
    return inside


def _match_true_body(body: Body, regions: HiddenRegions, sample: EvalSample) -> Float:
    """(N,) 1 for a region of which at least half is truly hidden body, else 0."""
    true = (sample.amodal & ~sample.visible)[body.region.slices][:: regions.step, :: regions.step]
    masks = _predicted_masks(body, regions)
    return (2 * (masks & true).sum((1, 2)) >= masks.sum((1, 2))).astype(float)


def _hold_covered_joints(body: Body, regions: HiddenRegions, person: JointedPerson) -> Float:
    """(N,) 1 for a region with a covered joint.

    Other regions: 0 if the person has no covered joint, else NaN, because most of a limb is far from its joints.
    """
    step, size = regions.step, np.array(regions.masks.shape[1:])
    margin = max(1, round(_JOINT_MARGIN * np.sqrt(np.count_nonzero(body.amodal)) / step))
    row_column = (person.covered_xy[:, ::-1] - (body.region.top, body.region.left)) // step
    rows, columns = row_column[((row_column >= 0) & (row_column < size)).all(1)].astype(int).T
    otherwise = np.nan if len(person.covered_xy) else 0.0
    return np.array([1.0 if dilate(mask, margin)[rows, columns].any() else otherwise for mask in regions.masks])
