"""Read a Hugging Face transformers model from a folder or by its name; errors become one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from deocclude.errors import DeoccludeError, DeviceError, MissingPackageError, UsageError, WeightsError

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")  # NAME or OWNER/NAME


def source_of(model: str, offline: bool) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` that say where it may look. Code that comes with a model is never run.

    Args:
        model: a folder or a name.
        offline: use the local cache alone.
    """
    return {"local_files_only": offline or Path(model).is_dir(), "trust_remote_code": False}


def choose_device(device: str, purpose: str) -> str:
    """The torch device to use; auto is CUDA where torch offers it.

    Args:
        device: "auto", "cpu" or "cuda".
        purpose: what needs the device, for errors.

    Raises:
        UsageError: another name.
        DeviceError: CUDA was requested and is missing. The device never changes silently.
    """
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device must be auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device cuda is not available to {purpose}: torch {torch.__version__} sees no CUDA")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def read_config(model: str, kinds: Collection[str], offline: bool) -> Any:
    """Read a model's configuration.

    Args:
        model: a folder or a name.
        kinds: allowed values of its `model_type`.
        offline: use the local cache alone.

    Raises:
        WeightsError: the model does not exist or cannot be read.
        UsageError: the model is of another kind.
    """
    import transformers

    source, is_folder = source_of(model, offline), Path(model).is_dir()
    if is_folder and not (Path(model) / "config.json").is_file():
        raise WeightsError(f"model {model}: no config.json in this folder, expected one that save_pretrained wrote")
    if not is_folder and not _HUB_NAME.fullmatch(model):
        raise WeightsError(f"model {model}: no such folder")
    with reading(model):
        try:
            config = transformers.AutoConfig.from_pretrained(model, **source)
        except OSError as error:
            if is_folder:
                raise
            where = "in the cache (nothing is fetched offline)" if offline else "found in the cache or on the hub"
            why = "" if offline else f": {reason(error)}"
            raise WeightsError(f"model {model} is neither a folder nor {where}{why}") from error
    if config.model_type not in kinds:
        raise UsageError(f"model {model} is a {config.model_type}, expected one of {', '.join(kinds)}")
    return config


def check_complete(model: str, network: Any, report: dict[str, Any]) -> None:
    """Check that a model's file held every tensor: transformers fills missing tensors with random numbers.

    Args:
        model: its name, for errors.
        network: the loaded model. Buffers are not checked.
        report: the loading info of `from_pretrained(..., output_loading_info=True)`.

    Raises:
        WeightsError: a tensor is missing.
    """
    missing = sorted(set(report["missing_keys"]) & {name for name, _ in network.named_parameters()})
    if missing:
        raise WeightsError(f"model {model}: its weights lack {len(missing)} tensors, {missing[0]} for one")


@contextlib.contextmanager
def reading(model: str) -> Iterator[None]:
    """Turn the errors that transformers raises while it reads a model into one line.

    Raises:
        MissingPackageError: the model needs another package.
        WeightsError: any other error.
    """
    try:
        yield
    except DeoccludeError:
        raise
    except ImportError as error:
        raise MissingPackageError(f"model {model} needs another package: {reason(error)}") from error
    except Exception as error:  # OSError, ValueError, RuntimeError, safetensors' own errors
        raise WeightsError(f"model {model} cannot be read: {reason(error)}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the reports and progress bars of transformers. A download still shows its own bar."""
    import logging as levels

    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(levels.CRITICAL)
    hook = logging.set_tqdm_hook(lambda bar, args, options: bar(*args, **{**options, "disable": True}))
    try:
        yield
    finally:
        logging.set_tqdm_hook(hook)
        logging.set_verbosity(level)


def reason(error: Exception) -> str:
    """The first line of another package's error, which may be a page long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
