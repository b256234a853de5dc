"""Export: what `run` loads is what was trained, and what is broken is named."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import deocclude
from deocclude.checkpoints.files import load_weights, save_weights
from deocclude.errors import DeoccludeError, UsageError, WeightsError
from deocclude.export import to_onnx
from deocclude.export.to_onnx import build_network, example_inputs, export_onnx, export_to_weights, parity
from deocclude.inference.runtime import BUNDLED_WEIGHTS, find_model, open_networks
from deocclude.models.blocks import count_parameters
from deocclude.models.box_segmenter import BoxSegmenter, BoxSegmenterConfig
from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet, to_probabilities
from deocclude.models.movenet import MoveNet
from deocclude.models.nanodet import NanoDet, NanoDetConfig
from deocclude.models.people_detector import PeopleDetector, PeopleDetectorConfig
from deocclude.types import PARSING_NAMES

NAMES = ("mask_completion", "content_recovery")


def network_of(name: str) -> nn.Module:
    """Tiny, and shallow as well: exporting takes time by the number of layers."""
    torch.manual_seed(0)
    if name == "mask_completion":
        network: nn.Module = MaskCompletionNet(
            MaskCompletionConfig(stem_width=8, widths=(8, 8), head_width=8, templates=4, template_channels=8)
        )
        network.typical_poses.centres.uniform_()
    else:
        config = ContentRecoveryConfig(widths=(8,) * 5, kernels=(3,) * 5, key_channels=4, grain=True)
        network = ContentRecoveryNet(config)
    return network.eval()


def written(folder: Path, name: str) -> Path:
    network = network_of(name)
    path = folder / f"{name}.safetensors"
    metadata = {"network": name, "config": network.config.to_dict(), "step": 9, "seed": 2, "validation": {"score": 0.5}}
    metadata["size_px"] = 96  # that of its last crops in training
    save_weights(path, network.state_dict(), metadata)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict]]:
    """A weights folder with both tiny networks, and their rows."""
    source, folder = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("weights") / "deep"
    return folder, {name: export_to_weights(written(source, name), folder, model="tiny") for name in NAMES}


def test_stage_1_fine_crop_uses_the_training_size(exported: tuple[Path, dict[str, dict]]) -> None:
    folder, rows = exported
    assert rows["mask_completion"]["size_px"] == 96 and "size_px" not in rows["content_recovery"]
    networks, _ = open_networks(find_model("tiny", folder), "cpu")
    assert [(networks[name].input_size, networks[name].fine_size) for name in NAMES] == [(256, 96), (256, 256)]


def written_but_not_exported(network: nn.Module, path: Path, sizes: str) -> float:
    """In place of `export_onnx`, which takes long, where a test is about the metadata beside the network."""
    path.write_bytes(b"onnx")
    return 0.0


def test_manifest_records_second_pass_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_onnx, "export_onnx", written_but_not_exported)
    network = network_of("mask_completion")
    path = tmp_path / "mask.safetensors"
    for learned in (True, False):
        metadata = {"network": "mask_completion", "config": network.config.to_dict(), "second_pass": learned}
        save_weights(path, network.state_dict(), metadata)
        row = export_to_weights(path, tmp_path / "weights", model="tiny")
        assert row.get("second_pass", False) is learned


def test_box_segmenter_is_exported_and_used_for_box_prompts(
    exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(exported[0], folder)
    torch.manual_seed(0)
    network = BoxSegmenter(BoxSegmenterConfig(widths=(8, 8, 8, 8), blocks=(0, 0, 0, 1), head_width=8)).eval()
    source = tmp_path / "box.safetensors"
    metadata = {"network": "mask_box", "config": network.config.to_dict(), "size_px": 96, "splits_boxes": False}
    save_weights(source, network.state_dict(), metadata)
    row = export_to_weights(source, folder, model="tiny")
    assert not row.get("splits_boxes", False) and not _splits_boxes(folder)
    with monkeypatch.context() as patch:
        onnx = (folder / row["onnx"]).read_bytes()
        patch.setattr(to_onnx, "export_onnx", lambda network, path, sizes: path.write_bytes(onnx) * 0.0)
        save_weights(source, network.state_dict(), metadata | {"splits_boxes": True})
        shutil.copytree(folder, tmp_path / "telling")
        assert export_to_weights(source, tmp_path / "telling", model="tiny")["splits_boxes"]
    assert _splits_boxes(tmp_path / "telling")
    assert row["onnx"] == "mask_box_tiny.onnx" and row["size_px"] == 96 and "second_pass" not in row
    networks, _ = open_networks(find_model("tiny", folder), "cpu")
    image, initial = example_inputs(network, 2, (96, 96)).values()
    found = networks["mask_box"](image=image.numpy(), initial=initial.numpy())
    with torch.no_grad():
        logits, features = build_network(folder / row["safetensors"])[0].eval().with_features(image, initial)
    wanted = to_probabilities(logits)
    assert set(found) == {"visible", "amodal", "features"}
    np.testing.assert_allclose(found.pop("features"), features.numpy(), atol=1e-4)
    assert features.shape == (2, 8, 6, 6)
    for name, values in found.items():
        np.testing.assert_allclose(values, getattr(wanted, name).numpy(), atol=1e-4)
    photo = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    asked = []
    pipe = deocclude.load("tiny", device="cpu", weights_dir=folder)
    box_segmenter = pipe._stages.completion._box_segmenter

    class Counted:
        input_size, fine_size = box_segmenter.input_size, box_segmenter.fine_size

        def __call__(self, **inputs):
            asked.append(inputs["initial"])
            return box_segmenter(**inputs)

    pipe._stages.completion._box_segmenter = Counted()
    pipe(photo, masks=[np.arange(160) + 0 * np.arange(120)[:, None] < np.arange(120)[:, None]])
    assert not asked, "a mask is stage 1's alone"
    pipe(photo, boxes_xyxy=[(20, 20, 90, 110)])
    assert asked


def _splits_boxes(folder: Path) -> bool:
    """Whether the model of a weights folder does."""
    return deocclude.load("tiny", device="cpu", weights_dir=folder)._stages.completion._splits_boxes


def test_exported_files_match_the_manifest(exported: tuple[Path, dict[str, dict]]) -> None:
    folder, rows = exported
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["format"] == 1 and manifest["parsing_names"] == list(PARSING_NAMES)
    entry = manifest["models"]["tiny"]
    assert (entry["input_size"], entry["licence"], entry["data"]) == (256, "not stated", "not stated")
    assert entry["networks"] == rows
    names = {"manifest.json", "typical_poses.npz"}
    for name, row in rows.items():
        assert (row["onnx"], row["safetensors"]) == (f"{name}_tiny.onnx", f"{name}_tiny.safetensors")
        for kind in ("onnx", "safetensors"):
            assert row["sha256"][kind] == hashlib.sha256((folder / row[kind]).read_bytes()).hexdigest()
            names.add(row[kind])
        assert b"stack_trace" not in (folder / row["onnx"]).read_bytes(), "no source lines with this computer's paths"
        assert row["parameters"] == count_parameters(network_of(name))
        assert 0 <= row["parity"] < to_onnx.PARITY
        assert row["opset"] == 18 and row["sizes"] == "any"
        assert row["size_step_px"] == {"mask_completion": 8, "content_recovery": 32}[name]
        assert (row["steps"], row["seed"], row["figures"]) == (9, 2, {"score": 0.5})
        weights, _ = load_weights(folder / row["safetensors"])
        for key, value in network_of(name).state_dict().items():
            if value.ndim == 4 and key.endswith("weight"):  # convolutions are stored rounded, and only they
                assert weights[key].dtype == torch.float16
                torch.testing.assert_close(weights[key].float(), value, rtol=2**-11, atol=2**-24)
            else:
                assert torch.equal(weights[key], value), key
    assert {p.name for p in folder.iterdir()} == names, "no temporary file is left"
    with np.load(folder / "typical_poses.npz") as file:
        np.testing.assert_array_equal(file["centres"], network_of("mask_completion").typical_poses.centres)


def test_onnx_inputs_and_outputs_match_the_contract(exported: tuple[Path, dict[str, dict]]) -> None:
    folder, rows = exported
    sessions = {name: onnxruntime.InferenceSession(str(folder / row["onnx"])) for name, row in rows.items()}

    def channels(puts) -> dict[str, int]:
        assert all(isinstance(size, str) for p in puts for size in (p.shape[0], *p.shape[2:])), "all else is dynamic"
        return {p.name: p.shape[1] for p in puts}

    mask, content = sessions["mask_completion"], sessions["content_recovery"]
    assert channels(mask.get_inputs()) == {"image": 3, "initial": 1}
    parsing = {"visible_parsing": 12, "amodal_parsing": 12}
    features = {"stem": 8, "whole": 8, "poses": 8}
    assert channels(mask.get_outputs()) == {"visible": 1, "amodal": 1} | parsing | features
    assert channels(content.get_inputs()) == {"image": 3, "visible": 1, "amodal": 1} | parsing
    assert channels(content.get_outputs()) == {"content": 3}


@pytest.mark.parametrize("batch_and_size", [(2, (256, 256)), (1, (64, 96)), (5, (32, 32)), (1, (160, 32))])
@pytest.mark.parametrize("name", NAMES)
def test_onnx_matches_torch(
    exported: tuple[Path, dict[str, dict]], name: str, batch_and_size: tuple[int, tuple[int, int]]
) -> None:
    folder, rows = exported
    network = network_of(name)
    inputs = example_inputs(network, *batch_and_size)
    inputs["image"] = torch.rand(inputs["image"].shape, generator=torch.Generator().manual_seed(77))
    found = onnxruntime.InferenceSession(str(folder / rows[name]["onnx"])).run(
        None, {k: v.numpy() for k, v in inputs.items()}
    )
    with torch.no_grad():
        if name == "mask_completion":
            output, features = network.with_features(*inputs.values())
            wanted = (*to_probabilities(output), *features)
        else:
            wanted = (network(*inputs.values()),)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=to_onnx.PARITY)
    if name == "mask_completion":
        assert (found[1] >= found[0]).all()


def test_pipeline_runs_the_exported_networks(exported: tuple[Path, dict[str, dict]], person) -> None:
    folder, _ = exported
    pipe = deocclude.load("tiny", device="cpu", weights_dir=folder, threads=1)
    result = pipe(person.photo, masks=[person.visible])
    (found,) = result.people
    assert result.model == "tiny" and found.amodal_mask.shape == person.visible.shape
    assert not (found.visible_mask & ~found.amodal_mask).any()
    outside = ~found.invisible_mask
    np.testing.assert_array_equal(found.content[outside], person.photo[outside])
    damaged = folder.parent / "damaged"
    damaged.mkdir()
    for path in folder.iterdir():
        data = path.read_bytes()
        (damaged / path.name).write_bytes(data[:-1] + b"?" if path.name == "content_recovery_tiny.onnx" else data)
    with pytest.raises(WeightsError, match=r"content_recovery_tiny\.onnx: damaged weights"):
        deocclude.load("tiny", device="cpu", weights_dir=damaged)


def test_example_inputs_have_valid_shapes_and_masks() -> None:
    mask, content = (example_inputs(network_of(name), 3, (64, 64)) for name in NAMES)
    assert {k: tuple(v.shape) for k, v in mask.items()} == {"image": (3, 3, 64, 64), "initial": (3, 1, 64, 64)}
    assert list(content) == ["image", "visible", "amodal", "visible_parsing", "amodal_parsing"]
    assert (content["visible"] <= content["amodal"]).all() and content["visible"].sum() < content["amodal"].sum()
    torch.testing.assert_close(content["amodal_parsing"].sum(1), torch.ones(3, 16, 16))
    assert torch.equal(example_inputs(network_of("mask_completion"), 3, (64, 64))["image"], mask["image"])


class Brighten(nn.Module):
    """Not one of ours: exported as if it were content recovery."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))
        self.config = ContentRecoveryConfig()

    def forward(self, image, visible, amodal, visible_parsing, amodal_parsing):
        parts = (visible_parsing + amodal_parsing).mean() * 0
        return image * visible + self.by * amodal + parts


def test_parity_difference_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    network = Brighten(0.5)
    assert export_onnx(network, path, size_px=128, sizes="fixed") < 1e-6
    shapes = {tuple(i.shape[1:]) for i in onnxruntime.InferenceSession(str(path)).get_inputs()}
    assert shapes == {(3, 128, 128), (1, 128, 128), (12, 32, 32)}
    # the same file against other weights
    other = Brighten(0.75)
    assert parity(other, path, example_inputs(other, 1, (128, 128))) == pytest.approx(0.25, abs=1e-6)
    monkeypatch.setattr(to_onnx, "parity", lambda *_: 0.25)
    with pytest.raises(DeoccludeError, match=r"net\.onnx: ONNX Runtime differs from torch by 0\.25, allowed is 0\.002"):
        export_onnx(network, path, size_px=128, sizes="fixed")


def test_data_note_and_licence_are_stated_on_export_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_onnx, "export_onnx", written_but_not_exported)
    config = PeopleDetectorConfig(stem_width=8, widths=(8, 8, 8), blocks=(0, 0, 0))
    meta = {"network": "people_detector", "config": config.to_dict()}
    detector, stage_1, folder = (
        tmp_path / "found.safetensors",
        written(tmp_path, "mask_completion"),
        tmp_path / "weights",
    )
    save_weights(detector, PeopleDetector(config).state_dict(), meta)

    def stated(*sources: Path, **more: str) -> tuple[str, str, str]:
        """The model's licence and data, and the detector's own data, after these exports."""
        for source in sources:
            export_to_weights(source, folder, **more)
        entry = json.loads((folder / "manifest.json").read_text())["models"]["base"]
        return entry["licence"], entry["data"], entry["networks"]["people_detector"]["data"]

    assert stated(stage_1, detector) == ("not stated",) * 3
    assert stated(stage_1, licence="CC0", data_note="my photos") == ("CC0", "my photos", "not stated")
    assert stated(detector, data_note="my scenes") == ("CC0", "my photos", "my scenes")
    assert stated(stage_1, detector) == ("CC0", "my photos", "my scenes"), "exported again, nothing is lost"


def test_exporting_into_the_package_keeps_what_its_manifest_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_onnx, "export_onnx", written_but_not_exported)
    shipped = json.loads((BUNDLED_WEIGHTS / "manifest.json").read_text())["models"]["base"]
    (tmp_path / "weights").mkdir()
    shutil.copy(BUNDLED_WEIGHTS / "manifest.json", tmp_path / "weights")
    export_to_weights(written(tmp_path, "mask_completion"), tmp_path / "weights")
    after = json.loads((tmp_path / "weights" / "manifest.json").read_text())["models"]["base"]
    assert (after["licence"], after["data"]) == (shipped["licence"], shipped["data"])
    assert after["networks"]["people_detector"] == shipped["networks"]["people_detector"]


def test_a_failed_export_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path, "mask_completion")

    def failing(network: nn.Module, path: Path, *, sizes: str) -> float:
        path.write_bytes(b"half")
        raise DeoccludeError("differs")

    monkeypatch.setattr(to_onnx, "export_onnx", failing)
    with pytest.raises(DeoccludeError, match="differs"):
        export_to_weights(source, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
    (tmp_path / "weights").mkdir()
    with pytest.raises(DeoccludeError, match="differs"):
        export_to_weights(source, tmp_path / "weights")
    assert list((tmp_path / "weights").iterdir()) == []


def test_error_names_invalid_weights_or_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path, "mask_completion")
    assert isinstance(build_network(source)[0], MaskCompletionNet)
    with pytest.raises(WeightsError, match="weights not found: looked for"):
        build_network(tmp_path / "none.safetensors")
    save_weights(tmp_path / "other.safetensors", {"w": torch.zeros(1)}, {"network": "discriminator"})
    with pytest.raises(WeightsError, match="expected weights of mask_completion or content_recovery or people_det"):
        build_network(tmp_path / "other.safetensors")
    monkeypatch.setattr(to_onnx, "export_onnx", written_but_not_exported)
    folder = tmp_path / "weights"
    folder.mkdir()
    for text in ("{", "[]", '{"format": 2, "models": {}}'):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(WeightsError, match=r"manifest\.json: (not|expected) a weights manifest"):
            export_to_weights(source, folder)
        assert (folder / "manifest.json").read_text() == text
        assert [path.name for path in folder.iterdir()] == ["manifest.json"], "no network is written"
    source.write_bytes(source.read_bytes()[:200])
    with pytest.raises(WeightsError, match=r"mask_completion\.safetensors: not a readable \.safetensors file"):
        export_to_weights(source, folder)


def test_threshold_shift_changes_only_the_amodal_logits() -> None:
    network = network_of("mask_completion").eval()
    inputs = to_onnx.example_inputs(network, 1, (64, 64)).values()
    with torch.no_grad():
        before = network(*inputs)
        to_onnx.shift_threshold(network, 0.7)
        after = network(*inputs)
    # a probability of 0.7 has become one of 0.5
    assert torch.equal(before.visible, after.visible) and torch.equal(before.amodal_parsing, after.amodal_parsing)
    torch.testing.assert_close(torch.sigmoid(before.amodal) >= 0.7, after.amodal >= 0)
    with pytest.raises(UsageError, match="between 0 and 1, got 1"):
        to_onnx.shift_threshold(network, 1.0)


def test_input_size_step_is_the_total_stride() -> None:
    steps = {
        MaskCompletionNet: 32, ContentRecoveryNet: 128, PeopleDetector: 32, NanoDet: 32, MoveNet: 32, BoxSegmenter: 32,
    }  # fmt: skip
    with torch.device("meta"):
        assert {kind: to_onnx.size_step_px(kind()) for kind in steps} == steps


def test_sizes_are_any_or_fixed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sizes must be any or fixed, got 'all'"):
        export_to_weights(written(tmp_path, "mask_completion"), tmp_path / "out", sizes="all")
    assert not (tmp_path / "out").exists()


def test_metadata_of_an_exported_network_names_no_folder(tmp_path: Path) -> None:
    network = NanoDet(NanoDetConfig(widths=(4, 4, 8, 8), blocks=(1, 1, 1, 1), pyramid_width=8, bins=5))
    metadata = {
        "network": "nanodet", "config": network.config.to_dict(),
        "train_config": {"data": {"root": "/home/me/data"}, "people": {"init": "/tmp/x/nanodet.safetensors"}},
    }  # fmt: skip
    save_weights(tmp_path / "best.safetensors", network.state_dict(), metadata)
    row = to_onnx.export_to_weights(tmp_path / "best.safetensors", tmp_path / "weights", sizes="fixed")
    assert row["sizes"] == "any", "a detector takes photos of any size"
    _, kept = to_onnx.build_network(tmp_path / "weights" / row["safetensors"])
    assert kept["train_config"] == {"data": {"root": "data"}, "people": {"init": "nanodet.safetensors"}}
