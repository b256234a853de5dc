"""The processes of a run, on accelerate: alone, or several that train one network, each on its share of every batch.

Alone with `deocclude train ...` or `accelerate launch -m deocclude train ...`; several on GPUs with the latter or with
torchrun, several on a CPU with `torchrun --nproc-per-node 2 -m deocclude train ...`. On a CPU two processes of one
thread beat one process of two threads: the layers are too small to be split.

Gradients are averaged here once a step, not by DistributedDataParallel. DDP averages during the backward pass of what
its own `forward` returned, once a forward. Here a discriminator runs three times a step (for the network's loss with
its gradients off, then on the truth and on the fake), its spectral norms change buffers in each, a stage's losses call
several networks, and with accumulation only the last of several backward passes may average. One message after the
last backward pass is right for all of them, with no wrapper on any network; alone it costs nothing. The price is that
the message does not overlap with the backward pass: 16 MB a step for the networks that ship.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from deocclude.errors import DeviceError


def join(device: torch.device, accumulate: int = 1) -> tuple[Accelerator, torch.device]:
    """The processes that torchrun or `accelerate launch` started, and this one's device of the kind that is asked for.

    accumulate: backward passes a step; `Accelerator.backward` divides by it. Raises DeviceError when accelerate was
    started for another kind of device.
    """
    try:
        # mixed precision is the engine's own: accelerate fixes one for the whole process, a notebook may train with two
        accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="no", gradient_accumulation_steps=accumulate
        )
    except ValueError as error:  # it keeps the device of its first use
        raise DeviceError(
            f"device {device} was asked for, but this process has used another: start a new one"
        ) from error
    if accelerator.device.type != device.type:
        raise DeviceError(f"device {device} was asked for, but accelerate was started for {accelerator.device.type}")
    return accelerator, device if accelerator.num_processes == 1 else accelerator.device


@torch.no_grad()
def broadcast_weights(accelerator: Accelerator, *networks: nn.Module) -> None:
    """Give every process the first one's weights and buffers, whatever its own were drawn from."""
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
    """The mean of each value over the processes, which all have the same keys."""
    if accelerator.num_processes == 1 or not values:
        return values
    means: Tensor = accelerator.reduce(torch.tensor(list(values.values()), device=accelerator.device), "mean")
    return dict(zip(values, means.tolist(), strict=True))
