"""`deocclude models`: list, describe, restore from the git history, and convert from the reference's layout."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deocclude.cli.options import AsJson, Quiet, Weights, check_folder, print_json, renamed

if TYPE_CHECKING:
    from deocclude.export.from_reference import ConversionReport
    from deocclude.inference.runtime import ModelInfo

REPORT_NAME = "conversion.json"  # of the report on a conversion


app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List the bundled models, show one, restore former weights, or convert weights of others.",
)


@app.command("list")
def list_all(weights: Weights = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """One line a model: name, parameters, input size, licence."""
    from deocclude.inference.runtime import list_models

    models = list_models(weights)
    if json:
        print_json({name: _as_dict(model) for name, model in models.items()})
        return
    if quiet:
        return
    for name, model in models.items():
        typer.echo(f"{name}: {_parameters(model)}, {model.input_size}x{model.input_size} px, {model.licence}")


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(help="A model's name.")] = "base",
    weights: Weights = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """All that the manifest says of one model: data, licence, files, figures; and its settings of inference."""
    from deocclude.inference.runtime import find_model

    model = find_model(name, weights)
    if json:
        print_json(_as_dict(model))
        return
    if quiet:
        return
    typer.echo(f"model       {model.name}")
    typer.echo(f"input       {model.input_size}x{model.input_size} px")
    typer.echo(f"parameters  {_parameters(model)}")
    typer.echo(f"licence     {model.licence}")
    typer.echo(f"data        {model.data}")
    for network in model.networks.values():
        typer.echo(f"{network.name}")
        typer.echo(f"  file      {network.onnx_path}")
        typer.echo(f"  sha256    {network.onnx_sha256}")
        typer.echo(f"  weights   {network.info.get('parameters', 'unknown')} parameters")
        for figure, value in network.info.get("figures", {}).items():
            typer.echo(f"  {figure}: {value}")
    typer.echo("settings    of inference; * differs from the default")
    for line in _settings_lines(model):
        typer.echo(line)


@app.command("fetch-history")
def fetch_history(
    sha: Annotated[str, typer.Argument(metavar="SHA", help="sha256 of the weights, or its first 12 digits or more.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for the file; none: the cache.")
    ] = None,
    repository: Annotated[
        Path | None,
        typer.Option(
            "--repository", metavar="DIR", help="A full clone; none: the package's own checkout, or this folder."
        ),
    ] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Restore weights of training, former or present, from the git history of a checkout.

    A config names them as sha256:SHA (mask.init, content.parsing_weights, ...) and finds them in the package or the
    cache: DEOCCLUDE_CACHE, or ~/.cache/deocclude.
    """
    from deocclude.checkpoints.history import cache_folder, fetch, weights_table

    check_folder(output or cache_folder())
    path = fetch(sha, output, repository)
    what = weights_table().get(path.stem, {}).get("what")
    if json:
        print_json({"sha256": path.stem, "path": str(path), "what": what})
        return
    if not quiet:
        typer.echo(f"{path}: {what}" if what else str(path))


@app.command("poses")
def poses(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.png", help="Picture file of the sheet.")
    ] = Path("poses.png"),
    weights: Weights = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw the typical poses with the numbers that `run --pose` takes: visible part blue, hidden part orange."""
    from deocclude.inference.runtime import BUNDLED_WEIGHTS
    from deocclude.io.images import save_image
    from deocclude.io.typical_poses import POSES_NAME, draw_poses_sheet, read_poses

    check_folder(output.parent)
    centres = read_poses((weights or BUNDLED_WEIGHTS) / POSES_NAME)
    save_image(draw_poses_sheet(centres), output)
    if json:
        print_json({"file": str(output), "poses": len(centres)})
    elif not quiet:
        typer.echo(f"{output}: {len(centres)} typical poses")


@app.command("convert")
def convert(
    state_dict: Annotated[Path, typer.Argument(metavar="STATE_DICT", help="A torch file in the reference's layout.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for weights and report.")],
    widths: Annotated[
        str | None, typer.Option("--widths", help="Those of the file (default), or of our paper network: file, paper.")
    ] = None,
    sizes: Annotated[str | None, typer.Option("--sizes", hidden=True, help="Earlier name of --widths.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Print what became of every tensor.")] = False,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Start a `paper` network of ours from a state dict laid out like the published reference definitions.

    What agrees in shape is taken, the rest keeps its first values: a start for training, not a finished model. The
    folder can be given as mask.init or content.init; conversion.json in it says what became of every tensor.
    """
    chosen = renamed("--sizes", sizes, "--widths", widths) or "file"
    check_folder(output)
    from torch import from_numpy

    from deocclude.checkpoints.files import load_foreign_state
    from deocclude.errors import WeightsError
    from deocclude.export import from_reference
    from deocclude.inference.runtime import BUNDLED_WEIGHTS
    from deocclude.io.files import save_text
    from deocclude.io.typical_poses import POSES_NAME, read_poses

    network, found = from_reference.convert(load_foreign_state(state_dict), chosen)
    if not found.taken:
        raise WeightsError(f"{state_dict}: nothing agrees with {found.network} at the widths of {chosen!r}")
    if found.network == "mask_completion":
        # the reference's poses are of another kind, and training computes poses only for a network that starts anew
        network.typical_poses.centres.copy_(from_numpy(read_poses(BUNDLED_WEIGHTS / POSES_NAME)))
    network.metadata = {"converted_from": state_dict.name, "parameters_taken": found.parameters_taken}
    network.save_pretrained(output)
    save_text(json_module.dumps(found.to_dict(), indent=2) + "\n", output / REPORT_NAME)
    if json:
        print_json(found.to_dict())
        return
    if quiet:
        return
    typer.echo(found.summary())
    if report:
        for line in _report_lines(found):
            typer.echo(line)


def _report_lines(report: ConversionReport) -> list[str]:
    """The report of a conversion, one line for each tensor."""

    def shapes(row: dict[str, list[int]]) -> str:
        """The shapes of several tensors by name, as text."""
        return ", ".join(f"{name} {'x'.join(map(str, shape)) or 'number'}" for name, shape in row.items())

    return [
        *(f"taken    {ours} <- {', '.join(theirs)}" for ours, theirs in report.taken.items()),
        *(f"differs  {ours}: {shapes(row)}" for ours, row in report.differs.items()),
        *(f"ours     {name}" for name in report.missing_in_theirs),
        *(f"theirs   {name}" for name in report.missing_in_ours),
        *(f"constant {name}" for name in report.unneeded),
    ]


def _parameters(model: ModelInfo) -> str:
    """The number of a model's parameters, as text."""
    counts = [network.info.get("parameters") for network in model.networks.values()]
    if None in counts:
        return "parameters not stated"
    return f"{sum(counts) / 1e6:.1f} M parameters"


def _settings_lines(model: ModelInfo) -> list[str]:
    """One line for each inference setting: group, name and value; with * and the default where they differ."""
    from deocclude.inference.settings import InferenceSettings

    defaults = InferenceSettings().as_dict()
    return [
        f"  {f'{group}.{name}':<42}{value}" + ("" if value == (default := defaults[group][name]) else f" * ({default})")
        for group, numbers in model.settings.as_dict().items()
        for name, value in numbers.items()
    ]


def _as_dict(model: ModelInfo) -> dict[str, Any]:
    """A model as plain values for JSON."""
    return {
        "name": model.name,
        "input_size": model.input_size,
        "licence": model.licence,
        "data": model.data,
        "settings": model.settings.as_dict(),
        "networks": {
            network.name: {"path": str(network.onnx_path), **network.info} for network in model.networks.values()
        },
    }
