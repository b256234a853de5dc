"""Calibration of the occlusion probability on evaluation sets; the result is stored in the manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deocclude.data.evalsets.persons import EvalSet
from deocclude.evaluation.prompts import PROMPTED_KINDS, InitialPrompt
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.occlusion_probability import HIDDEN_SHARE, HiddenCalibration, fit_calibration
from deocclude.inference.runtime import BUNDLED_WEIGHTS, MANIFEST_NAME, find_model, open_networks
from deocclude.io.images import save_text
from deocclude.metrics.masks import visible_ratio


def calibrate(
    sets: Sequence[EvalSet],
    *,
    model: str = "base",
    weights_dir: Path | None = None,
    device: str = "auto",
    on_record: Callable[[int, int], None] | None = None,
) -> HiddenCalibration:
    """Fit a model's occlusion probability on evaluation sets, over exact, degraded and box initial masks.

    The result is written to the manifest's row of stage 1 as hidden_calibration, with the names of the sets. A new
    export of stage 1 removes it.

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
    rows = []
    todo = [(eval_set, record) for eval_set in sets for record in eval_set]
    for done, (eval_set, record) in enumerate(todo, start=1):
        sample = eval_set.load(record)
        hidden = 1 - visible_ratio(sample.visible, sample.amodal) > HIDDEN_SHARE
        for kind in PROMPTED_KINDS:
            prompt = InitialPrompt.of(sample, kind, eval_set.seed)
            if prompt.mask.any():
                body = complete(sample.photo, prompt.mask)
                rows.append((body.hidden_fraction, body.probable_hidden, hidden))
        if on_record is not None:
            on_record(done, len(todo))
    by_mask, by_probability, truth = np.array(rows, float).reshape(-1, 3).T
    fitted = fit_calibration(by_mask, by_probability, truth > 0)
    path = (weights_dir or BUNDLED_WEIGHTS) / MANIFEST_NAME
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["models"][model]["networks"]["mask_completion"] |= {
        "hidden_calibration": [round(w, 4) for w in fitted],
        "calibrated_on": [eval_set.name for eval_set in sets],
    }
    save_text(json.dumps(manifest, indent=2) + "\n", path)
    return fitted
