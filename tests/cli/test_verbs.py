"""demo, models, doctor and bench: what they print is what they measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deocclude.cli.app import app
from deocclude.evaluation import demo_scene as scene_of


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_demo_writes_pictures_and_prints_its_measurement(tmp_path: Path, weights_dir: Path) -> None:
    result = invoke("demo", "-o", tmp_path, "--weights", weights_dir, "--device", "cpu")
    assert result.exit_code == 0, result.output
    names = {"demo.png", "photo.png", "mask.png", "overlay.png", "cutout.png", "recovered.png", "original.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert str(tmp_path / "demo.png") in result.stdout
    report = json.loads(invoke("demo", "-o", tmp_path, "--weights", weights_dir, "--device", "cpu", "--json").stdout)

    # The printed score, measured again from the pictures alone.
    scene = scene_of.make_scene()
    amodal = np.asarray(Image.open(tmp_path / "cutout.png"))[..., 3] >= 128
    recovered = np.asarray(Image.open(tmp_path / "recovered.png"))
    again = scene_of.score(scene, amodal, recovered)
    assert report["score"]["full_iou"] == pytest.approx(again.full_iou, abs=0.01)
    assert report["score"]["l1"] == pytest.approx(again.l1, abs=1e-6)
    assert f"{again.l1:.1f}" in result.stdout
    assert np.asarray(Image.open(tmp_path / "demo.png")).shape[1] > 4 * 512


def test_models_list_and_info(weights_dir: Path) -> None:
    assert invoke("models", "list", "--weights", weights_dir).stdout.startswith("base: ")
    text = invoke("models", "info", "--weights", weights_dir).stdout
    info = json.loads(invoke("models", "info", "base", "--weights", weights_dir, "--json").stdout)
    manifest = json.loads((weights_dir / "manifest.json").read_text())
    for name, network in manifest["models"]["base"]["networks"].items():
        assert info["networks"][name]["sha256"] == network["sha256"]
        assert network["sha256"]["onnx"] in text
    assert set(json.loads(invoke("models", "list", "--weights", weights_dir, "--json").stdout)) == {"base"}
    unknown = invoke("models", "info", "huge", "--weights", weights_dir)
    assert unknown.exit_code == 2 and "base" in unknown.stderr


def test_doctor_passes_on_intact_weights(weights_dir: Path) -> None:
    result = invoke("doctor", "--weights", weights_dir, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    checks = {check["name"]: check for check in report["checks"]}
    assert report["ok"]
    assert "sha256" in checks["weights"]["detail"]
    assert " ms on cpu" in checks["inference"]["detail"]
    assert {"[train]", "[heif]"} <= set(checks)


def test_doctor_finds_damaged_weights(weights_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(weights_dir, tmp_path / "weights")
    damaged = tmp_path / "weights" / "content_recovery_base.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    result = invoke("doctor", "--weights", tmp_path / "weights")
    assert result.exit_code == 3
    assert "FAIL weights" in result.stdout and "content_recovery_base.onnx" in result.stdout


def test_doctor_finds_a_manifest_without_models(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 1, "models": {}}')
    result = invoke("doctor", "--weights", tmp_path)
    assert result.exit_code == 3
    assert "FAIL weights" in result.stdout and "lists no model" in result.stdout


def test_doctor_reports_an_incomplete_model(weights_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(weights_dir, tmp_path / "weights")
    manifest = json.loads((tmp_path / "weights" / "manifest.json").read_text())
    del manifest["models"]["base"]["networks"]["content_recovery"]
    (tmp_path / "weights" / "manifest.json").write_text(json.dumps(manifest))
    result = invoke("doctor", "--weights", tmp_path / "weights")
    assert result.exit_code == 3
    assert "FAIL weights      model 'base' is not complete: content_recovery has not been exported" in result.stdout


def test_bench_reports_a_missing_extra_before_measuring(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deocclude.evaluation.speed.measure_big_photo", lambda *_: pytest.fail("the work had begun"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = invoke("bench", "--weights", weights_dir)
    assert result.exit_code == 4
    assert "--no-paper" in result.stderr and 'pip install "deocclude[train]"' in result.stderr


def test_doctor_finds_an_absent_device(weights_dir: Path) -> None:
    assert invoke("doctor", "--weights", weights_dir, "--device", "cuda").exit_code == 4


def test_doctor_prints_the_install_command_for_a_missing_extra(
    weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("deocclude.cli.app").cli.app.EXTRA_OF, "no_such_package", "train")
    result = invoke("doctor", "--weights", weights_dir, "--device", "cpu")
    assert result.exit_code == 0
    assert "no_such_package" in result.stdout and 'pip install "deocclude[train]"' in result.stdout


def test_bench_prints_what_it_measures(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deocclude.evaluation.speed import CrowdCost, RunCost

    monkeypatch.setattr("deocclude.evaluation.speed.measure_crowd", lambda *_: CrowdCost(0.05, 2.5))
    monkeypatch.setattr(
        "deocclude.evaluation.speed.measure_big_photo", lambda *_: RunCost(12.0, 0.2, 0.4, 0.321, 456.0)
    )
    monkeypatch.setattr("deocclude.evaluation.speed.measure_process", lambda *_: 1.75)
    result = invoke("bench", "--weights", weights_dir, "--no-paper")
    assert result.exit_code == 0, result.output
    assert "| 0.32 s | under 0.5 s | yes |" in result.stdout
    assert "| 456 MB | under 600 MB | yes |" in result.stdout
    assert "| 1.75 s | under 1.5 s | no |" in result.stdout
    assert "| 2.50 s | under 3 s | yes |" in result.stdout
    assert invoke("bench", "--weights", weights_dir, "--no-paper", "-q").output == ""
    values = json.loads(invoke("bench", "--weights", weights_dir, "--no-paper", "--json").stdout)
    assert values["pairs"] is None and values["process_s"] == 1.75
