"""Versions: whole or not there, checked when read, damage named and survived."""

from __future__ import annotations

import random

import pytest
import torch

from xfeedback_widgets.training import DamagedVersionError, VersionStore


def _state(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((40, 5), value), "steps": torch.tensor(3)}


def _write(store: VersionStore, value: float, **changes):
    fields = {"metrics": {"accuracy": value}, "parent": None, "answers": 1, "correction": "none"}
    return store.write(_state(value), **fields | changes)


@pytest.fixture
def store(tmp_path) -> VersionStore:
    store = VersionStore(tmp_path)
    for value in (0.0, 1.0, 2.0):
        store.point_to(_write(store, value).number)
    return store


def test_reads_back_what_was_written(store):
    version, weights = store.current()
    assert (version.number, version.metrics, version.answers) == (2, {"accuracy": 2.0}, 1)
    assert all(torch.equal(weights[name], t) for name, t in _state(2.0).items())
    assert [v.number for v in store] == [0, 1, 2]


def test_an_empty_directory_has_no_version(tmp_path):
    store = VersionStore(tmp_path / "new")
    assert store.current() is None
    assert store.damage == []


def test_tied_weights_are_written(tmp_path):
    shared = torch.rand(4)
    store = VersionStore(tmp_path)
    number = store.write(
        {"a": shared, "b": shared}, metrics={}, parent=None, answers=0, correction=""
    ).number
    assert torch.equal(store.weights(number)["b"], shared)


def test_unknown_version_lists_the_known(store):
    with pytest.raises(KeyError, match="no version 9; there are: 0, 1, 2"):
        store.get(9)


def test_old_versions_are_deleted_but_never_the_original_or_the_current(tmp_path):
    store = VersionStore(tmp_path, keep=2)
    for value in range(7):
        store.point_to(_write(store, float(value)).number)
    assert [v.number for v in store] == [0, 4, 5, 6]
    store.point_to(4)
    store.point_to(_write(store, 7.0).number)
    assert [v.number for v in store] == [0, 5, 6, 7]


@pytest.mark.parametrize("name", ["weights.safetensors", "version.json", "CURRENT"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_damage_is_named_and_the_last_good_version_used(store, name, damage):
    path = (
        store.directory / name if name == "CURRENT" else store.directory / "versions/000002" / name
    )
    content = bytearray(path.read_bytes())
    rng = random.Random(f"{name}{damage}")
    for _ in range(20):
        damaged = bytearray(content)
        position = rng.randrange(len(content))
        if damage == "flip":
            damaged[position] ^= 1 << rng.randrange(8)
        elif damage == "truncate":
            del damaged[position:]
        elif damage == "empty":
            damaged.clear()
        path.unlink(missing_ok=True)
        if damage != "remove":
            path.write_bytes(damaged)
        again = VersionStore(store.directory)
        version, weights = again.current()
        # never wrong weights: the newest good version, and its own content
        assert version.number == (2 if name == "CURRENT" else 1)
        assert torch.equal(weights["weight"], _state(float(version.number))["weight"])
        assert any(str(path) in message for message in again.damage)


def test_nothing_readable_is_an_error_that_names_everything(store):
    for number in range(3):
        (store.directory / f"versions/{number:06d}/weights.safetensors").write_bytes(b"x")
    with pytest.raises(DamagedVersionError, match=r"no version .* can be read.*000000.*"):
        VersionStore(store.directory).current()


def test_a_write_that_fails_leaves_no_version(store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xfeedback_widgets.training.versions._write_durably", full)
    with pytest.raises(OSError, match="No space left"):
        _write(store, 9.0)
    monkeypatch.undo()
    assert [v.number for v in VersionStore(store.directory)] == [0, 1, 2]
    assert _write(store, 3.0).number == 3


def test_what_killed_processes_left_is_swept_up(store):
    left = [store.directory / "versions" / name for name in (".writing-1", ".deleting-000007")]
    for path in left:
        path.mkdir()
        (path / "weights.safetensors").write_bytes(b"half")
    _write(store, 3.0)
    assert not any(path.exists() for path in left)


def test_a_kill_in_the_middle_of_deleting_damages_nothing(tmp_path, monkeypatch):
    store = VersionStore(tmp_path, keep=1)
    for value in range(3):
        store.point_to(_write(store, float(value)).number)
    newest = _write(store, 3.0).number

    def killed(path, **_):
        (path / "version.json").unlink(missing_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr("xfeedback_widgets.training.versions.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.point_to(newest)
    again = VersionStore(tmp_path)
    assert again.current()[0].number == newest
    assert [v.number for v in again] == [0, 2, 3]
    assert again.damage == []


def test_a_version_deleted_while_listing_is_left_out(store, monkeypatch):
    monkeypatch.setattr(store, "_numbers", lambda: [0, 1, 2, 3])
    assert [v.number for v in store] == [0, 1, 2]
