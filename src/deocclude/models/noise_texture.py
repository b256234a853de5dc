"""Irregular texture for stage 2: noise bands with predicted strengths.

A deterministic network that is trained to produce texture produces a regular pattern, the simplest one with the true
gradients. With noise of several wavelengths and directions as input, the network only predicts the strength of each.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

TILE_PX = 128  # side of a periodic noise tile
_WAVES_PX = (4.0, 7.0, 12.0, 24.0)  # wavelengths of the isotropic bands
_STREAK_PX = 9.0  # wavelength of the directional bands
_STREAKS_DEG = (0.0, 45.0, 90.0, 135.0)  # directions in which their brightness varies
BANDS = len(_WAVES_PX) + len(_STREAKS_DEG)


class NoiseTexture(nn.Module):
    """`grain(x) -> (B, 4, h, w)`: brightness to add to the four pixels of each place of a half-resolution map."""

    def __init__(self, channels: int):
        super().__init__()
        tiles = F.pixel_unshuffle(torch.from_numpy(noise_bands())[:, None], 2)
        self.register_buffer("tiles", tiles)  # (BANDS, 4, T/2, T/2)
        self.strength = nn.Conv2d(channels, BANDS, 1)
        for parameter in (self.strength.weight, self.strength.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, channels, h, w) -> (B, 4, h, w). In training the noise is shifted at random in each batch."""
        (height, width), side, tiles = x.shape[-2:], self.tiles.shape[-1], self.tiles
        if self.training:
            tiles = tiles.roll(torch.randint(side, (2,)).tolist(), (2, 3))
        tiles = tiles.repeat(1, 1, (height + side - 1) // side, (width + side - 1) // side)[..., :height, :width]
        return (self.strength(x)[:, :, None] * tiles).sum(1)


def noise_bands(seed: int = 0) -> np.ndarray:
    """White noise, band-pass filtered: (BANDS, T, T) float32, each periodic with mean 0 and standard deviation 1."""
    rng = np.random.default_rng(seed)
    down, across = np.meshgrid(np.fft.fftfreq(TILE_PX), np.fft.fftfreq(TILE_PX), indexing="ij")
    frequency, direction = np.hypot(down, across), np.arctan2(down, across)  # cycles per pixel, radians

    def ring(wave_px: float) -> np.ndarray:
        """Band-pass filter (T, T) around a wavelength."""
        octaves = np.log2(np.maximum(frequency, 1e-9) * wave_px)
        return np.exp(-2 * octaves**2) * (frequency > 0)

    filters = [ring(wave) for wave in _WAVES_PX]
    for degrees in _STREAKS_DEG:
        sine = np.sin(direction - np.deg2rad(degrees))  # 0 for frequencies of that direction
        filters.append(ring(_STREAK_PX) * np.exp(-8 * sine**2))
    white = np.fft.fft2(rng.standard_normal((len(filters), TILE_PX, TILE_PX)))
    bands = np.fft.ifft2(white * np.stack(filters)).real
    return (bands / bands.std((1, 2), keepdims=True)).astype(np.float32)
