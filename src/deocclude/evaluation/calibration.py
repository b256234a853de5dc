"""Calibration of the occlusion probability on evaluation sets; the result is stored in the manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deocclude.data.evalsets.persons import EvalSample, EvalSet
from deocclude.evaluation.prompts import PROMPTED_KINDS, InitialPrompt
from deocclude.imaging.arrays import Mask
from deocclude.inference.body import Body
from deocclude.inference.hidden_regions import HiddenRegions, find_regions, fit_regions, keep_likely_regions
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.occlusion_probability import HIDDEN_SHARE, OcclusionCalibration, fit_calibration
from deocclude.inference.runtime import BUNDLED_WEIGHTS, MANIFEST_NAME, find_model, open_networks
from deocclude.io.images import save_text
from deocclude.metrics.masks import visible_ratio


class _Completed(NamedTuple):
    """One prompt's completion. is_body: (N,) bool, which of its hidden regions are mostly hidden body in truth."""

    body: Body
    regions: HiddenRegions
    is_body: Mask
    hidden: bool  # whether more than HIDDEN_SHARE of the person is hidden


def calibrate(
    sets: Sequence[EvalSet],
    *,
    model: str = "base",
    weights_dir: Path | None = None,
    device: str = "auto",
    on_record: Callable[[int, int], None] | None = None,
) -> OcclusionCalibration:
    """Fit a model's occlusion probabilities on evaluation sets, over exact, degraded and box initial masks.

    First that of hidden regions, then that of bodies without their unlikely regions. Both are written to the manifest's
    row of stage 1 as region_calibration and hidden_calibration, with the names of the sets. A new export of stage 1
    removes them.

    Args:
        sets: other sets than those of reported figures.
        model: name in the manifest.
        weights_dir: folder of the manifest; None for the bundled one.
        device: auto, cpu or cuda.
        on_record: called with (done, all) after every record.

    Raises:
        UsageError: an unknown model, or sets with only occluded or only unoccluded people.
    """
    info = find_model(model, weights_dir)
    networks, _ = open_networks(info, device)
    complete = MaskCompletion.of(networks, info)
    rows = list(_completed(sets, complete, on_record))
    of_regions = fit_regions(
        np.concatenate([r.regions.features for r in rows]), np.concatenate([r.is_body for r in rows])
    )
    least = info.settings.occlusion.min_region_probability
    bodies = [keep_likely_regions(row.body, row.regions, of_regions, least) for row in rows]
    of_bodies = fit_calibration(
        np.array([body.hidden_fraction for body in bodies]), np.array([body.probable_hidden for body in bodies]),
        np.array([row.hidden for row in rows]),
    )  # fmt: skip
    path = (weights_dir or BUNDLED_WEIGHTS) / MANIFEST_NAME
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["models"][model]["networks"]["mask_completion"] |= {
        "hidden_calibration": [round(w, 4) for w in of_bodies],
        "region_calibration": [round(w, 4) for w in of_regions],
        "calibrated_on": [eval_set.name for eval_set in sets],
    }
    save_text(json.dumps(manifest, indent=2) + "\n", path)
    return OcclusionCalibration(of_bodies, of_regions)


def _completed(
    sets: Sequence[EvalSet], complete: MaskCompletion, on_record: Callable[[int, int], None] | None
) -> Iterator[_Completed]:
    """Every prompt of the sets, completed."""
    todo = [(eval_set, record) for eval_set in sets for record in eval_set]
    for done, (eval_set, record) in enumerate(todo, start=1):
        sample = eval_set.load(record)
        hidden = 1 - visible_ratio(sample.visible, sample.amodal) > HIDDEN_SHARE
        for kind in PROMPTED_KINDS:
            prompt = InitialPrompt.of(sample, kind, eval_set.seed)
            if prompt.mask.any():
                body = complete(sample.photo, prompt.mask)
                regions = find_regions(body, np.zeros(body.region.size_hw, bool))
                yield _Completed(body, regions, _are_body(body, regions, sample), hidden)
        if on_record is not None:
            on_record(done, len(todo))


def _are_body(body: Body, regions: HiddenRegions, sample: EvalSample) -> Mask:
    """(N,) bool: whether at least half of a region, without what it shares with the visible mask, is hidden body."""
    step = regions.step
    here = body.region.slices
    predicted, true = (
        mask[::step, ::step] for mask in (body.amodal & ~body.visible, (sample.amodal & ~sample.visible)[here])
    )
    shared = [np.count_nonzero(mask & predicted & true) for mask in regions.masks]
    sizes = [np.count_nonzero(mask & predicted) for mask in regions.masks]
    are: Mask = 2 * np.array(shared, int) >= np.array(sizes, int)
    return are
