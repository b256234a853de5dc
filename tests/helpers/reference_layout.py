"""State dicts of random numbers with the names and shapes of the published reference definitions, at any width."""

from __future__ import annotations

import torch
from torch import Tensor


def stage1(width: int, parts: int = 20, poses: int = 64) -> dict[str, Tensor]:
    """Two U-Nets of double convolutions; theirs has width 64, 20 parts and 64 poses."""
    w = width
    state: dict[str, Tensor] = {}
    for suffix, c_in in (("", 4), ("_hg2", w + 3)):
        doubles = {f"inc{suffix}.conv.conv": (c_in, w)}
        downs, ups = (w, 2 * w, 4 * w, 8 * w, 8 * w), (16 * w, 8 * w, 4 * w, 2 * w)
        doubles |= {f"down{n}{suffix}.mpconv.1.conv": (downs[n - 1], downs[n]) for n in range(1, 5)}
        doubles |= {
            f"up{n}{suffix}.conv.conv": (c, out)
            for n, c, out in zip(range(1, 5), ups, (4 * w, 2 * w, w, w), strict=True)
        }
        for name, (a, b) in doubles.items():
            state |= (
                conv(f"{name}.0", a, b, 3) | norm(f"{name}.1", b) | conv(f"{name}.3", b, b, 3) | norm(f"{name}.4", b)
            )
    for mask, hidden, guided in (("modal", 16, w + 32), ("amodal", 32, w + 64)):
        state |= conv(f"{mask}_conv.0", guided, hidden, 3) | conv(f"{mask}_conv.2", hidden, 2, 3)
        pre = f"parsing_{mask}_conv_pre.0"
        state |= conv(f"{pre}.downsample", w, 32, 3) | conv(f"{pre}.conv1", w, 32, 3) | conv(f"{pre}.conv2", 32, 32, 3)
        state |= {f"se_{mask}.fc.0.weight": torch.randn(8, 32), f"se_{mask}.fc.2.weight": torch.randn(32, 8)}
        state |= conv(f"parsing_{mask}_conv", 32, parts, 3)
    return state | {"anchors": torch.rand(poses, 32, 32)} | conv("reweight_gate.anchor_conv", poses, poses // 2, 3)


def stage2(width: int, parts: int = 19) -> dict[str, Tensor]:
    """A partial-convolution U-Net with attention at four places; theirs has width 64 and 19 parts."""
    widths = [width, 2 * width, 4 * width, *[8 * width] * 4]
    kernels = (7, 5, 5, 3, 3, 3, 3)
    state: dict[str, Tensor] = {}
    for n, (a, b, k) in enumerate(zip([5, *widths], widths, kernels, strict=False), start=1):
        state |= partial(f"enc_{n}", a, b, k, normed=n > 1)
        below = widths[n - 2] if n > 1 else 5
        out = widths[n - 2] if n > 1 else 3
        state |= partial(f"dec_{n}", b + below, out, 3, normed=n > 1)
    state["dec_1.conv.input_conv.bias"] = torch.randn(3)
    for name, c in (("enc_3", widths[2]), ("enc_5", widths[4]), ("dec_5", widths[3]), ("dec_3", widths[1])):
        at = f"{name}_att"
        state |= conv(f"{at}.modal_parsing_conv", c, parts, 3) | conv(f"{at}.amodal_parsing_conv", c, parts, 3)
        for key in ("q_conv", "k_conv"):
            state |= conv(f"{at}.{key}", c + parts, max(1, c // 8), 3)
        state |= conv(f"{at}.v_conv", c, c, 3) | conv(f"{at}.comp_conv", c + 2 * parts, c, 3)
        state |= conv(f"{at}.out_conv", 3 * c, c, 3)
        hidden = max(1, c // 8)
        state |= {f"{at}.selayer.fc.0.weight": torch.randn(hidden, c)}
        state |= {f"{at}.selayer.fc.2.weight": torch.randn(c, hidden)}
    return state


def conv(name: str, c_in: int, c_out: int, kernel: int) -> dict[str, Tensor]:
    """A convolution with a bias."""
    return {f"{name}.weight": torch.randn(c_out, c_in, kernel, kernel), f"{name}.bias": torch.randn(c_out)}


def norm(name: str, channels: int) -> dict[str, Tensor]:
    """A batch norm that has seen something."""
    values = {k: torch.randn(channels) for k in ("weight", "bias", "running_mean")}
    values |= {"running_var": torch.rand(channels) + 0.5, "num_batches_tracked": torch.tensor(9)}
    return {f"{name}.{k}": v for k, v in values.items()}


def partial(name: str, c_in: int, c_out: int, kernel: int, *, normed: bool) -> dict[str, Tensor]:
    """A partial convolution without bias, with the ones that count valid inputs."""
    state = {f"{name}.conv.input_conv.weight": torch.randn(c_out, c_in, kernel, kernel)}
    state[f"{name}.conv.mask_conv.weight"] = torch.ones(c_out, c_in, kernel, kernel)
    return state | (norm(f"{name}.bn", c_out) if normed else {})
