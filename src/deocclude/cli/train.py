"""`deocclude train mask|content|people|single|prompted`: train one network as a config says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from deocclude.cli.options import AsJson, Quiet, check_folder, print_json

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Train a network.")

Config = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="A YAML file such as configs/base.yaml.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        help="Folder of weights, log.jsonl, config.yaml and last.pt; default runs/STAGE.",
    ),
]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a key of the config.")]
Fresh = Annotated[bool, typer.Option("--overwrite", help="Start from step 0 instead of resuming from last.pt.")]


STAGES = {
    "mask": "Stage 1: refine the initial mask, complete it, parse both masks.",
    "content": "Stage 2: recover the occluded appearance. Needs stage 1's weights (content.parsing_weights).",
    "people": "The people detector: a box and a score for every person in a photo.",
    "single": "A one-stage baseline: one network for masks and content (configs/baselines/one-stage.yaml).",
    "prompted": "Stage 1's head for completion prompts: an extent box, points, joints, a typical pose "
    "(prompted.stage1).",
}
"""The help of each command, by the section of the config that it trains."""


def _command(stage: str) -> Callable[..., None]:
    """The typer command that trains a stage."""

    def train(
        config: Config, output: Output = None, settings: Settings = None, overwrite: Fresh = False,
        json: AsJson = False, quiet: Quiet = False,
    ) -> None:  # fmt: skip
        _train(stage, config, output, settings, overwrite, json, quiet)

    return train


for _stage, _help in STAGES.items():
    app.command(_stage, help=_help)(_command(_stage))


def _train(
    stage: str, path: Path, output: Path | None, settings: list[str] | None, overwrite: bool, json: bool, quiet: bool
) -> None:
    """Train a stage as a config says, and print the outcome."""
    from deocclude.errors import ConfigError
    from deocclude.train.config import load_config

    config = load_config(path, settings or [])
    if getattr(config, stage) is None:
        raise ConfigError(f"{path}: no section {stage}")
    output = output or Path("runs") / stage
    check_folder(output)
    from deocclude.train import content_stage, mask_stage, people_stage, prompted_stage, single_stage

    stages = {
        "mask": mask_stage, "content": content_stage, "people": people_stage, "single": single_stage,
        "prompted": prompted_stage,
    }  # fmt: skip
    main = stages[stage].main
    outcome = main(config, output, resume=not overwrite, quiet=quiet)
    from accelerate import PartialState

    run = PartialState()
    if run.is_main_process:  # of several processes, only the one that validates prints
        if json:
            print_json({"weights": str(outcome.best_weights), "score": outcome.best_score, "steps": outcome.steps})
        elif not quiet:
            typer.echo(f"{outcome.best_weights} score {outcome.best_score:.4f} after {outcome.steps} steps")
    run.destroy_process_group()
