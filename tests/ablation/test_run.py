"""`deocclude ablate`, on drawn people and networks of a few channels: the list is validated, run, and reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

import deocclude.ablation.run as run_module
from datafolder import draw_data_folder
from deocclude.ablation.run import Ablation, run
from deocclude.checkpoints.files import save_weights
from deocclude.cli.app import app
from deocclude.data.evalsets.persons import write_eval_set
from deocclude.errors import ConfigError, TrainingError, UsageError
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from deocclude.train.methods import STAGES
from drawn_set import draw_person
from repository import ROOT

CONFIGS = ROOT / "configs"
NETWORK = {"stem_width": 8, "widths": [8, 8], "head_width": 8, "pose_guidance": False}
ROWS: dict[str, Any] = {
    "mask": {
        "ours": {"mask.network": NETWORK},
        "no-tight-crop": {"mask.network": NETWORK, "tight_crop": False},
        "unet": {"mask.model": "unet", "mask.network": {"widths": [4, 8]}},
    },
    "content": {"pix2pix": {"content.model": "pix2pix", "content.network": {"widths": [4, 8, 8]}}},
    "single": {"one": {"single.network": {"widths": [4, 8]}}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, an evaluation set, stage 1 weights, a config, and a list of five rows over it."""
    root = tmp_path_factory.mktemp("ablation")
    draw_data_folder(root / "data")
    samples = [draw_person("ann", "object", 20), draw_person("bob", "low", 44), draw_person("cid", "none", 0)]
    write_eval_set(root / "set", samples, name="drawn", seed=3, source="code")
    torch.manual_seed(0)
    config = MaskCompletionConfig(stem_width=8, widths=(8, 8), head_width=8, pose_guidance=False)
    parser = root / "parser.safetensors"
    about = {"network": "mask_completion", "config": config.to_dict()}
    save_weights(parser, MaskCompletionNet(config).state_dict(), about)
    schedule = {"steps": 2, "phases": [{"until": 1.0, "size_px": 32, "batch_size": 2}], "warmup_steps": 1}
    base = {
        "device": "cpu", "threads": 1, "workers": 0, "validation_samples": 8, "precision": "float32",
        "data": {"root": str(root / "data"), "sources": {"cutouts": 1.0}},
        "mask": {"schedule": schedule}, "single": {"schedule": schedule},
        "content": {"schedule": schedule, "features": str(parser)},
    }  # fmt: skip
    (root / "base.yaml").write_text(yaml.safe_dump(base))
    (root / "list.yaml").write_text(
        yaml.safe_dump({"config": "base.yaml", "data": str(root / "set"), **ROWS}, sort_keys=False)
    )
    return root


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """The whole list, done once: its folder, its table, and what was reported."""
    out, told = tmp_path_factory.mktemp("out") / "runs", []
    table = run(Ablation.read(folder / "list.yaml"), out, tell=told.append)
    return out, table, told


def ablate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ablate", *map(str, arguments)])


def test_every_row_is_trained_and_measured(done) -> None:
    out, table, told = done
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == ["ours", "no-tight-crop", "unet", "pix2pix", "one"] and table["missing"] == []
    assert all(row["steps"] == 2 and row["parameters"] > 0 for row in rows.values())
    assert [list(row["masks"]) for row in rows.values()] == [["exact", "box"]] * 3 + [[], ["exact", "box"]]
    assert [row["content"] is not None for row in rows.values()] == [False, False, False, True, True]
    assert table["reference"] == {"masks": "ours", "content": "pix2pix"}
    assert rows["ours"]["against"] == [] and rows["unet"]["against"]
    assert {found["from"] for found in rows["one"]["against"]} == {"exact", "box", "true masks"}
    assert set(table["no_network"]["masks"]) == {"initial mask", "convex hull"}
    assert json.loads((out / "ablation.json").read_text()) == table
    assert (out / "ablation.md").read_text().count("| one ") == 4
    assert "3/5 unet: 2 steps" in told


def test_row_metrics_equal_the_eval_summary(done) -> None:
    out, table, _ = done
    summary = json.loads((out / "unet" / "eval.json").read_text())
    assert table["rows"][2]["masks"]["box"] == summary["masks"]["box"]["deocclude"]
    assert summary["set"]["name"] == "drawn" and summary["set"]["records"] == 3


def test_inference_only_variant_reuses_trained_weights(done) -> None:
    out, table, _ = done
    assert not (out / "no-tight-crop" / "best.safetensors").exists()
    ours, wide = table["rows"][:2]
    assert ours["parameters"] == wide["parameters"] and ours["seconds"] == wide["seconds"]
    assert ours["masks"] != wide["masks"]


def test_finished_row_is_skipped(done, folder: Path) -> None:
    out, table, _ = done
    before = (out / "unet" / "best.safetensors").stat().st_mtime_ns
    told: list[str] = []
    again = run(Ablation.read(folder / "list.yaml"), out, only=["unet"], tell=told.append)
    assert told == ["1/1 unet: done before"]
    assert (out / "unet" / "best.safetensors").stat().st_mtime_ns == before and again == table


def test_changed_config_in_a_used_output_folder_is_rejected(done, folder: Path) -> None:
    out, *_ = done
    longer = Ablation.read(folder / "list.yaml", ["mask.schedule.steps=3"])
    with pytest.raises(UsageError, match=f"{out / 'unet'} was trained with another config: retrain"):
        run(longer, out, only=["unet"])


def test_interrupted_run_keeps_finished_work_and_resumes(folder: Path, tmp_path: Path, monkeypatch) -> None:
    listed = Ablation.read(folder / "list.yaml")
    measure = run_module._measure

    def interrupted(one, row, *rest):
        if row.name == "unet":
            raise KeyboardInterrupt
        measure(one, row, *rest)

    monkeypatch.setattr(run_module, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(listed, tmp_path, only=["ours", "unet"])
    table = json.loads((tmp_path / "ablation.json").read_text())
    assert [row["name"] for row in table["rows"]] == ["ours"] and "unet" in table["missing"]
    monkeypatch.setattr(run_module, "_measure", measure)
    trained = (tmp_path / "unet" / "best.safetensors").stat().st_mtime_ns
    table = run(listed, tmp_path, only=["ours", "unet"])
    assert [row["name"] for row in table["rows"]] == ["ours", "unet"]
    assert (tmp_path / "unet" / "best.safetensors").stat().st_mtime_ns == trained, "it was trained already"


def test_failed_row_is_reported_and_other_rows_continue(folder: Path, tmp_path: Path, monkeypatch) -> None:
    train = run_module._train

    def diverging(row, *rest, **options):
        if row.name == "ours":
            raise TrainingError("mask: the loss is nan")
        train(row, *rest, **options)

    monkeypatch.setattr(run_module, "_train", diverging)
    result = ablate("-c", folder / "list.yaml", "-o", tmp_path, "--only", "ours", "--only", "unet")
    assert result.exit_code == 5
    assert "1/2 ours: failed: mask: the loss is nan" in result.stderr
    assert "- failed: ours: mask: the loss is nan" in result.stdout and "| unet " in result.stdout
    monkeypatch.setattr(run_module, "_train", train)
    result = ablate("-c", folder / "list.yaml", "-o", tmp_path, "--only", "ours", "--json")
    assert result.exit_code == 0 and "failed" not in result.stdout


def test_row_with_invalid_stage_config_can_be_corrected_and_rerun(folder: Path, tmp_path: Path, monkeypatch) -> None:
    losses = {"mask.losses": {"amodal_ce": 1.0, "perceptual": 0.1}}  # of no features: known when the stage is built
    listed = {"config": str(folder / "base.yaml"), "data": str(folder / "set")}
    path = tmp_path / "list.yaml"

    def write(**rows: dict) -> None:
        path.write_text(yaml.safe_dump(listed | {"mask": rows}, sort_keys=False))

    write(wrong=ROWS["mask"]["ours"] | losses, unet=ROWS["mask"]["unet"])
    result = ablate("-c", path, "-o", tmp_path / "out")
    assert result.exit_code == 5 and "1/2 wrong: failed: mask.parsing_weights: name stage 1's" in result.stderr
    assert "| unet " in result.stdout
    write(wrong=ROWS["mask"]["ours"], unet=ROWS["mask"]["unet"])
    monkeypatch.setattr(run_module, "evaluate", out_of_memory)
    result = ablate("-c", path, "-o", tmp_path / "out")
    assert result.exit_code == 5, "trained, where nothing stands in the way any more, and then not measured"
    assert "1/2 wrong: failed: out of memory" in result.stderr and "2/2 unet: done before" in result.stderr
    assert (tmp_path / "out" / "wrong" / "best.safetensors").is_file()


def out_of_memory(*_: object, **__: object) -> None:
    raise RuntimeError("out of memory\nbacktrace")


def test_rebuilt_eval_set_triggers_evaluation_but_no_training(folder: Path, tmp_path: Path) -> None:
    def build(*people: str) -> None:
        samples = [draw_person(name, "object", 20) for name in people]
        write_eval_set(tmp_path / "set", samples, name="drawn", seed=3, source="code", overwrite=True)

    build("ann", "bob")
    listed, told = Ablation.read(folder / "list.yaml", data=tmp_path / "set"), []
    run(listed, tmp_path / "out", only=["ours", "unet"])
    trained = (tmp_path / "out" / "unet" / "best.safetensors").stat().st_mtime_ns
    build("cid", "dan", "eve")
    anew = Ablation.read(folder / "list.yaml", data=tmp_path / "set")
    table = run(anew, tmp_path / "out", only=["unet"], tell=told.append)
    assert [row["name"] for row in table["rows"]] == ["unet"] and told[-1] == "1/1 unet: measuring"
    assert (tmp_path / "out" / "unet" / "best.safetensors").stat().st_mtime_ns == trained, "and not trained again"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {}}, "unknown key rows"),
        ({"mask": {"Ours": {}}}, "mask.Ours: names must be unique, of a-z, 0-9 and -"),
        ({"single": {"ours": {}}}, "single.ours: names must be unique"),
        ({"mask": {"a": {"mask.network.depth": 3}}}, "mask.a: unknown key mask.network.depth"),
        ({"mask": {"a": {"mask.model": "resnet"}}}, "mask.a: mask.model: choose from hourglass, unet"),
        ({"mask": {"a": {"tight_crop": "no"}}}, "mask.a: tight_crop: true or false, got 'no'"),
        ({"content": {"a": {"content.parsing_weights": None}}}, "content.a: content.parsing_weights: name stage 1's"),
        ({"set": {"mask.losses.focal": 1.0}}, "mask.ours: unknown key mask.losses.focal"),
        ({"data": None}, "data: name an evaluation set to measure on"),
        ({"mask": {}, "content": {}, "single": {}}, "no rows: name some under mask, content, single"),
    ],
)
def test_invalid_ablation_list_is_rejected_before_any_run(folder: Path, tmp_path: Path, changes, message: str) -> None:
    listed = {"config": str(folder / "base.yaml"), "data": str(folder / "set"), **ROWS} | changes
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump(listed, sort_keys=False))
    with pytest.raises(ConfigError) as caught:
        Ablation.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_unknown_row_and_missing_eval_set_give_one_line_errors(folder: Path, tmp_path: Path) -> None:
    for options, code, message in (
        (["--only", "unnet"], 2, "error: --only unnet: "),
        (["--eval-set", tmp_path / "nowhere"], 1, "error: no evaluation set: looked for"),
    ):
        result = ablate("-c", folder / "list.yaml", "-o", tmp_path / "out", *options)
        assert (result.exit_code, result.stdout) == (code, "") and result.stderr.startswith(message)
        assert result.stderr.count("\n") == 1


def test_set_without_unoccluded_truth_is_rejected_for_stage_2_rows(folder: Path, tmp_path: Path) -> None:
    untold = replace(draw_person("ann", "unknown", 20), truth=None)
    write_eval_set(tmp_path / "set", [untold], name="annotated", seed=3, source="code")
    result = ablate("-c", folder / "list.yaml", "-o", tmp_path / "out", "--eval-set", tmp_path / "set")
    assert (result.exit_code, result.stdout) == (1, "")
    untold_line = f"error: {tmp_path / 'set'} has no unoccluded truth: rows of stage 2 cannot be measured on it\n"
    assert result.stderr == untold_line and not (tmp_path / "out" / "ablation.md").exists()


def test_shipped_ablation_rows_share_schedule_preset_and_seed() -> None:
    listed = Ablation.read(CONFIGS / "ablations.yaml")
    for stage in STAGES:
        rows = [row for row in listed.rows if row.stage == stage]
        assert len({row.section.schedule for row in rows}) == 1
        assert {row.section.preset for row in rows} == {"small"} and {row.config.seed for row in rows} == {0}
        assert len({row.fingerprint for row in rows}) == len(rows) - (stage == "mask"), "no-tight-crop shares ours"
    assert listed.trains_in(listed.pick(["no-tight-crop"])[0]) == "ours"
    # every method there is has a row, but for the network that sees boxes alone: rows are measured from masks as well
    from deocclude.train.methods import CONTENT_METHODS, MASK_METHODS, SINGLE_METHODS

    kinds = {method.kind for methods in (MASK_METHODS, CONTENT_METHODS, SINGLE_METHODS) for method in methods.values()}
    assert {row.method.kind for row in listed.rows} == kinds - {"mask_box"}
