"""Networks in folders: round trips, other verbs that read the folder, and one-line errors for missing files."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from deocclude.checkpoints import hub
from deocclude.checkpoints.files import WEIGHTS_NAME, save_weights, start_from
from deocclude.errors import WeightsError
from deocclude.export.to_onnx import NETWORKS, build_network
from deocclude.models.box_segmenter import BoxSegmenter, BoxSegmenterConfig
from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from deocclude.models.movenet import MoveNet, MoveNetConfig
from deocclude.models.nanodet import NanoDet, NanoDetConfig
from deocclude.models.people_detector import PeopleDetector, PeopleDetectorConfig
from deocclude.models.prompted_head import PromptedHead, PromptedHeadConfig
from repository import ROOT

TOLD = {"step": 7, "seed": 2, "validation": {"score": 0.5}}
TINY = {
    MaskCompletionNet: MaskCompletionConfig(
        stem_width=8, widths=(8, 8), head_width=8, templates=4, template_channels=8, parsing_guidance=False
    ),
    ContentRecoveryNet: ContentRecoveryConfig(widths=(8,) * 5, kernels=(3,) * 5, key_channels=4, place_px=8),
    NanoDet: NanoDetConfig(widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1), pyramid_width=8, bins=4),
    MoveNet: MoveNetConfig(
        stem_width=8,
        widths=(8, 8, 8, 16),
        blocks=((8, 8, 1), (16, 8, 2), (16, 8, 2), (16, 8, 2), (16, 16, 2)),
        taps=(1, 2, 3),
        last_width=16,
        pyramid_widths=(8, 8, 8),
        head_width=8,
    ),
    PeopleDetector: PeopleDetectorConfig(stem_width=8, widths=(8, 8, 8), blocks=(0, 1, 1)),
    BoxSegmenter: BoxSegmenterConfig(widths=(8, 8, 8, 8), blocks=(0, 0, 0, 1), head_width=8),
    PromptedHead: PromptedHeadConfig(stem_width=8, feature_width=8, pose_channels=8, widths=(8, 8), head_width=8),
}


def tiny(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind(TINY[kind])


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in mine.items())


def test_every_exportable_network_can_be_saved() -> None:
    assert set(NETWORKS) == set(TINY)
    assert [c.network_name for c in NETWORKS] == [
        "mask_completion", "content_recovery", "people_detector", "nanodet", "movenet", "mask_box", "mask_prompted"
    ]  # fmt: skip


@pytest.mark.parametrize("kind", TINY)
def test_save_pretrained_round_trip(kind: type[nn.Module], tmp_path: Path) -> None:
    network = tiny(kind)
    assert network.metadata == {}
    network.metadata = TOLD
    network.save_pretrained(tmp_path / "first")
    found = kind.from_pretrained(str(tmp_path / "first"))
    assert found.config == TINY[kind] and same(found, network) and found.metadata == TOLD and not found.training
    # and once more, from what was read
    found.save_pretrained(tmp_path / "second")
    again = kind.from_pretrained(tmp_path / "second" / WEIGHTS_NAME)
    assert again.config == TINY[kind] and same(again, network) and again.metadata == TOLD
    assert {p.name for p in (tmp_path / "second").iterdir()} == {WEIGHTS_NAME, "config.json", "README.md"}
    as_json = json.loads(json.dumps(asdict(TINY[kind])))
    assert json.loads((tmp_path / "second" / "config.json").read_text()) == as_json
    assert "library_name: deocclude" in (tmp_path / "second" / "README.md").read_text()


def test_docs_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = (ROOT / "docs" / "weights.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", document, flags=re.S | re.M)
    names: dict[str, nn.Module] = {}
    exec(code, names)
    assert names["again"].metadata == {"step": 100} and same(names["again"], names["network"])


def test_export_and_training_read_the_saved_folder(tmp_path: Path) -> None:
    network = tiny(MaskCompletionNet)
    network.metadata = TOLD
    network.save_pretrained(tmp_path)
    built, metadata = build_network(tmp_path)  # `deocclude export FOLDER`
    assert same(built, network)
    assert metadata == TOLD | {"network": "mask_completion", "config": json.loads(json.dumps(asdict(network.config)))}
    other = MaskCompletionNet(network.config)
    assert not same(other, network)
    start_from(other, tmp_path)  # `mask.init: FOLDER`
    assert same(other, network)


def test_from_pretrained_rejects_other_or_missing_weights(tmp_path: Path) -> None:
    tiny(MaskCompletionNet).save_pretrained(tmp_path / "mask")
    with pytest.raises(WeightsError, match="mask: expected weights of content_recovery of ours, got mask_completion"):
        ContentRecoveryNet.from_pretrained(tmp_path / "mask")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=f"weights not found: looked for {tmp_path / 'empty' / WEIGHTS_NAME}"):
        MaskCompletionNet.from_pretrained(tmp_path / "empty")
    save_weights(tmp_path / "plain.safetensors", {"w": torch.zeros(1)}, {})
    with pytest.raises(WeightsError, match="expected weights of mask_completion of ours, got others"):
        MaskCompletionNet.from_pretrained(tmp_path / "plain.safetensors")


def test_hub_id_downloads_only_the_weights_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny(PeopleDetector)
    network.save_pretrained(tmp_path)
    asked = []

    def answer(repo_id: str, filename: str, **options: object) -> str:
        asked.append((repo_id, filename, options["revision"]))
        return str(tmp_path / filename)

    monkeypatch.setattr(hub, "hf_hub_download", answer)
    assert same(PeopleDetector.from_pretrained("someone/people", revision="v2"), network)
    assert asked == [("someone/people", WEIGHTS_NAME, "v2")]


@pytest.mark.parametrize(
    ("source", "reason"),
    [("someone/not-here", "Cannot find the requested files"), ("runs/mask/bestt", "Repo id must be")],
)
def test_failed_hub_download_gives_a_one_line_error(source: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=f"{source}: no such file or folder, and not had from the hub: .*{reason}"
    ) as e:
        MaskCompletionNet.from_pretrained(source, cache_dir=tmp_path, local_files_only=True)
    assert "\n" not in str(e.value)
