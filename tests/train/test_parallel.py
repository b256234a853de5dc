"""Two processes on one CPU: each draws its own share, and both step by the same, averaged gradients."""

import os
import subprocess
import sys

import torch
from torch import nn

from deocclude.train.parallel import Team

WORKER = """
import torch
from torch import nn
from deocclude.train.parallel import Team

team = Team.join(torch.device("cpu"))
net = nn.Linear(3, 2)
for p in net.parameters():
    p.grad = torch.full_like(p, float(team.rank + 1))
net.bias.grad += 4
team.average_gradients(net)
print(team.rank, team.size, team.leads, net.weight.grad.unique().tolist(), net.bias.grad.unique().tolist())
"""


def test_two_processes_average_their_gradients() -> None:
    env = os.environ | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29677", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER], env=env | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[0].strip() for process in started]
    assert said == ["0 2 True [1.5] [5.5]", "1 2 False [1.5] [5.5]"]


def test_alone_nothing_is_averaged(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team = Team.join(torch.device("cpu"))
    assert (team.rank, team.size, team.leads) == (0, 1, True)
    net = nn.Linear(2, 1)
    net.weight.grad = torch.tensor([[1.0, 2.0]])
    team.average_gradients(net)
    assert net.weight.grad.tolist() == [[1.0, 2.0]]
