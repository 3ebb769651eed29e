"""Fixtures that every test may use: the real data kept beside a developer's checkout, and seeds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


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
