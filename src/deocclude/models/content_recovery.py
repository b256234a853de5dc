"""Stage 2: the appearance of the occluded part, from the visible body alone (Zhou et al. 2021, section 4.2).

A seven-level partial-convolution U-Net with parsing guided attention after encoder levels 3 and 5 and decoder levels
5 and 3. Two additions to the paper keep a garment's own colour and texture: a map of each part's mean visible colour,
and patches of the visible body that attention copies to occluded places of the same part. A third addition is for
speed: the finest decoder levels, half of the cost, are plain and narrow (`plain_levels`), since attention has filled
every place before them. The shipped network predicts a guide: colour, shading and borders between parts. Exemplar
synthesis adds texture at run time (`imaging/exemplar_synthesis.py`). `grain`, noise as texture, stays for weights that
were trained with it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.checkpoints.hub import Pretrained
from deocclude.models.blocks import ResidualBlock, conv_bn
from deocclude.models.noise_texture import NoiseTexture
from deocclude.models.parsing_attention import BodyAttention, Parsing, ParsingGuidedAttention, attend
from deocclude.models.partial_conv import PartialConv

PATCH_PX = 8  # side of a copied patch; one place of the attention at decoder level 3
_DECODER_SLOPE = 0.2  # of the leaky ReLU
_ATTENTION_LEVELS = (3, 5)  # decoder levels with attention


@dataclass(frozen=True)
class ContentRecoveryConfig:
    """Sizes and switches of ContentRecoveryNet; the switches are the ablations of the paper.

    Raises ValueError for plain levels at or above the first attention level.
    """

    widths: tuple[int, ...] = (32, 48, 80, 128, 160, 160, 160)  # channels at 1/2 .. 1/128 of the input
    kernels: tuple[int, ...] = (5, 3, 3, 3, 3, 3, 3)
    parsing_classes: int = 12
    key_channels: int = 24
    place_px: int = 1  # least side of a place of parsing guided attention, in input pixels
    part_stream: bool = True
    place_stream: bool = True
    patch_copy: bool = True
    # how many of the finest decoder levels add the skip to the feature and use a plain convolution; 0 as in the paper:
    # every level concatenates both and uses a partial convolution
    plain_levels: int = 0
    finish_channels: int | None = None  # of the last feature; None: as many as at 1/2, by a residual block
    grain: bool = False  # texture from noise bands (models/noise_texture.py)

    def __post_init__(self) -> None:
        least = min(_ATTENTION_LEVELS)
        if not 0 <= self.plain_levels < least:
            raise ValueError(
                f"plain_levels must be 0 to {least - 1}, below the first attention, got {self.plain_levels}"
            )

    @classmethod
    def small(cls) -> ContentRecoveryConfig:
        """Sizes for comparisons on a small budget: about 0.6 M parameters, six levels for crops of 96 px."""
        return cls(widths=(16, 32, 56, 72, 80, 80), kernels=(5, 3, 3, 3, 3, 3), key_channels=16, place_px=8)

    @classmethod
    def base(cls) -> ContentRecoveryConfig:
        """The shipped sizes: at 256x256 attention on at most 16x16 places, a quarter of the reference's at level 3."""
        return cls(place_px=16, plain_levels=2, finish_channels=16)

    @classmethod
    def paper(cls) -> ContentRecoveryConfig:
        """About the reference's 55.6 M trainable parameters and 35.4 GMAC at 256x256, with its kernels."""
        return cls(widths=(128, 256, 384, 640, 704, 704, 704), kernels=(7, 5, 5, 3, 3, 3, 3), key_channels=64)

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class ContentRecoveryNet(Pretrained, nn.Module):
    """`net(image, visible, amodal, visible_parsing, amodal_parsing) -> content`."""

    network_name, config_type = "content_recovery", ContentRecoveryConfig

    def __init__(self, config: ContentRecoveryConfig | None = None):
        super().__init__()
        self.config = config = config or ContentRecoveryConfig.base()
        widths, parts = config.widths, config.parsing_classes
        ins = (3, *widths[:-1])
        self.encoder = nn.ModuleList(
            PartialConv(a, b, k, 2, norm=i > 0)
            for i, (a, b, k) in enumerate(zip(ins, widths, config.kernels, strict=True))
        )
        # decoder level n combines the feature of level n + 1 with the skip of encoder level n, at the size of the skip
        self.decoder = nn.ModuleList(
            PlainUp(widths[n], widths[n - 1]) if n <= config.plain_levels else PartialUp(widths[n], widths[n - 1])
            for n in range(1, len(widths))
        )

        def attention(level: int) -> ParsingGuidedAttention:
            return ParsingGuidedAttention(
                widths[level - 1], parts, key_channels=config.key_channels, part_stream=config.part_stream,
                place_stream=config.place_stream, pool=max(1, config.place_px // 2**level),
            )  # fmt: skip

        self.encoder_attention = nn.ModuleDict({str(n): attention(n) for n in _ATTENTION_LEVELS})
        self.decoder_attention = nn.ModuleDict({str(n): attention(n) for n in _ATTENTION_LEVELS})
        context = 4  # the parts' colours, and one channel that is 1 where visible, 0.5 where occluded, 0 outside
        if config.patch_copy:
            # sharp from the start: patches averaged over many places are blurred
            self.copy_attention = BodyAttention(widths[2], parts, config.key_channels, log_sharpness=3.0)
            context += 3 * (PATCH_PX // 2) ** 2 // 4  # the copied patches at 1/2 size
        self.context = conv_bn(context, widths[0])
        last = config.finish_channels
        refine = ResidualBlock(widths[0], widths[0]) if last is None else conv_bn(widths[0], last)
        # 12 channels: RGB of four pixels
        self.finish = nn.Sequential(refine, nn.Conv2d(last or widths[0], 12, 3, padding=1))
        self.grain = NoiseTexture(widths[0]) if config.grain else None

    def forward(
        self, image: Tensor, visible: Tensor, amodal: Tensor, visible_parsing: Tensor, amodal_parsing: Tensor
    ) -> Tensor:
        """Recover the appearance of a person.

        Args:
            image: (B, 3, S, S) RGB in [0, 1], read inside `visible` only; S divisible by 8.
            visible: (B, 1, S, S) in {0, 1}, the visible mask.
            amodal: (B, 1, S, S) in {0, 1}, the amodal mask.
            visible_parsing: (B, P, S/4, S/4) probabilities, rescaled to the coverage of `visible`.
            amodal_parsing: (B, P, S/4, S/4) probabilities, rescaled to the coverage of `amodal`.

        Returns:
            (B, 3, S, S) in [0, 1], clipped in evaluation mode only; valid in the occluded part.
        """
        source = image * visible
        parsing = Parsing(_parsing_in_mask(visible_parsing, visible), _parsing_in_mask(amodal_parsing, amodal))
        colours = part_colours(source, visible, parsing)
        features, valids = [], []
        x, valid = source * 2 - visible, visible  # RGB in [-1, 1], zero outside the visible mask
        for level, conv in enumerate(self.encoder, start=1):
            x, valid = conv(x, valid)
            if level in _ATTENTION_LEVELS:
                x = self.encoder_attention[str(level)](x, *_at_size_of(x, parsing, visible))
                valid = torch.ones_like(valid)  # attention fills every place
            features.append(x)
            valids.append(valid)
        patches = None
        for level in range(len(features) - 1, 0, -1):
            x, valid = self.decoder[level - 1](x, valid, features[level - 1], valids[level - 1])
            if level in _ATTENTION_LEVELS:
                x = self.decoder_attention[str(level)](x, *_at_size_of(x, parsing, visible))
            if level == 3 and self.config.patch_copy:
                patches = self._copied_patches(x, source, visible, colours, parsing)
        half = F.avg_pool2d(torch.cat([colours, (visible + amodal) / 2], 1), 2)
        context = half if patches is None else torch.cat([half, patches], 1)
        x = x + self.context(context.to(x.dtype))
        drawn = self.finish(x)
        if self.grain is not None:
            drawn = drawn + self.grain(x).repeat(1, 3, 1, 1)  # the same in red, green and blue
        residual = F.pixel_shuffle(drawn, 2)
        # the decoder predicts the difference to the part's mean colour
        return (colours + residual.float()).clamp(0, 1) if not self.training else colours + residual.float()

    def _copied_patches(self, x: Tensor, source: Tensor, visible: Tensor, colours: Tensor, parsing: Parsing) -> Tensor:
        """Patches of the visible body, copied by attention, as differences to the part's mean colour.

        Args:
            x: (B, C, h, w) features of the decoder.
            source: (B, 3, S, S) the photo, 0 outside the visible mask.
            visible: (B, 1, S, S).
            colours: (B, 3, S, S) the mean colour of each place's part.
            parsing: probabilities of the body parts.

        Returns:
            (B, 12, S/2, S/2): at each place the RGB of its 2x2 pixels.
        """
        pooled, seen = _at_size_of(x, parsing, visible)
        weights = torch.softmax(self.copy_attention.scores(x, pooled, seen), -1)
        detail = source - colours * visible  # 0 outside the visible mask
        return F.pixel_shuffle(attend(weights, F.pixel_unshuffle(detail.float(), PATCH_PX)), PATCH_PX // 2)


class PartialUp(PartialConv):
    """A decoder level of the paper: feature and skip concatenated with their validity, then a partial convolution."""

    def __init__(self, c_below: int, c_skip: int):
        super().__init__(c_below + c_skip, c_skip, slope=_DECODER_SLOPE)

    def forward(self, x: Tensor, valid: Tensor, skip: Tensor, skip_valid: Tensor) -> tuple[Tensor, Tensor]:
        """Upsample and combine.

        Args:
            x: (B, c_below, h, w).
            valid: (B, 1, h, w), valid fraction of the channels.
            skip: (B, c_skip, 2h, 2w), one row or column less at odd sizes.
            skip_valid: (B, 1, 2h, 2w), of the size of `skip`.

        Returns:
            A feature of the shape of `skip`, and its validity.
        """
        up, up_valid = _double_to(x, skip), _double_to(valid, skip)
        c_up, c_skip = up.shape[1], skip.shape[1]
        both_valid = (up_valid * c_up + skip_valid * c_skip) / (c_up + c_skip)
        return super().forward(torch.cat([up, skip], 1), both_valid)


class PlainUp(nn.Module):
    """A decoder level after attention, where every place is valid: add the skip, then a plain convolution.

    The feature is narrowed to the skip's width before upsampling, which takes a third of the cost of `PartialUp`.
    """

    def __init__(self, c_below: int, c_skip: int):
        super().__init__()
        self.narrow = nn.Conv2d(c_below, c_skip, 1, bias=False)
        self.mix = nn.Sequential(nn.Conv2d(c_skip, c_skip, 3, padding=1, bias=False), nn.BatchNorm2d(c_skip))

    def forward(self, x: Tensor, valid: Tensor, skip: Tensor, skip_valid: Tensor) -> tuple[Tensor, Tensor]:
        """As `PartialUp`. `skip` must be zero where it is not valid."""
        joined = skip + _double_to(self.narrow(x), skip)
        return F.leaky_relu(self.mix(joined), _DECODER_SLOPE), torch.ones_like(skip_valid)


def part_colours(source: Tensor, visible: Tensor, parsing: Parsing) -> Tensor:
    """Expected colour of each place: the mean visible colours of its amodal parts.

    A part without visible pixels takes the mean colour of the visible person.

    Args:
        source: (B, 3, S, S) RGB in [0, 1], zero outside `visible`.
        visible: (B, 1, S, S) in {0, 1}.
        parsing: part probabilities at (S/4, S/4); the parts of each place sum to its coverage by the mask.

    Returns:
        (B, 3, S, S) in [0, 1].
    """
    with torch.autocast(source.device.type, enabled=False):
        source, seen = F.avg_pool2d(source.float(), 4), F.avg_pool2d(visible.float(), 4)
        parts = parsing.visible[:, 1:].float() * seen  # (B, P - 1, h, w)
        mass = parts.sum((2, 3))
        # colour sums over visible pixels; `source` is colour times visibility
        sums = parsing.visible[:, 1:].float().flatten(2) @ source.flatten(2).transpose(1, 2)  # (B, P - 1, 3)
        mean = source.sum((2, 3)) / seen.sum((2, 3)).clamp(min=1e-3)  # (B, 3)
        prior = 2.0  # cells of the person's mean colour mixed into each part, so that a tiny part has little weight
        colours = (sums + prior * mean[:, None]) / (mass + prior)[..., None]
        whole = parsing.amodal[:, 1:].float()
        coverage = whole.sum(1, keepdim=True)
        mixed = torch.einsum("bphw,bpc->bchw", whole, colours) + (1 - coverage) * mean[..., None, None]
        return F.interpolate(mixed, scale_factor=4.0, mode="bilinear", align_corners=False)


def _parsing_in_mask(parsing: Tensor, mask: Tensor) -> Tensor:
    """Rescale (B, P, S/4, S/4) so that the parts of each place sum to its coverage by `mask` (B, 1, S, S)."""
    coverage = F.avg_pool2d(mask.float(), 4)
    parts = parsing[:, 1:].float()
    parts = parts / parts.sum(1, keepdim=True).clamp(min=1e-6) * coverage
    return torch.cat([1 - coverage, parts], 1)


def _at_size_of(x: Tensor, parsing: Parsing, visible: Tensor) -> tuple[Parsing, Tensor]:
    """Parsing, and visible fraction (B, 1, h, w) of each place, at the size of a feature `x` (B, C, h, w)."""
    size_hw = x.shape[-2:]
    pooled = parsing.at(size_hw)
    return Parsing(pooled.visible.to(x.dtype), pooled.amodal.to(x.dtype)), F.adaptive_avg_pool2d(visible, size_hw)


def _double_to(x: Tensor, like: Tensor) -> Tensor:
    """Upsample to twice the size, cropped to the size of `like` (one less at odd sizes)."""
    up = F.interpolate(x, scale_factor=2.0, mode="nearest")
    rows, columns = like.shape[-2:]
    return up if up.shape[-2:] == (rows, columns) else up[..., :rows, :columns]
