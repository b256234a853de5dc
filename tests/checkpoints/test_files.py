"""Checkpoints and weights: round trips, and errors that name what is broken."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from deocclude.checkpoints.files import (
    load_state,
    load_weights,
    rebuild,
    save_state,
    save_weights,
    start_from,
)
from deocclude.errors import DeoccludeError, WeightsError


@dataclass(frozen=True)
class Sizes:
    widths: tuple[int, ...] = (3, 4)


class Tiny(nn.Module):
    def __init__(self, config: Sizes) -> None:
        super().__init__()
        self.config = config
        self.conv = nn.Conv2d(*config.widths, 1)
        self.norm = nn.BatchNorm2d(config.widths[1])


KINDS = {"tiny": (Tiny, Sizes)}


def write(path: Path, network: Tiny, /, **changes: object) -> Path:
    save_weights(path, network.state_dict(), {"network": "tiny", "config": asdict(network.config)} | changes)
    return path


def test_weights_and_metadata_round_trip(tmp_path: Path) -> None:
    network = Tiny(Sizes()).to(memory_format=torch.channels_last)
    path = tmp_path / "a.safetensors"
    metadata = {"step": 7, "validation": {"score": 0.5}, "name": "x", "none": None}
    save_weights(path, network.state_dict(), metadata)
    weights, found = load_weights(path)
    assert found == metadata
    assert weights.keys() == network.state_dict().keys()
    assert all(torch.equal(weights[k], v) and weights[k].dtype == v.dtype for k, v in network.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"], "no temporary file is left"


def test_metadata_of_foreign_files_is_read_as_plain_strings(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "b.safetensors", {"format": "pt"})
    assert load_weights(tmp_path / "b.safetensors")[1] == {"format": "pt"}
    save_file({"w": torch.ones(2)}, tmp_path / "c.safetensors")
    assert load_weights(tmp_path / "c.safetensors")[1] == {}


def test_training_state_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"step": 3, "best": float("-inf"), "none": None, "network": {"w": torch.arange(3)}})
    save_state(path, {"step": 4, "best": 0.25, "none": None, "network": {"w": torch.arange(4)}})
    state = load_state(path)
    assert (state["step"], state["best"], state["none"]) == (4, 0.25, None)
    assert state["network"]["w"].tolist() == [0, 1, 2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_an_interrupted_write_keeps_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"step": 1})

    class Unwritable:
        def __reduce__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_state(path, {"step": 2, "bad": Unwritable()})
    assert load_state(path) == {"step": 1}


def test_error_names_the_missing_or_damaged_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", Tiny(Sizes()))
    with pytest.raises(WeightsError, match=f"weights not found: looked for {tmp_path / 'none'}"):
        load_weights(tmp_path / "none")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(WeightsError, match=r"a\.safetensors: not a readable \.safetensors file"):
        load_weights(path)
    (tmp_path / "last.pt").write_bytes(b"PK")
    with pytest.raises(WeightsError, match=r"last\.pt: not a readable checkpoint"):
        load_state(tmp_path / "last.pt")


def test_metadata_keys_of_earlier_versions_are_renamed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, Tiny(Sizes()).state_dict(), {"network": "tiny", "second_look": True, "tells_apart": False})
    assert load_weights(path)[1] == {"network": "tiny", "second_pass": True, "splits_boxes": False}


def test_start_from_leaves_missing_layers_at_their_initialisation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Longer(Tiny):
        def __init__(self) -> None:
            super().__init__(Sizes())
            self.tail = torch.nn.Linear(2, 1)

    source, target = Tiny(Sizes()), Longer()
    path, tail = write(tmp_path / "a.safetensors", source), target.tail.weight.clone()
    assert start_from(target, path) == ["tail.weight", "tail.bias"]
    assert torch.equal(target.conv.weight, source.conv.weight) and torch.equal(target.tail.weight, tail)
    assert "a.safetensors: not in these weights and trained from new: tail" in caplog.text
    caplog.clear()
    assert start_from(Tiny(Sizes()), path) == [] and not caplog.text
    with pytest.raises(WeightsError, match=r"a\.safetensors: weights do not fit Linear: 0 of its \d+ values"):
        start_from(torch.nn.Linear(9, 9), path)


def test_rebuild_restores_network_and_config(tmp_path: Path) -> None:
    source = Tiny(Sizes((2, 6)))
    network, metadata = rebuild(write(tmp_path / "a.safetensors", source, step=3), KINDS)
    assert network.config == Sizes((2, 6)) and metadata["step"] == 3
    assert torch.equal(network.conv.weight, source.conv.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "huge"}, "expected weights of tiny of ours, got huge"),
        ({"config": {"widths": [3, 9]}}, "weights do not fit Tiny: size mismatch"),
        ({"config": {"depth": 3}}, "weights do not fit Tiny: .*unexpected keyword argument 'depth'"),
        ({"config": "small"}, "weights do not fit Tiny"),
    ],
)
def test_rebuild_error_names_mismatched_weights(tmp_path: Path, changes: dict, message: str) -> None:
    path = write(tmp_path / "a.safetensors", Tiny(Sizes()), **changes)
    with pytest.raises(WeightsError, match=rf"a\.safetensors: {message}"):
        rebuild(path, KINDS)


def test_full_disk_gives_one_line_error_and_keeps_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(io.BytesIO):
        def write(self, *_: object) -> int:
            raise OSError(28, "No space left on device")

    for save in (
        lambda path: save_state(path, {"step": 1}),
        lambda path: save_weights(path, {"a": torch.zeros(2)}, {}),
    ):
        path = tmp_path / "kept"
        path.write_bytes(b"former")
        with monkeypatch.context() as patched:
            patched.setattr("builtins.open", lambda *_, **__: FullDisk())
            with pytest.raises(DeoccludeError, match=f"cannot write {path}: No space left on device"):
                save(path)
        assert [p.name for p in tmp_path.iterdir()] == ["kept"] and path.read_bytes() == b"former"
