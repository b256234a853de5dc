"""`deocclude calibrate`: fit the occlusion probability on evaluation sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deocclude.cli.options import AsJson, Device, Model, Quiet, UnreportedSets, Weights, check_folder, print_json


def app(
    eval_set_dirs: UnreportedSets,
    joints: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Data folder whose coco_people has annotated joints: its training people, really occluded, count too.",
        ),
    ] = None,
    model: Model = "base",
    device: Device = "auto",
    weights: Weights = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit the probabilities that a hidden region is body and that a person is occluded; write both to the manifest.

    The box segmenter's features of a region count where the model has them.

    `run --complete auto` drops hidden regions below the first threshold, and returns people below the second unchanged
    (`deocclude models info` shows both). Run it after `deocclude export` of stage 1 or of the box segmenter.
    """
    from deocclude.data.evalsets.persons import EvalSet
    from deocclude.evaluation.calibration import calibrate
    from deocclude.inference.runtime import BUNDLED_WEIGHTS

    check_folder(weights or BUNDLED_WEIGHTS)
    sets = [EvalSet.open(folder) for folder in eval_set_dirs]
    fitted = calibrate(sets, joints_root=joints, model=model, weights_dir=weights, device=device)
    if json:
        print_json({"model": model, "body": fitted.body._asdict(), "regions": fitted.regions._asdict()})
    elif not quiet:
        share = (0.01, 0.03, 0.05, 0.1, 0.2)
        examples = ", ".join(f"{s:.0%}: {fitted.body.probability(s, s):.2f}" for s in share)
        typer.echo(f"{model}: probability that more than 5 % is occluded, for both occluded fractions at {examples}")
