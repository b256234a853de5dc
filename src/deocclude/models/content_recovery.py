"""Stage 2: the appearance of the hidden part, from the visible body alone (Zhou et al. 2021, section 4.2).

A seven-level partial-convolution U-Net with parsing guided attention after encoder levels 3 and 5 and decoder levels
5 and 3. Two things are ours, both to keep a garment's own colour and texture: a map of each part's mean visible colour,
and patches of the visible body that attention copies to where the same part is hidden. A third is for speed: the finest
decoder levels, half of the cost, are plain and narrow (`plain_levels`), since attention has filled every place by then.
What ships is a guide: colour, shading and borders between parts, without texture, which exemplar synthesis adds at run
time (`imaging/exemplar_synthesis.py`). `grain`, noise as texture, is kept for weights that were trained with it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.checkpoints.hub import Pretrained
from deocclude.models.blocks import ResidualBlock, conv_bn
from deocclude.models.noise_texture import Grain
from deocclude.models.parsing_attention import BodyAttention, Parsing, ParsingGuidedAttention, read
from deocclude.models.partial_conv import PartialConv

PATCH_PX = 8  # side of a copied patch; attention at decoder level 3 has one place a patch
_DECODER_SLOPE = 0.2
_ATTENTION_LEVELS = (3, 5)


@dataclass(frozen=True)
class ContentRecoveryConfig:
    """Sizes and switches of ContentRecoveryNet; the switches are the paper's ablations."""

    widths: tuple[int, ...] = (32, 48, 80, 128, 160, 160, 160)  # channels at 1/2 .. 1/128 of the input
    kernels: tuple[int, ...] = (5, 3, 3, 3, 3, 3, 3)
    parsing_classes: int = 12
    key_channels: int = 24
    place_px: int = 1  # input pixels a place of parsing guided attention has at least
    part_stream: bool = True
    place_stream: bool = True
    patch_copy: bool = True
    # the finest decoder levels that add their skip to the feature and convolve plainly; 0, as in the paper: none, each
    # joins both and counts what is valid
    plain_levels: int = 0
    finish_channels: int | None = None  # of the last feature; none: as wide as level 1, by a residual block
    grain: bool = False  # texture from bands of noise (models/noise_texture.py)

    def __post_init__(self) -> None:
        least = min(_ATTENTION_LEVELS)
        if not 0 <= self.plain_levels < least:
            raise ValueError(
                f"plain_levels must be 0 to {least - 1}, below the first attention, got {self.plain_levels}"
            )

    @classmethod
    def small(cls) -> ContentRecoveryConfig:
        """For comparisons on a small budget: about 0.6 M parameters, one level less for crops of 96 px."""
        return cls(widths=(16, 32, 56, 72, 80, 80), kernels=(5, 3, 3, 3, 3, 3), key_channels=16, place_px=8)

    @classmethod
    def base(cls) -> ContentRecoveryConfig:
        """What ships: attention on 16 x 16 places at the most, a quarter of the reference's at level 3."""
        return cls(place_px=16, plain_levels=2, finish_channels=16)

    @classmethod
    def paper(cls) -> ContentRecoveryConfig:
        """About the reference's 55.6 M trainable parameters and 35.4 GMAC at 256x256; its kernels."""
        return cls(widths=(128, 256, 384, 640, 704, 704, 704), kernels=(7, 5, 5, 3, 3, 3, 3), key_channels=64)

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class ContentRecoveryNet(Pretrained, nn.Module):
    """`net(image, visible, amodal, parsing_visible, parsing_amodal) -> content`."""

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
        # decoder level n makes the feature of encoder level n's size from level n + 1's and that level's skip
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
        context = 4  # part colours; what is seen and what is hidden
        if config.patch_copy:
            # sharp from the start: patches averaged over many places are a blur
            self.copy_attention = BodyAttention(widths[2], parts, config.key_channels, log_sharpness=3.0)
            context += 3 * (PATCH_PX // 2) ** 2 // 4  # the copied patches at 1/2 size
        self.context = conv_bn(context, widths[0])
        last = config.finish_channels
        refine = ResidualBlock(widths[0], widths[0]) if last is None else conv_bn(widths[0], last)
        self.finish = nn.Sequential(refine, nn.Conv2d(last or widths[0], 12, 3, padding=1))
        self.grain = Grain(widths[0]) if config.grain else None

    def forward(
        self, image: Tensor, visible: Tensor, amodal: Tensor, visible_parsing: Tensor, amodal_parsing: Tensor
    ) -> Tensor:
        """Recover a person.

        image: (B, 3, S, S) RGB in [0, 1], read only where visible; visible, amodal: (B, 1, S, S) in {0, 1};
        visible_parsing, amodal_parsing: (B, P, S/4, S/4) probabilities, of which the parts' proportions are used and
        the masks decide where; S divisible by 128.
        Returns (B, 3, S, S) in [0, 1]; only the hidden part of it is meant to be used.
        """
        source = image * visible
        parsing = Parsing(_within(visible_parsing, visible), _within(amodal_parsing, amodal))
        colours = part_colours(source, visible, parsing)
        features, valids = [], []
        x, valid = source * 2 - visible, visible  # RGB in [-1, 1], zero where unseen
        for level, conv in enumerate(self.encoder, start=1):
            x, valid = conv(x, valid)
            if level in _ATTENTION_LEVELS:
                x = self.encoder_attention[str(level)](x, *_at(x, parsing, visible))
                valid = torch.ones_like(valid)  # attention fills every place
            features.append(x)
            valids.append(valid)
        patches = None
        for level in range(len(features) - 1, 0, -1):
            x, valid = self.decoder[level - 1](x, valid, features[level - 1], valids[level - 1])
            if level in _ATTENTION_LEVELS:
                x = self.decoder_attention[str(level)](x, *_at(x, parsing, visible))
            if level == 3 and self.config.patch_copy:
                patches = self._copied(x, source, visible, colours, parsing)
        half = F.avg_pool2d(torch.cat([colours, (visible + amodal) / 2], 1), 2)
        context = half if patches is None else torch.cat([half, patches], 1)
        x = x + self.context(context.to(x.dtype))
        drawn = self.finish(x)
        if self.grain is not None:
            drawn = drawn + self.grain(x).repeat(1, 3, 1, 1)  # alike in red, green and blue
        residual = F.pixel_shuffle(drawn, 2)
        # the decoder draws what differs from the part's mean colour
        return (colours + residual.float()).clamp(0, 1) if not self.training else colours + residual.float()

    def _copied(self, x: Tensor, source: Tensor, visible: Tensor, colours: Tensor, parsing: Parsing) -> Tensor:
        """Patches of the visible body, laid by attention where they belong: (B, 12, S/2, S/2), 0 = the part's mean."""
        here, seen = _at(x, parsing, visible)
        weights = torch.softmax(self.copy_attention.scores(x, here, seen), -1)
        detail = source - colours * visible  # what patches add to their part's mean colour; 0 where unseen
        return F.pixel_shuffle(read(weights, F.pixel_unshuffle(detail.float(), PATCH_PX)), PATCH_PX // 2)


class PartialUp(PartialConv):
    """A decoder level of the paper: feature and skip joined, each with its validity, and a partial convolution."""

    def __init__(self, c_below: int, c_skip: int):
        super().__init__(c_below + c_skip, c_skip, slope=_DECODER_SLOPE)

    def forward(self, x: Tensor, valid: Tensor, skip: Tensor, skip_valid: Tensor) -> tuple[Tensor, Tensor]:
        """x: (B, c_below, h, w), skip: (B, c_skip, 2h, 2w), one less at odd sizes -> as skip, and its validity."""
        up, up_valid = _double_to(x, skip), _double_to(valid, skip)
        c_up, c_skip = up.shape[1], skip.shape[1]
        share = (up_valid * c_up + skip_valid * c_skip) / (c_up + c_skip)
        return super().forward(torch.cat([up, skip], 1), share)


class PlainUp(nn.Module):
    """A decoder level after attention: nothing is invalid any more, so the skip is added and a convolution is enough.

    What comes from below is narrowed where it is small, and only the skip's width is convolved: a third of the cost.
    """

    def __init__(self, c_below: int, c_skip: int):
        super().__init__()
        self.narrow = nn.Conv2d(c_below, c_skip, 1, bias=False)
        self.mix = nn.Sequential(nn.Conv2d(c_skip, c_skip, 3, padding=1, bias=False), nn.BatchNorm2d(c_skip))

    def forward(self, x: Tensor, valid: Tensor, skip: Tensor, skip_valid: Tensor) -> tuple[Tensor, Tensor]:
        """As `PartialUp`; `skip` is zero where it is not valid."""
        joined = skip + _double_to(self.narrow(x), skip)
        return F.leaky_relu(self.mix(joined), _DECODER_SLOPE), torch.ones_like(skip_valid)


def part_colours(source: Tensor, visible: Tensor, parsing: Parsing) -> Tensor:
    """Each place's expected colour: the mean visible colours of its amodal parts, (B, 3, S, S) in [0, 1].

    A part of which nothing is seen takes the mean colour of the visible person.
    """
    with torch.autocast(source.device.type, enabled=False):
        source, seen = F.avg_pool2d(source.float(), 4), F.avg_pool2d(visible.float(), 4)
        parts = parsing.visible[:, 1:].float() * seen  # (B, P - 1, h, w)
        mass = parts.sum((2, 3))
        # sums of colour over what is seen; `source` already holds colour times visibility
        sums = parsing.visible[:, 1:].float().flatten(2) @ source.flatten(2).transpose(1, 2)  # (B, P - 1, 3)
        mean = source.sum((2, 3)) / seen.sum((2, 3)).clamp(min=1e-3)  # (B, 3)
        prior = 2.0  # cells of the person's mean colour mixed into each part: a speck of a part decides nothing
        colours = (sums + prior * mean[:, None]) / (mass + prior)[..., None]
        whole = parsing.amodal[:, 1:].float()
        share = whole.sum(1, keepdim=True)
        mixed = torch.einsum("bphw,bpc->bchw", whole, colours) + (1 - share) * mean[..., None, None]
        return F.interpolate(mixed, scale_factor=4.0, mode="bilinear", align_corners=False)


def _within(parsing: Tensor, mask: Tensor) -> Tensor:
    """Part probabilities rescaled so that the parts of each place sum to its share of `mask` (B, 1, S, S)."""
    share = F.avg_pool2d(mask.float(), 4)
    parts = parsing[:, 1:].float()
    parts = parts / parts.sum(1, keepdim=True).clamp(min=1e-6) * share
    return torch.cat([1 - share, parts], 1)


def _at(x: Tensor, parsing: Parsing, visible: Tensor) -> tuple[Parsing, Tensor]:
    """Parsing and visible share at the size of a feature."""
    size = x.shape[-2:]
    here = parsing.at(size)
    return Parsing(here.visible.to(x.dtype), here.amodal.to(x.dtype)), F.adaptive_avg_pool2d(visible, size)


def _double_to(x: Tensor, like: Tensor) -> Tensor:
    """Grown to twice the size, or to one less where `like` is: the smallest levels of odd sizes."""
    up = F.interpolate(x, scale_factor=2.0, mode="nearest")
    rows, columns = like.shape[-2:]
    return up if up.shape[-2:] == (rows, columns) else up[..., :rows, :columns]
