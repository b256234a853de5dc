"""Losses of stage 2 (recovered appearance)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.train.loss_terms import Make, channel_correlation, generator_softplus, perceptual, style


def brightness_gradient(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness gradient by central differences, as in `metrics.content.mean_gradient`.

    Noise of one pixel's width and pure colour noise, which are easy to generate and do not look like texture, have
    little effect on it.

    Args:
        image: (B, C, H, W).
        mask: (B, 1, H, W) in {0, 1}.

    Returns:
        Components across and down, (B, 2, H - 2, W - 2); and (B, 1, H - 2, W - 2) in {0, 1}: 1 where a pixel and its
        four neighbours are in the mask.
    """
    light = image.mean(1, keepdim=True)
    across = (light[..., 1:-1, 2:] - light[..., 1:-1, :-2]) / 2
    down = (light[..., 2:, 1:-1] - light[..., :-2, 1:-1]) / 2
    beside = mask[..., 1:-1, 2:] * mask[..., 1:-1, :-2] * mask[..., 2:, 1:-1] * mask[..., :-2, 1:-1]
    return torch.cat([across, down], 1), mask[..., 1:-1, 1:-1] * beside


def gradient_length(gradient: Tensor) -> Tensor:
    """Length of a gradient: (B, 2, H, W) -> (B, 1, H, W), smoothed at zero."""
    return (gradient.square().sum(1, keepdim=True) + 1e-8).sqrt()


def local_texture(image: Tensor, mask: Tensor, window_px: int = 16) -> Tensor:
    """Texture statistics of windows: strength, direction and sparsity of the gradient, independent of position.

    For isotropic gradients the first four channels equal the mean length; for stripes they differ. Of two textures with
    the same mean length the one with few strong edges (a fold) has the larger fifth channel.

    Args:
        image: (B, C, H, W).
        mask: (B, 1, H, W) in {0, 1}.
        window_px: side of the windows, at a stride of half of it.

    Returns:
        (B, 5, H', W'), 0 in a window without masked pixels: mean absolute component of the brightness gradient in four
        directions, 45 degrees apart, times pi / 2; and the root mean square of its length.
    """
    gradient, inside = brightness_gradient(image, mask)
    across, down = gradient[:, :1], gradient[:, 1:]
    half = math.sqrt(0.5)
    components = torch.cat([across, down, (across + down) * half, (across - down) * half], 1).abs() * (math.pi / 2)
    squares = gradient.square().sum(1, keepdim=True)
    pooled = F.avg_pool2d(torch.cat([components, squares], 1) * inside, window_px, window_px // 2)
    means = pooled / F.avg_pool2d(inside, window_px, window_px // 2).clamp(min=1 / window_px**2)
    smooth = means.new_tensor(1e-8)  # the root is smooth at zero and has the value zero there
    return torch.cat([means[:, :4], (means[:, 4:] + smooth).sqrt() - smooth.sqrt()], 1)


def texture_l1(image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """L1 between `local_texture` of two images (B, C, H, W), over windows with pixels of the mask (B, 1, H, W).

    Mean of full and half resolution, so that the coarseness of the texture counts too.
    """

    def at_scale(image: Tensor, target: Tensor, mask: Tensor, window_px: int) -> Tensor:
        a, b = local_texture(image, mask, window_px), local_texture(target, mask, window_px)
        counted = (F.max_pool2d(brightness_gradient(target, mask)[1], window_px, window_px // 2) > 0).sum()
        return (a - b).abs().mean(1).sum() / counted.clamp(min=1)

    half_mask = (F.avg_pool2d(mask, 2) == 1).to(mask)
    half = at_scale(F.avg_pool2d(image, 2), F.avg_pool2d(target, 2), half_mask, 8)
    return (at_scale(image, target, mask, 16) + half) / 2


_LAGS_PX = (2, 3, 4, 6, 8)  # periods that a decoder of stride 2 and copied patches of 8 pixels can produce


def regularity_l1(image: Tensor, target: Tensor, mask: Tensor, window_px: int = 32) -> Tensor:
    """L1 between the autocorrelations of two images, over windows with masked pixels.

    The autocorrelation is that of the brightness gradient at lags of a few pixels across and down, as in the texture
    statistics of Portilla and Simoncelli (2000). For a periodic pattern it alternates between +1 and -1, for folds and
    cloth it decays smoothly.

    Args:
        image: (B, C, H, W).
        target: (B, C, H, W).
        mask: (B, 1, H, W) in {0, 1}.
        window_px: side of the windows, at a stride of half of it.

    Returns:
        Scalar.
    """

    def correlations(image: Tensor) -> tuple[Tensor, Tensor]:
        """Autocorrelations of each window, (B, 2 * lags, h, w); and (B, 1, h, w), 1 for windows with masked pixels."""
        gradient, inside = brightness_gradient(image, mask)

        def mean(values: Tensor, where: Tensor) -> Tensor:
            """Mean over those pixels of each window where `where` is 1."""
            pooled, coverage = (F.avg_pool2d(v, window_px, window_px // 2) for v in (values * where, where))
            return pooled / coverage.clamp(min=1 / window_px**2)

        energy = mean(gradient.square().sum(1, keepdim=True), inside) + 1e-4  # flat windows have no autocorrelation
        of_lags = []
        for axis in (2, 3):
            for lag in _LAGS_PX:
                moved, moved_inside = (v.roll(-lag, axis) for v in (gradient, inside))
                unwrapped = torch.ones_like(inside)  # 0 where `roll` brings in pixels of the opposite edge
                unwrapped.narrow(axis, unwrapped.shape[axis] - lag, lag).zero_()
                both_inside = inside * moved_inside * unwrapped
                of_lags.append(mean((gradient * moved).sum(1, keepdim=True), both_inside) / energy)
        return torch.cat(of_lags, 1), F.max_pool2d(inside, window_px, window_px // 2)

    (a, counted), (b, _) = correlations(image), correlations(target)
    return ((a - b).abs().mean(1, keepdim=True) * counted).sum() / counted.sum().clamp(min=1)


class ContentCriterion(nn.Module):
    """Loss terms of stage 2.

    hidden_l1, visible_l1: L1 inside the occluded and the visible part. perceptual, style, channel_correlation: on
    frozen features of the composed person. texture: L1 of `local_texture` in the occluded part. regularity:
    `regularity_l1` there. adversarial: non-saturating, on person and occluded mask, over patches with occluded pixels.

    Args:
        weights: weight of each term by name; 0 leaves it out.
        features: frozen feature network of FEATURE_TERMS. Raises ValueError if it is needed and missing.
    """

    TERMS = (
        "hidden_l1", "visible_l1", "perceptual", "style", "channel_correlation", "texture", "regularity", "adversarial",
    )  # fmt: skip
    FEATURE_TERMS = ("perceptual", "style", "channel_correlation")  # need a frozen feature network

    def __init__(self, weights: dict[str, float], features: nn.Module | None = None):
        super().__init__()
        self.weights = {name: w for name, w in weights.items() if w}
        self.features = features
        if set(self.FEATURE_TERMS) & set(self.weights) and features is None:
            raise ValueError("perceptual, style and channel_correlation need a frozen feature network")

    def forward(
        self, content: Tensor, batch: dict[str, Tensor], discriminator: nn.Module | None = None
    ) -> dict[str, Tensor]:
        """content: (B, 3, S, S) in [0, 1]; batch: from `to_float` -> {term: weighted scalar}."""
        makers = self.makers(content, batch, discriminator)
        return {name: weight * makers[name]() for name, weight in self.weights.items()}

    def makers(self, content: Tensor, batch: dict[str, Tensor], discriminator: nn.Module | None) -> dict[str, Make]:
        """For each of TERMS a function that computes it, without its weight; new terms are added here."""
        truth, visible, amodal = batch["truth"], batch["visible"], batch["amodal"]
        hidden = amodal * (1 - visible)
        whole = compose(content, truth, visible, amodal)
        person = truth * amodal
        features: dict[str, list[Tensor]] = {}
        if set(self.FEATURE_TERMS) & set(self.weights):
            features = {"whole": self.features(whole), "person": self.features(person)}
        return {
            "hidden_l1": lambda: _masked_l1(content, truth, hidden),
            "visible_l1": lambda: _masked_l1(content, truth, visible),
            "perceptual": lambda: perceptual(features["whole"], features["person"]),
            "style": lambda: style(features["whole"], features["person"]),
            "channel_correlation": lambda: channel_correlation(features["whole"][1], features["person"][1]),
            "texture": lambda: texture_l1(content, truth, hidden),
            "regularity": lambda: regularity_l1(content, truth, hidden),
            "adversarial": lambda: masked_scores(generator_softplus, discriminator, whole, hidden),
        }


def compose(content: Tensor, truth: Tensor, visible: Tensor, amodal: Tensor) -> Tensor:
    """The person alone: truth in the visible part, content in the occluded part, black elsewhere. (B, 3, S, S)."""
    return truth * visible + content * amodal * (1 - visible)


def masked_scores(loss, discriminator: nn.Module, person: Tensor, hidden: Tensor) -> Tensor:
    """Mean of `loss` over the discriminator's scores of patches with occluded pixels.

    loss: of patch logits, elementwise; person: (B, 3, S, S); hidden: (B, 1, S, S) in {0, 1}, the occluded mask.
    """
    scores = discriminator(torch.cat([person, hidden], 1))
    weight = F.adaptive_max_pool2d(hidden, scores.shape[-2:])
    return (loss(scores.float()) * weight).sum() / weight.sum().clamp(min=1)


def person_discriminator_loss(discriminator: nn.Module, batch: dict[str, Tensor], composed: Tensor) -> Tensor:
    """Softplus loss of a discriminator that tells the true person from the composed one, given the occluded mask.

    Args:
        discriminator: (B, 4, S, S) person and occluded mask -> patch logits.
        batch: truth (B, 3, S, S) in [0, 1], visible and amodal (B, 1, S, S) in {0, 1}.
        composed: (B, 3, S, S), the output of `compose`, detached.

    Returns:
        Scalar: mean of the losses on the true and on the composed person.
    """
    hidden = batch["amodal"] * (1 - batch["visible"])
    real = masked_scores(generator_softplus, discriminator, batch["truth"] * batch["amodal"], hidden)
    return (real + masked_scores(F.softplus, discriminator, composed, hidden)) / 2


def _masked_l1(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of two images (B, 3, H, W) inside a mask (B, 1, H, W), a scalar."""
    return ((a - b).abs() * mask).sum() / (3 * mask.sum()).clamp(min=1)
