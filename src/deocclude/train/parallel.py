"""Processes of a run, on accelerate: one, or several that train one network, each on a part of every batch.

One process: `deocclude train ...` or `accelerate launch -m deocclude train ...`. Several on GPUs: the latter or
torchrun. Several on a CPU: `torchrun --nproc-per-node 2 -m deocclude train ...`. On a CPU two processes of one thread
are faster than one process of two threads, because the layers are small.

Gradients are averaged here once per step, not by DistributedDataParallel (DDP). DDP averages during the backward pass,
once per call of its own `forward`. Here a discriminator runs three times per step (frozen for the network's loss, then
on true and on fake samples), spectral normalisation changes its buffers in each call, the losses of a stage call
several networks, and with accumulation only the last of several backward passes may average. One message after the
last backward pass is correct in all these cases, without a wrapper on any network and without cost for one process.
The message does not overlap with the backward pass: 16 MB per step for the shipped networks.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from deocclude.errors import DeviceError


def join(device: torch.device, accumulate: int = 1) -> tuple[Accelerator, torch.device]:
    """Join the processes that torchrun or `accelerate launch` started.

    Args:
        device: requested device.
        accumulate: backward passes per step; `Accelerator.backward` divides by it.

    Returns:
        The accelerator, and the device of this process.

    Raises:
        DeviceError: accelerate was started for another kind of device.
    """
    try:
        # the engine sets the precision itself: accelerate would fix it for the whole process
        accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="no", gradient_accumulation_steps=accumulate
        )
    except ValueError as error:  # accelerate keeps the device of its first use
        raise DeviceError(
            f"device {device} was asked for, but this process has used another: start a new one"
        ) from error
    if accelerator.device.type != device.type:
        raise DeviceError(f"device {device} was asked for, but accelerate was started for {accelerator.device.type}")
    return accelerator, device if accelerator.num_processes == 1 else accelerator.device


@torch.no_grad()
def broadcast_weights(accelerator: Accelerator, *networks: nn.Module) -> None:
    """Copy weights and buffers of the first process to all processes."""
    if accelerator.num_processes == 1:
        return
    for network in networks:
        for tensor in network.state_dict().values():
            tensor.copy_(broadcast(tensor.contiguous()))


def average_gradients(accelerator: Accelerator, network: nn.Module) -> None:
    """Replace each gradient by its mean over the processes, in one message."""
    if accelerator.num_processes == 1:
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = accelerator.reduce(torch.cat([g.reshape(-1) for g in gradients]), "mean")
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def average_values(accelerator: Accelerator, values: dict[str, float]) -> dict[str, float]:
    """The mean of each value over the processes; all processes must have the same keys."""
    if accelerator.num_processes == 1 or not values:
        return values
    means: Tensor = accelerator.reduce(torch.tensor(list(values.values()), device=accelerator.device), "mean")
    return dict(zip(values, means.tolist(), strict=True))
