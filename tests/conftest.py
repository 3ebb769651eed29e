"""Fixtures every test may use: real data beside a developer's checkout, a small real problem, seeds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback, Verdict

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several processes one thread: more would wait for each other on busy cores."""
    if hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the browser's tests last: its driver keeps an event loop running in the main thread."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that cannot be committed; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("XFEEDBACK_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no development data at {path} (set XFEEDBACK_DATA)")
    return path


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    """Three classes of scikit-learn's digits, masks where there is ink."""
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
    """Ten answers of each kind."""
    words = ("accept", "reject", "unsure")
    return Feedback.of(Verdict(i, words[n % 3]) for n, i in enumerate(digits.ids[:30]))


@pytest.fixture
def make_model():
    """Return a function that makes the same small CNN each time."""

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
