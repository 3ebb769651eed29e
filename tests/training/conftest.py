"""A small real problem: scikit-learn's digits, two classes, with answers about some of them."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback, Verdict


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    images, labels = load_digits(n_class=3, return_X_y=True)
    tensors = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)[:120] / 16
    masks = tensors[:, 0] > 0.3
    return ImageSet(
        list(zip(tensors, labels[:120].tolist(), strict=True)),
        ids=[f"digit-{i}" for i in range(120)],
        class_names=["zero", "one", "two"],
        masks=masks,
    )


@pytest.fixture(scope="session")
def answers(digits) -> Feedback:
    words = ("accept", "reject", "unsure")
    return Feedback.of(Verdict(i, words[n % 3]) for n, i in enumerate(digits.ids[:30]))


@pytest.fixture
def make_model():
    def make(dropout: float = 0.0) -> nn.Module:
        torch.manual_seed(7)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(12, 3),
        )

    return make
