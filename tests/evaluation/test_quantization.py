"""Networks of a weights folder made int8: the manifest says so, and the model still opens."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from deocclude.cli.app import app
from deocclude.data.evalsets.persons import EvalSet
from deocclude.errors import UsageError
from deocclude.evaluation.quantization import quantize
from deocclude.export.to_onnx import export_to_weights
from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from deocclude.pipeline import load
from drawn_set import write_drawn_set
from fresh_networks import stored


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    of_content = ContentRecoveryConfig(widths=(8,) * 5, kernels=(3,) * 5, key_channels=4)
    networks = {
        "mask_completion": MaskCompletionNet(
            MaskCompletionConfig(stem_width=8, widths=(8, 8), head_width=8, pose_guidance=False)
        ),
        "content_recovery": ContentRecoveryNet(of_content),
    }
    source, folder = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("exported")
    for name, network in networks.items():
        export_to_weights(stored(source / f"{name}.safetensors", name, network), folder)
    return folder


@pytest.fixture
def weights(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("deocclude.export.int8._LEAST_CHANNELS", 8)  # the networks here are tiny
    return Path(shutil.copytree(exported, tmp_path / "weights"))


def rows(weights: Path) -> dict:
    return json.loads((weights / "manifest.json").read_text())["models"]["base"]["networks"]


def test_networks_become_int8_and_the_manifest_says_so(weights, tmp_path, person):
    float_rows = rows(weights)
    before = load(weights_dir=weights, device="cpu", threads=1)(person.photo, masks=[person.visible])
    write_drawn_set(tmp_path / "set")
    done = CliRunner().invoke(app, ["quantize", str(tmp_path / "set"), "--weights", str(weights), "--json"])
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)["int8_convolutions"]
    assert counts["mask_completion"] > 0
    after = rows(weights)
    for name, row in after.items():
        assert row["sha256"]["onnx"] == hashlib.sha256((weights / row["onnx"]).read_bytes()).hexdigest()
        assert row.get("int8", {}).get("convolutions") == counts.get(name)
        assert name in counts or row == float_rows[name]
    assert after["mask_completion"]["int8"]["ranges_of"] == [EvalSet.open(tmp_path / "set").name]
    found = load(weights_dir=weights, device="cpu", threads=1)(person.photo, masks=[person.visible])
    difference = np.abs(found.people[0].amodal_prob - before.people[0].amodal_prob)
    assert 0 < difference.mean() < 0.05


def test_failure_at_a_later_network_leaves_a_manifest_with_the_digests_of_the_files(weights, tmp_path, monkeypatch):
    write_drawn_set(tmp_path / "set")

    def failing_at_the_second(source: Path, target: Path, batches: list) -> int:
        if source.name.startswith("content_recovery"):
            raise UsageError("no convolution")
        target.write_bytes(b"int8")
        return 1

    monkeypatch.setattr("deocclude.evaluation.quantization.QUANTISED", ("mask_completion", "content_recovery"))
    monkeypatch.setattr("deocclude.evaluation.quantization.quantize_convolutions", failing_at_the_second)
    with pytest.raises(UsageError, match="no convolution"):
        quantize([EvalSet.open(tmp_path / "set")], weights_dir=weights)
    assert [name for name, row in rows(weights).items() if "int8" in row] == ["mask_completion"]
    for row in rows(weights).values():
        assert row["sha256"]["onnx"] == hashlib.sha256((weights / row["onnx"]).read_bytes()).hexdigest()


def test_int8_networks_and_empty_sets_are_refused(weights, tmp_path):
    write_drawn_set(tmp_path / "set")
    eval_set = EvalSet.open(tmp_path / "set")
    with pytest.raises(UsageError, match="hold no people"):
        quantize([], weights_dir=weights)
    quantize([eval_set], weights_dir=weights)
    files = {path.name: path.read_bytes() for path in weights.iterdir()}
    with pytest.raises(UsageError, match="int8 already"):
        quantize([eval_set], weights_dir=weights)
    assert files == {path.name: path.read_bytes() for path in weights.iterdir()}
