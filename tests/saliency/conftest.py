"""Small classifiers whose maps are not empty, and a record of everything a method could disturb."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """Two convolutions, global average pool, one linear layer; `between` stands in the head."""

    def __init__(self, between=None, classes=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.Tanh())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.between = between or nn.Identity()
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        pooled = self.pool(self.last(self.stem(images))).flatten(1)
        return self.head(self.between(pooled))


class Twisted(nn.Module):
    """Inner-ReLU functional model with a head that is not a pool and one linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, 2, 1)
        self.hidden = nn.Linear(5 * 4, 7)
        self.head = nn.Linear(7, 3)

    def forward(self, images):
        maps = F.adaptive_avg_pool2d(torch.tanh(self.conv(images)), 2)
        return self.head(torch.tanh(self.hidden(maps.flatten(1))))


@pytest.fixture
def net():
    """Make a `Net`; ``net(between)`` puts a module before its linear layer."""
    return Net


@pytest.fixture
def twisted():
    return Twisted


@pytest.fixture
def state_of():
    """Everything about a model that looking at it must leave alone."""

    def state(model):
        return {
            "modes": [m.training for m in model.modules()],
            "hooks": [
                len(hooks)
                for m in model.modules()
                for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
            ],
            "requires_grad": [p.requires_grad for p in model.parameters()],
            "grad": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
            "values": [v.tolist() for v in model.state_dict().values()],
            "rng": torch.get_rng_state().tolist(),
            "grad_mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        }

    return state
