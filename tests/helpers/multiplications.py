"""Counts what a network computes."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class Multiplications(TorchDispatchMode):
    """Counts multiply-accumulates of convolutions and matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.__name__.partition(".")[0]
        if name == "convolution":
            self.count += out.numel() * args[1][0].numel()
        elif name in ("mm", "bmm"):
            self.count += out.numel() * args[0].shape[-1]
        elif name == "addmm":
            self.count += out.numel() * args[1].shape[-1]
        return out
