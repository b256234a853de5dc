"""`deocclude eval --trained`: networks as a training writes them, on drawn people."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from deocclude.cli.app import app
from deocclude.data.evalsets.persons import write_eval_set
from deocclude.data.evalsets.scenes import SceneSample, write_scene_set
from deocclude.models.baselines.one_stage import OneStageNet
from deocclude.models.baselines.pix2pix import Pix2PixConfig, Pix2PixContent
from deocclude.models.baselines.unet import MaskUNet, UNetConfig
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from drawn_set import draw_person
from fresh_networks import saying, stored

TINY = UNetConfig((4, 8))


@pytest.fixture(scope="module")
def eval_set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen") / "set"
    samples = [draw_person("ann", "object", 20), draw_person("bob", "low", 44), draw_person("cat", "none", 0)]
    write_eval_set(folder, samples, name="drawn", seed=1, source="code")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline that marks every pixel as body, our stage 1, a stage 2, and a network of both stages."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs")
    small = MaskCompletionConfig(stem_width=8, widths=(8, 8), head_width=8, pose_guidance=False)
    networks = {
        "unet": ("mask_unet", saying(MaskUNet(TINY), 9.0, 9.0)),
        "ours": ("mask_completion", MaskCompletionNet(small)),
        "paint": ("content_pix2pix", Pix2PixContent(Pix2PixConfig((4, 8)))),
        "one": ("single_one", saying(OneStageNet(TINY), 9.0, 9.0)),
    }
    for name, (kind, network) in networks.items():
        (folder / name).mkdir()
        stored(folder / name / "best.safetensors", kind, network, size_px=32)
    return folder


def evaluate(*args: object) -> Result:
    return CliRunner().invoke(app, ["eval", "--device", "cpu", *map(str, args)])


def test_baseline_is_scored_on_masks_with_a_contact_sheet(tmp_path: Path, eval_set_dir: Path, runs: Path) -> None:
    weights, sheet = runs / "unet" / "best.safetensors", tmp_path / "sheet.png"
    done = evaluate(eval_set_dir, "--trained", weights, "-o", tmp_path / "out", "--sheet", sheet)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("# unet/best.safetensors (mask_unet) on drawn: 3 people, 3 pictures\n")
    assert (
        "one prediction on each crop of 32 px, no averaging" in done.stdout and "only masks are measured" in done.stdout
    )
    assert "Recovered appearance" not in done.stdout
    summary = json.loads((tmp_path / "out" / "eval.json").read_text())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert summary["trained"] == {
        "file": str(weights), "sha256": digest, "network": "mask_unet", "size_px": 32, "stage1": None,
    }  # fmt: skip
    assert list(summary["masks"]) == ["exact", "degraded", "box"] and summary["content"] == {}
    assert list(summary["masks"]["exact"])[:2] == ["trained", "initial mask"]
    # Everything in the crop is called body: all of the body is in it, and much that is not.
    assert summary["masks"]["exact"]["trained"]["extra"] > 0.5
    assert Image.open(sheet).width > 1000


def test_stage_1_is_scored_without_stage_2(eval_set_dir: Path, runs: Path) -> None:
    done = evaluate(
        eval_set_dir, "--trained", runs / "ours" / "best.safetensors", "--initial", "box", "--limit", 2, "--no-content",
        "--size", 64, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["set"]["records"] == 2 and list(summary["masks"]) == ["box"]
    assert (summary["trained"]["network"], summary["trained"]["size_px"]) == ("mask_completion", 64)


def test_stage_2_is_scored_together_with_a_stage_1(eval_set_dir: Path, runs: Path) -> None:
    first, second = runs / "ours" / "best.safetensors", runs / "paint" / "best.safetensors"
    done = evaluate(eval_set_dir, "--trained", second, "--stage1", first, "--initial", "exact", "--json")
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert list(summary["content"])[:2] == ["trained, true masks", "trained, predicted masks"]
    assert summary["trained"]["stage1"]["file"] == str(first)


def test_single_stage_network_is_compared_with_a_baseline(tmp_path: Path, eval_set_dir: Path, runs: Path) -> None:
    for name in ("one", "unet"):
        weights = runs / name / "best.safetensors"
        done = evaluate(eval_set_dir, "--trained", weights, "--initial", "exact", "-q", "-o", tmp_path / name)
        assert done.exit_code == 0, done.stderr
    results = [tmp_path / name / "eval.json" for name in ("one", "unet")]
    assert "trained, true masks" in json.loads(results[0].read_text())["content"]
    done = CliRunner().invoke(app, ["eval", "--compare", *map(str, results), "--json"])
    assert done.exit_code == 0, done.stderr
    compared = json.loads(done.stdout)
    assert compared["a"]["model"] == "one/best.safetensors (single_one)"
    # Both call all of their crop body, and only masks are in both files.
    assert {row["from"] for row in compared["rows"]} == {"exact"}
    assert {row["difference"] for row in compared["rows"] if row["measure"] == "amodal IoU"} == {0.0}


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["UNET", "--weights", "x"], 2, "--trained measures one file: it takes no --weights"),
        (["UNET", "-m", "paper"], 2, "--trained measures one file: it takes no -m"),
        (["UNET", "--pred", "x"], 2, "--pred reads another system's files: it takes no --trained"),
        (["UNET", "--initial", "photo"], 2, "--trained does not detect people: it takes no --initial photo"),
        (["UNET", "--size", "100"], 2, "--size must be a multiple of 32, as in training, got 100"),
        (["UNET", "--stage1", "OURS"], 2, "mask_unet predicts masks itself and ignores external masks"),
        (["UNET", "--lpips", "x.onnx"], 2, "is stage 1 alone and only its masks are measured: it takes no --lpips"),
        (["PAINT"], 2, "stage 2 needs masks and parts of a stage 1: name its .safetensors with --stage1"),
        (["PAINT", "--stage1", "UNET"], 3, "expected weights of mask_completion of ours, got mask_unet"),
        (["nowhere.safetensors"], 3, "weights not found: looked for nowhere.safetensors"),
        (["UNET", "--compare", "a.json", "b.json"], 2, "--compare reads two eval.json: it takes no "),
        (["UNET", "--device", "abacus"], 4, "device must be auto, cpu or cuda, got 'abacus'"),
    ],
)
def test_conflicting_options_give_one_line_errors(
    eval_set_dir: Path, runs: Path, args: list[str], code: int, message: str
) -> None:
    known = {name.upper(): runs / name / "best.safetensors" for name in ("unet", "ours", "paint")}
    done = evaluate(eval_set_dir, "--trained", *[known.get(arg, arg) for arg in args])
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("option", ["--stage1", "--size"])
def test_stage1_and_size_options_require_trained(eval_set_dir: Path, option: str) -> None:
    done = evaluate(eval_set_dir, option, 64)
    assert (done.exit_code, done.stderr) == (2, f"error: {option} goes with --trained BEST.safetensors\n")


def test_scene_set_rejects_the_trained_option(tmp_path: Path, runs: Path) -> None:
    nobody = np.zeros((0, 40, 50), bool)
    sample = SceneSample("a", np.zeros((40, 50, 3), np.uint8), nobody, nobody, np.zeros((40, 50), bool))
    write_scene_set(tmp_path / "set", [sample], name="scenes", seed=0, source="code")
    done = evaluate(tmp_path / "set", "--trained", runs / "unet" / "best.safetensors")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "is a set of scenes: it takes no --trained" in done.stderr
