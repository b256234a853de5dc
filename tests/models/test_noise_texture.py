"""Bands of noise for stage 2's texture."""

from __future__ import annotations

import numpy as np
import torch

from deocclude.models.noise_texture import BANDS, TILE_PX, NoiseTexture, noise_bands


def strong(channels: int = 3) -> NoiseTexture:
    torch.manual_seed(0)
    grain = NoiseTexture(channels)
    torch.nn.init.normal_(grain.strength.weight)
    return grain.eval()


def test_bands_have_equal_strength_and_differ_in_scale_and_direction() -> None:
    bands = noise_bands()
    assert bands.shape == (BANDS, TILE_PX, TILE_PX) and bands.dtype == np.float32
    np.testing.assert_allclose(bands.std((1, 2)), 1, rtol=1e-4)
    np.testing.assert_allclose(bands.mean((1, 2)), 0, atol=1e-4)
    across, down = (np.abs(np.diff(bands, axis=axis)).mean((1, 2)) for axis in (2, 1))
    round_ones = across[:4]
    assert (np.diff(round_ones) < 0).all(), "the first four are coarser and coarser"
    assert across[4] > 2 * down[4] and down[6] > 2 * across[6], "streaks run one way"
    np.testing.assert_array_equal(bands, noise_bands())


def test_tiles_have_no_seam() -> None:
    bands = noise_bands()
    seam, inside = np.abs(bands[:, :, 0] - bands[:, :, -1]).mean(1), np.abs(np.diff(bands, axis=2)).mean((1, 2))
    assert (seam < 1.3 * inside).all()


def test_noise_is_per_pixel_and_tiles_repeat() -> None:
    grain, half = strong(), TILE_PX // 2
    x = torch.ones(1, 3, half + 5, 2 * half)
    with torch.no_grad():
        out = grain(x)
        strength = grain.strength(x)[0, :, 0, 0]
    assert out.shape == (1, 4, half + 5, 2 * half)
    drawn = torch.nn.functional.pixel_shuffle(out, 2)[0, 0]
    wanted = torch.einsum("k,kyx->yx", strength, torch.from_numpy(noise_bands()))
    torch.testing.assert_close(drawn[:TILE_PX, :TILE_PX], wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(drawn[TILE_PX:], drawn[:10], atol=0, rtol=0)
    torch.testing.assert_close(drawn[:, TILE_PX:], drawn[:, :TILE_PX], atol=0, rtol=0)


def test_noise_offset_is_random_in_training_and_fixed_in_eval() -> None:
    grain, x = strong(), torch.ones(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(grain(x), grain(x), atol=0, rtol=0)
        grain.train()
        assert not torch.equal(grain(x), grain(x))


def test_new_noise_texture_adds_nothing() -> None:
    with torch.no_grad():
        assert not NoiseTexture(3)(torch.rand(1, 3, 8, 8)).any()
