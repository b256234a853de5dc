"""Two processes on one CPU: each draws its own share, both step by the same gradients, and both stop together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import shared_run
from deocclude.checkpoints.files import load_state
from deocclude.errors import ConfigError, DeviceError
from deocclude.train import parallel
from deocclude.train.config import Phase, Schedule
from deocclude.train.engine import _check_batch_sizes
from deocclude.train.parallel import average_gradients, average_values, broadcast_weights, join


def test_two_processes_train_as_one_and_stop_and_resume_together(tmp_path: Path) -> None:
    """Half of each batch in either process is the whole batch in one; Ctrl-C in one of them ends both at one step."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])  # free a moment ago
    env = os.environ | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, shared_run.__file__, tmp_path / "two"],
            env=env | {"RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    first, second = (process.communicate(timeout=120)[0].splitlines() for process in started)
    assert first == second, "both have the same weights after the same steps"
    assert first[0].startswith("interrupted 2 ") and first[1].startswith("done 2 ")
    assert shared_run.train(tmp_path / "one", seed=0).startswith("done 4 ")
    one, two = (load_state(tmp_path / folder / "last.pt") for folder in ("one", "two"))
    for name in ("network", "ema", "discriminator"):
        for key, value in one[name].items():
            torch.testing.assert_close(two[name][key], value, rtol=1e-4, atol=1e-5)
    one, two = (
        [json.loads(line) for line in (tmp_path / folder / "log.jsonl").read_text().splitlines()]
        for folder in ("one", "two")
    )
    assert [line["step"] for line in two] == [1, 2, 3, 4, 4], "one of the two processes writes"
    for a, b in zip(one[:4], two[:4], strict=True):
        terms = ("l2", "adversarial", "discriminator")
        assert [b[t] for t in terms] == pytest.approx([a[t] for t in terms], rel=1e-4), "means over both processes"


def test_single_process_averages_nothing() -> None:
    accelerator, device = join(torch.device("cpu"))
    assert (accelerator.process_index, accelerator.num_processes, accelerator.is_main_process) == (0, 1, True)
    assert device == torch.device("cpu")
    net = nn.Linear(2, 1)
    net.weight.grad = gradient = torch.tensor([[1.0, 2.0]])
    average_gradients(accelerator, net)
    assert net.weight.grad is gradient and gradient.tolist() == [[1.0, 2.0]]
    before = net.weight.detach().clone()
    broadcast_weights(accelerator, net)
    assert torch.equal(net.weight, before) and average_values(accelerator, {"a": 0.1}) == {"a": 0.1}


def test_device_unavailable_to_accelerate_is_rejected(monkeypatch) -> None:
    join(torch.device("cpu"))  # from here on this process's accelerate is on the CPU
    with pytest.raises(DeviceError, match="device cuda was asked for, but accelerate was started for cpu"):
        join(torch.device("cuda"))

    def refuses(**_: object) -> None:
        raise ValueError("AcceleratorState has already been initialized")

    monkeypatch.setattr(parallel, "Accelerator", refuses)
    with pytest.raises(DeviceError, match="device cpu was asked for, but this process has used another: start a new"):
        join(torch.device("cpu"))


def test_batch_size_must_divide_by_processes_and_micro_batches() -> None:
    phases = (Phase(until=0.5, size_px=32, batch_size=8), Phase(until=1.0, size_px=32, batch_size=6))
    schedule = Schedule(steps=2, phases=phases, accumulate=2)
    _check_batch_sizes(schedule, 1, "mask")
    with pytest.raises(ConfigError) as caught:
        _check_batch_sizes(schedule, 2, "mask")
    said = "mask.schedule.phases.1.batch_size must be a multiple of 4 (2 processes, 2 micro batches each), got 6"
    assert str(caught.value) == said
