"""`deocclude export`: trained weights into a weights folder for `run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deocclude.cli.options import AsJson, Quiet, check_folder, print_json


def app(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="BEST.safetensors...",
            help="Weights of one or more networks, or folders; NanoDet-g's .onnx for the people detector.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Weights folder; default: the package's own."),
    ] = None,
    model: Annotated[str, typer.Option("-m", "--model", help="Name of the model in the manifest.")] = "base",
    amodal_threshold: Annotated[
        float, typer.Option("--amodal-threshold", help="Stage 1: probability from which an occluded pixel is body.")
    ] = 0.5,
    mean: Annotated[
        bool, typer.Option("--mean", help="Average checkpoints of one network, saved as DIR/mean.safetensors.")
    ] = False,
    sizes: Annotated[
        str, typer.Option("--sizes", help="Input sizes of stages 1 and 2: any, in steps, or fixed to 256x256.")
    ] = "any",
    data_note: Annotated[
        str | None, typer.Option("--data-note", metavar="TEXT", help="Training data, for the manifest.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help="Licence of the model, for the manifest.")
    ] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Export trained weights to ONNX, check them against torch, and enter them in the manifest.

    Without --data-note and --licence the manifest's entries stay; in a new manifest they are "not stated".
    """
    from deocclude.export.to_onnx import check_distinct, export_to_weights
    from deocclude.inference.runtime import BUNDLED_WEIGHTS

    folder = output or BUNDLED_WEIGHTS
    check_folder(folder)
    if mean:
        from deocclude.checkpoints.files import save_mean

        sources = [save_mean(sources, folder / "mean.safetensors")]
    check_distinct(sources)
    for source in sources:
        row = export_to_weights(
            source,
            folder,
            model=model,
            amodal_threshold=amodal_threshold,
            sizes=sizes,
            data_note=data_note,
            licence=licence,
        )
        if json:
            print_json(row)
        elif not quiet:
            difference = f"differs from torch by {row['parity']:.1e}"
            typer.echo(f"{row['onnx']}: {row['parameters'] / 1e6:.2f} M parameters, {difference}")
