"""`deocclude train` from end to end on drawn people, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from datafolder import draw_data_folder
from deocclude.checkpoints.files import load_weights, save_weights
from deocclude.cli.app import app
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet

NETWORK = {"stem_width": 8, "widths": [8, 8], "head_width": 8, "templates": 4, "template_channels": 8}


def train(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder, stage 1 weights and a config of both stages."""
    root = tmp_path_factory.mktemp("train")
    draw_data_folder(root / "data")
    config = MaskCompletionConfig(**NETWORK | {"widths": (8, 8)})
    torch.manual_seed(0)
    weights = root / "first.safetensors"
    save_weights(
        weights, MaskCompletionNet(config).state_dict(), {"network": "mask_completion", "config": config.to_dict()}
    )
    schedule = {"steps": 2, "phases": [{"until": 1.0, "size_px": 32, "batch_size": 4}], "warmup_steps": 1}
    raw = {
        "device": "cpu", "threads": 1, "workers": 0, "validation_samples": 8,
        "data": {"root": str(root / "data"), "sources": {"ccp": 0.5, "cutouts": 0.5}},
        "mask": {"network": NETWORK, "schedule": schedule, "init": str(weights)},
        "content": {
            "network": {"widths": [8] * 5, "kernels": [3] * 5, "key_channels": 4}, "schedule": schedule,
            "features": str(weights),
        },
    }  # fmt: skip
    (root / "config.yaml").write_text(yaml.safe_dump(raw))
    return root


@pytest.mark.parametrize(("stage", "network"), [("mask", "mask_completion"), ("content", "content_recovery")])
def test_a_stage_trains_and_resumes(folder: Path, tmp_path: Path, stage: str, network: str) -> None:
    out = tmp_path / "runs" / stage
    done = train(stage, "-c", folder / "config.yaml", "-o", out, "-q", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["weights"], told["steps"]) == (str(out / "best.safetensors"), 2) and told["score"] == told["score"]
    assert {p.name for p in out.iterdir()} == {
        "best.safetensors", "config.yaml", "last.pt", "last.safetensors", "log.jsonl",
    }  # fmt: skip
    assert load_weights(out / "best.safetensors")[1]["network"] == network
    more = train(stage, "-c", folder / "config.yaml", "-o", out, "--set", f"{stage}.schedule.steps=3")
    assert more.exit_code == 0 and more.stdout.endswith("after 3 steps\n")
    assert more.stdout.splitlines()[-1].startswith(f"{out / 'best.safetensors'} score ")
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == [2, 3]
    quiet = train(stage, "-c", folder / "config.yaml", "-o", out, "-q", "--overwrite")
    assert (quiet.exit_code, quiet.stdout) == (0, "")
    assert len((out / "log.jsonl").read_text().splitlines()) == 1
    # what was saved trains as it is; what gives other numbers is refused
    done = train(stage, "-c", out / "config.yaml", "-o", tmp_path / "again", "-q")
    assert done.exit_code == 0, done.output
    one, other = (load_weights(folder / "last.safetensors")[0] for folder in (out, tmp_path / "again"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    refused = train(stage, "-c", folder / "config.yaml", "-o", out, "-q", "--set", f"{stage}.schedule.weight_decay=0.5")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"this run was started with {stage}.schedule.weight_decay 0.02, not 0.5" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        (["mask.schedule.lr=1"], 2, "error: CONFIG: unknown key mask.schedule.lr"),
        (["mask.network.depth=1"], 2, "error: unknown key mask.network.depth: MaskCompletionConfig has stem_width"),
        (["mask.schedule.steps=soon"], 2, "error: CONFIG: mask.schedule.steps: input should be a valid integer"),
        (["mask.losses.focal=1"], 2, "error: unknown key mask.losses.focal"),
        (["mask=null"], 2, "error: CONFIG: no section mask"),
        (["steps"], 2, "error: --set expects a.b=c, got 'steps'"),
        (["data.root=/nowhere/at/all"], 1, "error: data folder not found: looked for /nowhere/at/all"),
        (["data.sources.full=-1"], 2, "error: CONFIG: data.sources.full"),
        (["mask.init=/nowhere/best.safetensors"], 3, "error: weights not found: looked for /nowhere/best.safetensors"),
        (["device=abacus"], 4, "error: device must be auto, cpu or cuda, got 'abacus'"),
    ],
)
def test_config_errors_give_one_line_and_exit_code(
    folder: Path, tmp_path: Path, settings: list[str], code: int, message: str
) -> None:
    config = folder / "config.yaml"
    options = [option for setting in settings for option in ("--set", setting)]
    done = train("mask", "-c", config, "-o", tmp_path / "run", *options)
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith(message.replace("CONFIG", str(config))) and done.stderr.count("\n") == 1


def test_unwritable_output_is_reported_before_training(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    done = train("mask", "-c", folder / "config.yaml", "-o", tmp_path / "taken", "--set", "data.root=/nowhere")
    assert (done.exit_code, done.stdout) == (1, "")
    taken = tmp_path / "taken"
    assert done.stderr == f"error: cannot write to the folder {taken}: {taken} is a file\n"


def test_error_names_the_missing_config_or_source(folder: Path, tmp_path: Path) -> None:
    done = train("content", "-c", tmp_path / "none.yaml", "-o", tmp_path / "run")
    assert (done.exit_code, done.stderr) == (2, f"error: config not found: looked for {tmp_path / 'none.yaml'}\n")
    (tmp_path / "data").mkdir()
    options = ("--set", f"data.root={tmp_path / 'data'}")
    done = train("mask", "-c", folder / "config.yaml", "-o", tmp_path / "run", *options)
    assert done.exit_code == 1
    assert f"looked for {tmp_path / 'data' / 'ccp' / 'photos'}" in done.stderr
