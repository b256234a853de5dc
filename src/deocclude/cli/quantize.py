"""`deocclude quantize`: int8 networks, with ranges from evaluation sets."""

from __future__ import annotations

import typer

from deocclude.cli.options import AsJson, Model, Quiet, UnreportedSets, Weights, check_folder, print_json


def app(
    eval_set_dirs: UnreportedSets,
    model: Model = "base",
    weights: Weights = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make stage 1 and the box-prompted segmentation network int8, which is about twice as fast on a CPU.

    The ranges of activations are measured on people of the sets. Run it after `deocclude export` and before `deocclude
    calibrate`; a new export brings the float network back.
    """
    from deocclude.data.evalsets.persons import EvalSet
    from deocclude.evaluation.quantization import quantize
    from deocclude.inference.runtime import BUNDLED_WEIGHTS

    check_folder(weights or BUNDLED_WEIGHTS)
    converted = quantize([EvalSet.open(folder) for folder in eval_set_dirs], model=model, weights_dir=weights)
    if json:
        print_json({"model": model, "int8_convolutions": converted})
    elif not quiet:
        counts = ", ".join(f"{name} {count}" for name, count in converted.items())
        typer.echo(f"{model}: int8 convolutions: {counts}")
