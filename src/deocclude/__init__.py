"""deocclude: human de-occlusion. A photo goes in, every partly hidden person comes out whole.

    import deocclude
    pipe = deocclude.load("base")
    result = pipe("photo.jpg", masks=[mask])
    result.people[0].rgba

Importing the package is cheap: each public name is imported from its module when it is first read.
"""

from __future__ import annotations

import importlib
import os

from deocclude._version import __version__

# ONNX Runtime 1.29 and later send usage data to their makers unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Not from `typing`: its import would double the time until `__main__` handles signals. Type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from deocclude.errors import (
        ConfigError,
        DeoccludeError,
        DeviceError,
        InputError,
        MissingExtraError,
        UsageError,
        WeightsError,
    )
    from deocclude.inference.completion_prompts import CompletionPrompts
    from deocclude.inference.runtime import list_models
    from deocclude.io.coco import merge_coco
    from deocclude.io.images import load_image, load_mask, load_masks, save_image
    from deocclude.people.editing import Editing
    from deocclude.pipeline import Deoccluder, load, run
    from deocclude.types import PARSING_NAMES, Person, Result

__all__ = [
    "PARSING_NAMES",
    "CompletionPrompts",
    "ConfigError",
    "DeoccludeError",
    "Deoccluder",
    "DeviceError",
    "Editing",
    "InputError",
    "MissingExtraError",
    "Person",
    "Result",
    "UsageError",
    "WeightsError",
    "__version__",
    "list_models",
    "load",
    "load_image",
    "load_mask",
    "load_masks",
    "merge_coco",
    "run",
    "save_image",
]

# public name: the module of this package that defines it
_MODULE_OF = {
    "PARSING_NAMES": "types",
    "CompletionPrompts": "inference.completion_prompts",
    "Editing": "people.editing",
    "ConfigError": "errors",
    "DeoccludeError": "errors",
    "Deoccluder": "pipeline",
    "DeviceError": "errors",
    "InputError": "errors",
    "MissingExtraError": "errors",
    "Person": "types",
    "Result": "types",
    "UsageError": "errors",
    "WeightsError": "errors",
    "list_models": "inference.runtime",
    "load": "pipeline",
    "load_image": "io.images",
    "load_mask": "io.images",
    "load_masks": "io.images",
    "merge_coco": "io.coco",
    "run": "pipeline",
    "save_image": "io.images",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first read (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"deocclude.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
