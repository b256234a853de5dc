"""`deocclude models`: the settings that `info` prints, and `convert`, whose folder training starts from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from deocclude.cli.app import app
from deocclude.inference.runtime import BUNDLED_WEIGHTS, find_model
from deocclude.models.content_recovery import ContentRecoveryNet
from deocclude.models.mask_completion import MaskCompletionNet
from reference_layout import stage1, stage2


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", "convert", *map(str, arguments)])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = {f"module.{name}": tensor for name, tensor in stage2(4).items()}
    torch.save({"step": 9, "state_dict": state, "optimizer": {"param_groups": []}}, tmp_path / "ckpt.pth.tar")
    return tmp_path / "ckpt.pth.tar"


def test_convert_writes_a_folder_with_a_report(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "start"
    done = convert(checkpoint, "-o", out)
    assert done.exit_code == 0, done.output
    report = json.loads((out / "conversion.json").read_text())
    network = ContentRecoveryNet.from_pretrained(out)
    assert network.config.widths == (4, 8, 16, 32, 32, 32, 32)
    assert network.metadata == {"converted_from": "ckpt.pth.tar", "parameters_taken": report["parameters_taken"]}
    theirs = torch.load(checkpoint)["state_dict"]["module.dec_4.bn.weight"]
    assert torch.equal(network.decoder[2].norm.weight, theirs)
    assert done.stdout == (
        f"content_recovery: {len(report['taken'])} tensors converted, {report['parameters_taken'] / 1e6:.1f} M of "
        f"{report['parameters'] / 1e6:.1f} M parameters; {len(report['differs'])} differ in shape, "
        f"{len(report['missing_in_theirs'])} lack a counterpart; "
        f"{len(report['missing_in_ours'])} of the reference unused\n"
    )


def test_report_option_prints_one_line_per_tensor(checkpoint: Path, tmp_path: Path) -> None:
    lines = convert(checkpoint, "-o", tmp_path / "a", "--report").stdout.splitlines()
    assert "taken    decoder.2.conv.weight <- dec_4.conv.input_conv.weight" in lines
    assert "differs  encoder.0.conv.weight: ours 4x3x7x7, enc_1.conv.input_conv.weight 4x5x7x7" in lines
    assert "ours     context.0.weight" in lines and "theirs   dec_1.conv.input_conv.bias" in lines
    assert "constant enc_2.conv.mask_conv.weight" in lines
    told = json.loads(convert(checkpoint, "-o", tmp_path / "b", "--json").stdout)
    assert told == json.loads((tmp_path / "b" / "conversion.json").read_text())
    # a line each, and the summary
    groups = ("taken", "differs", "missing_in_theirs", "missing_in_ours", "unneeded")
    assert len(lines) == 1 + sum(len(told[name]) for name in groups)


def test_converted_stage_1_gets_the_bundled_typical_poses(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(stage1(2), tmp_path / "m.pth")
    assert convert(tmp_path / "m.pth", "-o", tmp_path / "start").exit_code == 0
    network = MaskCompletionNet.from_pretrained(tmp_path / "start")
    with np.load(BUNDLED_WEIGHTS / "typical_poses.npz") as poses:
        np.testing.assert_array_equal(network.typical_poses.centres, poses["centres"])


def test_convert_error_names_the_problem(checkpoint: Path, tmp_path: Path) -> None:
    def refused(path: Path, code: int, *more: str) -> str:
        done = convert(path, "-o", tmp_path / "out", *more)
        assert done.exit_code == code and not (tmp_path / "out").exists()
        return done.stderr

    assert "weights not found: looked for" in refused(tmp_path / "none.pth", 3)
    (tmp_path / "text.pth").write_text("hello")
    assert "text.pth: not a readable checkpoint" in refused(tmp_path / "text.pth", 3)
    torch.save({"w": 3}, tmp_path / "numbers.pth")
    assert "numbers.pth: expected a state dict, tensors by name" in refused(tmp_path / "numbers.pth", 3)
    torch.save({"w": torch.zeros(1)}, tmp_path / "other.pth")
    assert "not the layout of the reference definitions" in refused(tmp_path / "other.pth", 3)
    assert "nothing agrees with content_recovery at the widths of 'paper'" in refused(
        checkpoint, 3, "--widths", "paper"
    )
    assert "widths must be file or paper" in refused(checkpoint, 2, "--widths", "huge")


def test_pickled_code_is_not_executed(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"state_dict": Touch()}, tmp_path / "evil.pth")
    done = convert(tmp_path / "evil.pth", "-o", tmp_path / "out")
    assert done.exit_code == 3 and "not a readable checkpoint" in done.stderr
    assert not (tmp_path / "touched").exists()


def test_info_prints_settings_and_marks_non_defaults(tmp_path: Path) -> None:
    manifest = json.loads((BUNDLED_WEIGHTS / "manifest.json").read_text())
    manifest["models"]["base"]["settings"] = {"crop": {"wide_scale": 2.5}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    done = CliRunner().invoke(app, ["models", "info", "--weights", str(tmp_path)])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.partition("settings ")[2].splitlines()[1:]]
    assert [line for line in lines if "*" in line] == [
        ["crop.wide_scale", "2.5", "*", "(2.2)"], ["detector.size_px", "352", "*", "(384)"],
        ["detector.second_size_px", "512", "*", "(0)"], ["detector.min_score", "0.28", "*", "(0.22)"],
        ["detector.max_iou", "0.5", "*", "(0.7)"],
    ]  # fmt: skip
    told = json.loads(CliRunner().invoke(app, ["models", "info", "--weights", str(tmp_path), "--json"]).stdout)
    assert told["settings"] == find_model("base", tmp_path).settings.as_dict()
    assert {line[0]: float(line[1]) for line in lines} == {
        f"{group}.{name}": value for group, numbers in told["settings"].items() for name, value in numbers.items()
    }
