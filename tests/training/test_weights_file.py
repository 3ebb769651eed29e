"""What is written piece by piece is a safetensors file that the library reads."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
import safetensors.torch
import torch
from torchvision.models import mobilenet_v2

from xfeedback_widgets.training import weights_file
from xfeedback_widgets.training.weights_file import write_weights

OTHERS = ("float64", "float16", "bfloat16", "float8_e4m3fn", "int8", "int16", "uint8")


def test_every_kind_of_tensor_comes_back(tmp_path):
    torch.manual_seed(0)
    numbers = torch.randn(6, 5)
    state = {
        "step": torch.tensor(7),
        "turned, and 📁": numbers.T,
        "every other": numbers[:, ::2],
        "none": torch.empty(0, 3),
        "flags": numbers > 0,
        "a parameter": torch.nn.Parameter(numbers),
        "the same again": numbers,
        **{name: numbers.to(getattr(torch, name)) for name in OTHERS},
    }
    path = tmp_path / "weights"
    assert write_weights(path, state) == hashlib.sha256(path.read_bytes()).hexdigest()
    read = safetensors.torch.load_file(path)
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(read[name].double(), tensor.double())
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert length % 8 == 0
    for each in json.loads(path.read_bytes()[8 : 8 + length]).values():
        size = state["none"].element_size() if each["dtype"] == "F32" else 1
        assert each["data_offsets"][0] % size == 0


def test_pieces_reach_the_disk_one_after_another(tmp_path, monkeypatch):
    state = mobilenet_v2(num_classes=3).state_dict()
    whole = write_weights(tmp_path / "whole", state)
    lengths = []
    monkeypatch.setattr(weights_file, "_PIECE", 1 << 20)
    monkeypatch.setattr(weights_file, "_sync", lambda file: lengths.append(os.fstat(file).st_size))
    assert write_weights(tmp_path / "pieces", state) == whole
    steps = [after - before for before, after in zip([0, *lengths], lengths, strict=False)]
    assert len(steps) >= 6  # of nine megabytes
    assert all(1 << 20 <= step < 2 << 20 for step in steps)


def test_what_the_format_does_not_hold_is_refused(tmp_path):
    with pytest.raises((ValueError, RuntimeError, KeyError)):
        write_weights(tmp_path / "weights", {"sparse": torch.eye(3).to_sparse()})
