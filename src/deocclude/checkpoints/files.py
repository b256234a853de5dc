"""Checkpoints: a full state to resume from, and the best weights as .safetensors with their config."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from deocclude.checkpoints.history import missing, resolve
from deocclude.errors import WeightsError
from deocclude.inference.runtime import with_current_keys
from deocclude.io.files import write_whole

_log = logging.getLogger(__name__)

WEIGHTS_NAME = "model.safetensors"  # of the weights in a folder, the usual name on the Hugging Face hub


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a resumable state; an interruption or a full disk leaves the former file. Raises DeoccludeError."""
    buffer = io.BytesIO()  # a file that torch writes itself fails in many ways
    torch.save(state, buffer)
    write_whole(path, lambda file: file.write(buffer.getbuffer()))


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote. Raises WeightsError on a file that is not one."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise WeightsError(f"{path}: not a readable checkpoint ({type(error).__name__})") from error


def load_foreign_state(path: Path) -> dict[str, Tensor]:
    """The tensors of someone else's torch checkpoint: a state dict, or one under the key `state_dict`.

    Only tensors and plain values are unpickled, never code. Raises WeightsError.
    """
    if not path.is_file():
        raise WeightsError(f"weights not found: looked for {path}")
    state = load_state(path)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path}: expected a state dict, tensors by name, or a checkpoint with one as state_dict")
    return dict(state)


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write weights as .safetensors; metadata values are stored as JSON. The file appears whole or not at all.

    Raises DeoccludeError.
    """
    plain = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
    content = save(plain, {k: json.dumps(v) for k, v in metadata.items()})
    write_whole(path, lambda file: file.write(content))


def weights_file(path: Path) -> Path:
    """The file of a path: itself, that in a folder, or that of `sha256:PREFIX`. Raises WeightsError as `resolve`."""
    path = resolve(path)
    return path / WEIGHTS_NAME if path.is_dir() else path


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights, metadata) of a .safetensors file, as `weights_file` finds it. Raises WeightsError naming the file."""
    path = weights_file(path)
    if not path.is_file():
        raise missing(path)
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            weights = {name: file.get_tensor(name) for name in names}
            metadata = with_current_keys({k: _from_json(v) for k, v in (file.metadata() or {}).items()})
    except Exception as error:  # safetensors' own error type derives from Exception alone
        raise WeightsError(f"{path}: not a readable .safetensors file ({type(error).__name__})") from error
    return weights, metadata


def save_mean(paths: Sequence[Path], out: Path) -> Path:
    """Average the weights of several checkpoints of one run into `out`, and return it.

    Checkpoints of one run lie around a minimum of the loss, and their mean is often nearer to it (Izmailov et al. 2018,
    arXiv 1803.05407). The metadata are the last one's, with `mean_of_steps`. Raises WeightsError unless all hold the
    same network.
    """
    loaded = [load_weights(path) for path in paths]
    weights, metadata = loaded[-1]
    for path, (others, about) in zip(paths, loaded, strict=True):
        same_shapes = {k: v.shape for k, v in others.items()} == {k: v.shape for k, v in weights.items()}
        if not same_shapes or any(about.get(key) != metadata.get(key) for key in ("network", "config")):
            raise WeightsError(f"{path}: not the same network as {paths[-1]}, so there is no mean of the two")
    mean = {
        name: torch.stack([others[name].double() for others, _ in loaded]).mean(0).to(tensor.dtype)
        for name, tensor in weights.items()
    }
    save_weights(out, mean, metadata | {"mean_of_steps": [about.get("step") for _, about in loaded]})
    return out


def _from_json(text: str) -> Any:
    """The metadata value in a text: JSON, as `save_weights` stores it, or the text itself, as in foreign files."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def rebuild(path: Path, kinds: dict[str, tuple[type[nn.Module], type]]) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a .safetensors file of this project, with its sizes and weights, and the file's metadata.

    kinds: class and config class of each network that the file may hold, by the name stored in it. Raises WeightsError.
    """
    weights, metadata = load_weights(path)
    if metadata.get("network") not in kinds:
        raise WeightsError(
            f"{path}: expected weights of {' or '.join(kinds)} of ours, got {metadata.get('network', 'others')}"
        )
    network_type, config_type = kinds[metadata["network"]]
    try:
        config = config_type(**{k: tuple(v) if isinstance(v, list) else v for k, v in metadata["config"].items()})
        network = network_type(config)
        network.load_state_dict(weights)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{path}: weights do not fit {network_type.__name__}: {reason}") from error
    return network, metadata


def start_from(network: nn.Module, path: Path) -> list[str]:
    """Load those tensors of a .safetensors file that fit; the others keep their values. Returns the others' names.

    So training can start from a network's weights after a part of it was changed; a warning names that part. Raises
    WeightsError if less than half of the values fit: the file is then taken for another network's.
    """
    weights, _ = load_weights(path)
    own = network.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    taken, whole = sum(value.numel() for value in fitting.values()), sum(value.numel() for value in own.values())
    if 2 * taken < whole:
        raise WeightsError(
            f"{path}: weights do not fit {type(network).__name__}: {taken} of its {whole} values could be taken"
        )
    network.load_state_dict(fitting, strict=False)
    fresh = [name for name in own if name not in fitting]
    if fresh:
        _log.warning(
            "%s: not in these weights and trained from new: %s", path, ", ".join(_grouped_by_child(fresh, own))
        )
    return fresh


def _grouped_by_child(names: Sequence[str], all_names: Iterable[str]) -> list[str]:
    """Shorten a list of tensor names: a child of the network whose tensors are all in `names` is named once.

    all_names: of the whole network, in its order.
    """
    shortened: list[str] = []
    for child, group in groupby(all_names, key=lambda name: name.partition(".")[0]):
        of_child = list(group)
        listed = [name for name in of_child if name in names]
        shortened += [child] if listed == of_child else listed
    return shortened
