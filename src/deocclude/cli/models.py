"""`deocclude models`: what can be loaded, and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deocclude.cli.options import AsJson, Weights, print_json

if TYPE_CHECKING:
    from deocclude.runtime import ModelInfo

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List the bundled models, or show one in full.")


@app.command("list")
def list_all(weights: Weights = None, json: AsJson = False) -> None:
    """One line a model: name, parameters, input size, licence."""
    from deocclude.runtime import list_models

    models = list_models(weights)
    if json:
        print_json({name: _as_dict(model) for name, model in models.items()})
        return
    for name, model in models.items():
        typer.echo(f"{name}: {_parameters(model)}, {model.input_size}x{model.input_size} px, {model.licence}")


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(help="A model's name.")] = "base", weights: Weights = None, json: AsJson = False
) -> None:
    """All that the manifest says of one model: data, licence, files, figures."""
    from deocclude.runtime import find_model

    model = find_model(name, weights)
    if json:
        print_json(_as_dict(model))
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


def _parameters(model: ModelInfo) -> str:
    counts = [network.info.get("parameters") for network in model.networks.values()]
    if None in counts:
        return "parameters not stated"
    return f"{sum(counts) / 1e6:.1f} M parameters"


def _as_dict(model: ModelInfo) -> dict[str, Any]:
    return {
        "name": model.name,
        "input_size": model.input_size,
        "licence": model.licence,
        "data": model.data,
        "networks": {
            network.name: {"path": str(network.onnx_path), **network.info} for network in model.networks.values()
        },
    }
