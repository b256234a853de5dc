"""The prompted head from its weights to `run --extent`, an open photo and its evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from deocclude.cli.app import app
from deocclude.errors import UsageError
from deocclude.export.to_onnx import export_to_weights
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.inference.runtime import STAGE1_FEATURES, find_model, open_networks
from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from deocclude.models.prompted_head import PromptedHead, PromptedHeadConfig
from deocclude.pipeline import load
from fresh_networks import stored

HEAD = PromptedHeadConfig(
    stem_width=8, feature_width=8, pose_channels=8, widths=(8, 8), head_width=8, parsing_channels=32
)  # fmt: skip


def networks() -> dict[str, torch.nn.Module]:
    """Tiny ones: stage 1 says that the mask is the person, the head fills the extent."""
    torch.manual_seed(0)
    stage1 = MaskCompletionNet(
        MaskCompletionConfig(stem_width=8, widths=(8, 8), head_width=8, templates=4, template_channels=8)
    )
    stage1.typical_poses.centres.uniform_()
    head = PromptedHead(HEAD)
    head.start_from_stage1(stage1.amodal_head)
    torch.nn.init.normal_(head.join.weight, std=0.3)
    content = ContentRecoveryNet(ContentRecoveryConfig(widths=(8,) * 5, kernels=(3,) * 5, key_channels=4))
    return {"mask_completion": stage1, "mask_prompted": head, "content_recovery": content}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, folder = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("weights")
    for name, network in networks().items():
        export_to_weights(stored(source / f"{name}.safetensors", name, network), folder)
    return folder


def test_head_is_exported_beside_stage_1(weights):
    row = json.loads((weights / "manifest.json").read_text())["models"]["base"]["networks"]["mask_prompted"]
    assert row["onnx"] == "mask_prompted_base.onnx" and row["parity"] < 1e-4 and row["sizes"] == "any"
    opened, _ = open_networks(find_model("base", weights), threads=1)
    stage1 = opened["mask_completion"]
    assert set(stage1.output_names).isdisjoint(STAGE1_FEATURES), "a usual run does not copy the features"
    inputs = {"image": np.zeros((1, 3, 64, 64)), "initial": np.ones((1, 1, 64, 64))}
    found = stage1.select(("amodal", *STAGE1_FEATURES), **inputs)
    assert [found[name].shape for name in STAGE1_FEATURES] == [(1, 8, 32, 32), (1, 8, 16, 16), (1, 8, 16, 16)]


def test_prompts_change_the_completion_and_nothing_else(weights, person):
    pipe = load(weights_dir=weights, device="cpu", threads=1)
    plain = pipe(person.photo, masks=[person.visible], complete="always")
    prompts = CompletionPrompts(extent_xyxy=(200, 40, 440, 460), points=((320.0, 400.0),), pose=2)
    told = pipe(person.photo, masks=[person.visible], completion_prompts=prompts)
    one, other = plain.people[0], told.people[0]
    assert not np.array_equal(one.amodal_prob, other.amodal_prob)
    np.testing.assert_array_equal(other.visible_mask & one.visible_mask, other.visible_mask)
    np.testing.assert_array_equal(told.content[person.visible], person.photo[person.visible])
    again = pipe(person.photo, masks=[person.visible], completion_prompts={1: prompts})
    np.testing.assert_array_equal(again.content, told.content)


def test_open_photo_answers_as_a_call(weights, person):
    pipe = load(weights_dir=weights, device="cpu", threads=1)
    editing = pipe.edit(person.photo, masks=[person.visible])
    prompts = CompletionPrompts(extent_xyxy=(200, 40, 440, 460))
    called = pipe(person.photo, masks=[person.visible], completion_prompts=prompts)
    np.testing.assert_array_equal(editing.complete(1, prompts).content, called.content)
    found = editing.hypotheses(1, 4)
    assert len(found) == 4 and sum(one.probability for one in found) == pytest.approx(1)
    chosen = editing.complete(1, found[2].prompts).people[0]
    np.testing.assert_array_equal(chosen.amodal_mask, found[2].amodal_mask)


@pytest.fixture
def photo(tmp_path, person) -> Path:
    Image.fromarray(person.photo).save(tmp_path / "photo.png")
    Image.fromarray(person.visible).save(tmp_path / "mask.png")
    return tmp_path / "photo.png"


def run(*arguments: object):
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def test_command_line_takes_prompts_and_knows_done_work(weights, photo, tmp_path):
    common = [photo, "--mask", tmp_path / "mask.png", "--weights", weights, "-o", tmp_path / "out", "--json"]
    told = [*common, "--extent", "200,40,440,460", "--not-point", "1:430,60"]
    assert run(*told).exit_code == 2, "some with a number and others without"
    told[-1] = "430,60"
    assert json.loads(run(*told).stdout)["status"] == "done"
    assert json.loads(run(*told).stdout)["status"] == "skipped"
    told[-1] = "430,70"
    assert json.loads(run(*told).stdout)["status"] == "done", "another prompt is another result"
    mask = Image.new("L", (640, 480))
    mask.paste(255, (0, 0, 640, 300))
    mask.save(tmp_path / "front.png")
    assert json.loads(run(*common, "--front", tmp_path / "front.png").stdout)["status"] == "done"


def test_samples_are_several_results_most_probable_first(weights, person):
    pipe = load(weights_dir=weights, device="cpu", threads=1)
    prompts = CompletionPrompts(extent_xyxy=(200, 40, 440, 460))
    samples = pipe.samples(person.photo, 3, masks=[person.visible], completion_prompts=prompts)
    probabilities = [sample.people[0].sample_probability for sample in samples]
    assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) < 1
    editing = pipe.edit(person.photo, masks=[person.visible])
    editing.complete(1, prompts)
    for sample, one in zip(samples, editing.hypotheses(1, 3), strict=True):
        np.testing.assert_array_equal(sample.content[person.visible], person.photo[person.visible])
        np.testing.assert_array_equal(sample.people[0].amodal_mask, one.amodal_mask)
        assert sample.to_coco()["annotations"][0]["sample_probability"] == pytest.approx(one.probability, abs=1e-6)
    assert pipe(person.photo, masks=[person.visible]).people[0].sample_probability is None
    nobody_hidden = pipe.samples(person.photo, 2, boxes_xyxy=[(200, 40, 440, 460)], min_hidden_probability=1.0)
    np.testing.assert_array_equal(nobody_hidden[0].content, nobody_hidden[1].content)
    for count, options in ((5, {}), (0, {}), (2, {"uncrop": True}), (2, {"complete": "never"})):
        with pytest.raises(UsageError):
            pipe.samples(person.photo, count, masks=[person.visible], **options)


def test_command_line_writes_samples(weights, photo, tmp_path):
    out = tmp_path / "out"
    common = [photo, "--mask", tmp_path / "mask.png", "--weights", weights, "--complete", "always", "-o", out]
    told = [*common, "--extent", "200,40,440,460", "--save", "content,amodal,coco", "--samples"]
    report = json.loads(run(*told, 2, "--json").stdout)
    assert report["status"] == "done" and len(report["people"][0]["sample_probabilities"]) == 2
    kinds = ("deoccluded.png", "person1.amodal.png", "deoccluded.json")
    assert sorted(path.name for path in out.iterdir()) == sorted(f"photo.sample{n}.{k}" for n in (1, 2) for k in kinds)
    documents = [json.loads((out / f"photo.sample{n}.deoccluded.json").read_text()) for n in (1, 2)]
    written = [one["annotations"][0]["sample_probability"] for one in documents]
    assert written == pytest.approx(report["people"][0]["sample_probabilities"], abs=1e-6)
    assert json.loads(run(*told, 2, "--json").stdout)["status"] == "skipped"
    (out / "photo.sample2.person1.amodal.png").unlink()
    assert json.loads(run(*told, 2, "--json").stdout)["status"] == "done", "one file of a sample is missing"
    assert ", samples 0." in run(*told, 2, "--overwrite").stdout
    refused = run(*told, 5)
    assert refused.exit_code == 2 and "--samples 5: model base gives 4 at most" in refused.output
    for place in ("-", tmp_path / "one.png"):
        refused = run(*common[:-1], place, "--samples", 2)
        assert refused.exit_code == 2 and "samples are several" in refused.output


def test_prompts_belong_to_one_photo(weights, photo, tmp_path):
    shutil.copy(photo, tmp_path / "other.png")
    failed = run(photo, tmp_path / "other.png", "--weights", weights, "--extent", "1,2,30,40")
    assert failed.exit_code == 2 and "completion prompts belong to one photo, but 2 photos were given" in failed.output


def test_evaluation_measures_prompts(weights, tmp_path):
    from drawn_set import write_drawn_set

    write_drawn_set(tmp_path / "set")
    arguments = ["eval", tmp_path / "set", "--completion-prompts", "--weights", weights, "-o", tmp_path / "out", "-q"]
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "out" / "prompts.json").read_text())
    assert summary["people"] == len(summary["invisible_iou"]["without"]) > 0
    assert all(len(scores) == summary["people"] for scores in summary["invisible_iou"].values())
    best, first, levels = (np.array(summary["invisible_iou"][kind]) for kind in ("best", "first", "levels"))
    assert (best >= first).all() and 0 <= summary["calibration_error"] <= 1
    assert (levels >= np.array(summary["invisible_iou"]["without"]) - 0.5).all()
    assert "| box and two clicks" in (tmp_path / "out" / "prompts.md").read_text()
