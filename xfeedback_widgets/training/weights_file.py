"""Writing weights to disk without being noticed: the safetensors format, piece by piece.

The library's own writer makes the whole file in memory first and holds the interpreter while it does: with a
ResNet-18 a click waits 50 ms for it. And whoever syncs a file of the same disk meanwhile, as the journal
does after every answer, waits for all that is not on it yet. Reading is the library's business.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from typing import TYPE_CHECKING

import safetensors.torch
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_PIECE = 4 << 20  # bytes that are on disk before the next are written
_sync = getattr(os, "fdatasync", os.fsync)  # Linux: the length of the file can wait


def write_weights(path: Path, state: Mapping[str, torch.Tensor]) -> str:
    """Write a state dict as a safetensors file, on disk when it returns.

    Parameters
    ----------
    path
        The file; what is there is overwritten.
    state
        Dense tensors of any device and any dtype safetensors knows. Those that share memory are written
        once for each name.

    Returns
    -------
    str
        SHA-256 of the file.
    """
    digest, unsynced = hashlib.sha256(), 0
    with path.open("wb") as file:
        for piece in _pieces(state):
            digest.update(piece)
            file.write(piece)
            unsynced += len(piece)
            if unsynced >= _PIECE:
                file.flush()
                _sync(file.fileno())
                unsynced = 0
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _order(state: Mapping[str, torch.Tensor]) -> list[str]:
    """Names as they follow each other: the largest elements first, so that all begin where theirs may."""
    return sorted(state, key=lambda name: (-state[name].element_size(), name))


def _header(state: Mapping[str, torch.Tensor]) -> bytes:
    described, end = {}, 0
    for name in _order(state):
        tensor = state[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        described[name] = {
            "dtype": _name_of(tensor.dtype),
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@functools.cache
def _name_of(dtype: torch.dtype) -> str:
    """What the format calls a dtype, as the library writes it."""
    written = safetensors.torch.save({"": torch.empty(0, dtype=dtype)})
    name: str = json.loads(written[8:])[""]["dtype"]
    return name


def _pieces(state: Mapping[str, torch.Tensor]) -> Iterator[bytes | memoryview]:
    yield _header(state)
    for name in _order(state):
        flat = state[name].detach().cpu().contiguous().flatten()
        content = flat.view(torch.uint8).numpy().data
        for start in range(0, len(content), _PIECE):
            yield content[start : start + _PIECE]
