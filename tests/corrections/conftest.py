"""A network whose maps are rarely empty, and images with masks, for the corrections that learn from them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xfeedback_widgets.data import ImageSet


class Net(nn.Sequential):
    """Two convolutions, pool, linear; counts its forwards; cannot tell left from right."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        )
        self.forwards = 0
        with torch.no_grad():
            self[7].weight.copy_(torch.eye(3, 6) + torch.rand(3, 6) / 10)
            self[3].bias.fill_(0.3)
            for convolution in (self[0], self[3]):
                weight = convolution.weight
                weight.copy_((weight + weight.flip(3)) / 2)

    def forward(self, images):
        self.forwards += 1
        return super().forward(images)


@pytest.fixture
def net():
    """Make the network; the same one after the same seed."""
    return Net


@pytest.fixture
def data() -> ImageSet:
    """Twelve noise images of three classes with ids "a" … "l"."""
    images = torch.rand(12, 1, 12, 12)
    return ImageSet([(image, i % 3) for i, image in enumerate(images)], ids=list("abcdefghijkl"))


@pytest.fixture
def corner():
    """Make a mask ``int8 [H, W]``: relevant upper left quarter, the rest as said."""

    def make(size: int = 12, rest: int = 0):
        mask = torch.full((size, size), rest, dtype=torch.int8)
        mask[: size // 2, : size // 2] = 1
        return mask.numpy()

    return make
