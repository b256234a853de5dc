"""`deocclude export`: what it prints, where it writes, and its exit codes; test_export.py tests the export itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from deocclude.checkpoints.files import load_weights, save_weights
from deocclude.cli.app import app
from deocclude.export import to_onnx as export_module
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet


def export(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    config = MaskCompletionConfig(stem_width=8, widths=(8, 8), head_width=8, templates=4, template_channels=8)
    path = tmp_path / "best.safetensors"
    metadata = {"network": "mask_completion", "config": config.to_dict(), "step": 1}
    torch.manual_seed(0)
    save_weights(path, MaskCompletionNet(config).state_dict(), metadata)
    return path


def test_export_prints_a_line_or_json(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(network: torch.nn.Module, path: Path, *, sizes: str) -> float:
        path.write_bytes(b"onnx")
        return 1.5e-5

    monkeypatch.setattr(export_module, "export_onnx", quick)
    out = tmp_path / "weights"
    done = export(trained, "-o", out, "-m", "mine")
    assert done.exit_code == 0, done.output
    assert done.stdout == "mask_completion_mine.onnx: 0.02 M parameters, differs from torch by 1.5e-05\n"
    row = json.loads(export(trained, "-o", out, "-m", "mine", "--json").stdout)
    manifest = json.loads((out / "manifest.json").read_text())
    assert row == manifest["models"]["mine"]["networks"]["mask_completion"]
    assert list(manifest["models"]) == ["mine"]
    assert export(trained, "-o", out, "-m", "mine", "--licence", "CC0", "--data-note", "my photos").exit_code == 0
    stated = json.loads((out / "manifest.json").read_text())["models"]["mine"]
    assert (stated["licence"], stated["data"]) == ("CC0", "my photos")


def test_mean_option_exports_the_average_of_two_checkpoints(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "export_onnx", lambda network, path, sizes: path.write_bytes(b"onnx") * 0.0)
    weights, metadata = load_weights(trained)
    later = {k: v + 2 if v.is_floating_point() else v for k, v in weights.items()}
    save_weights(tmp_path / "last.safetensors", later, metadata | {"step": 5})
    done = export(trained, tmp_path / "last.safetensors", "--mean", "-o", tmp_path / "weights")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "mean.safetensors").exists(), "the folder of the inputs stays as it was"
    mean, told = load_weights(tmp_path / "weights" / "mean.safetensors")
    assert all(torch.allclose(v, weights[k] + 1) for k, v in mean.items() if v.is_floating_point())
    assert (told["step"], told["mean_of_steps"]) == (5, [1, 5])
    kept, _ = load_weights(tmp_path / "weights" / "mask_completion_base.safetensors")
    torch.testing.assert_close(kept["stem.0.weight"].float(), mean["stem.0.weight"], rtol=1e-3, atol=1e-3)
    save_weights(tmp_path / "other.safetensors", {"w": torch.zeros(1)}, {"network": "mask_completion"})
    refused = export(tmp_path / "other.safetensors", trained, "--mean", "-o", tmp_path / "weights")
    assert refused.exit_code == 3 and "other.safetensors: not the same network" in refused.stderr


def test_two_files_of_one_network_are_rejected_without_mean(trained: Path, tmp_path: Path) -> None:
    last = tmp_path / "last.safetensors"
    last.write_bytes(trained.read_bytes())
    refused = export(trained, last, "-o", tmp_path / "weights")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"error: {trained} and {last} are both mask_completion: name one of them, or --mean for their mean\n"
    )
    assert not (tmp_path / "weights").exists()


def test_missing_or_damaged_weights_exit_with_3(trained: Path, tmp_path: Path) -> None:
    missing = export(tmp_path / "none.safetensors", "-o", tmp_path / "weights")
    assert (missing.exit_code, missing.stdout) == (3, "")
    assert missing.stderr == f"error: weights not found: looked for {tmp_path / 'none.safetensors'}\n"
    trained.write_bytes(trained.read_bytes()[:-20])
    damaged = export(trained, "-o", tmp_path / "weights")
    assert damaged.exit_code == 3 and "not a readable .safetensors file" in damaged.stderr
    assert not (tmp_path / "weights").exists()


def test_output_path_that_is_a_file_is_rejected(trained: Path) -> None:
    done = export(trained, "-o", trained)
    assert done.exit_code == 1
    assert done.stderr == f"error: cannot write to the folder {trained}: {trained} is a file\n"
