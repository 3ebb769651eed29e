"""Packed arrays: unpacked when looked at, not kept afterwards, named when damaged."""

from __future__ import annotations

import base64
import gc
import tracemalloc
import weakref
import zlib

import numpy as np
import pytest

from xfeedback_widgets.feedback import Journal, RegionMask, Stroke, Verdict, from_dict

MASK = np.random.default_rng(0).integers(-1, 2, (64, 64))


@pytest.fixture
def reopened(tmp_path):
    path = tmp_path / "feedback.sqlite"
    with Journal(path) as journal:
        for number in range(40):
            journal.append(
                RegionMask(f"{number}", MASK, strokes=[Stroke("brush", 1, 4, [[1, 2], [3, 4]])])
            )
    with Journal(path) as journal:
        yield journal


def test_a_mask_is_given_while_somebody_holds_it_and_not_kept(reopened):
    record = reopened.records()[0]
    mask = record.mask
    assert record.mask is mask
    assert (mask == MASK).all()
    gone = weakref.ref(mask)
    del mask
    gc.collect()
    assert gone() is None


def test_looking_at_all_masks_leaves_nothing(reopened):
    records = reopened.records()
    tracemalloc.start()
    for record in records:
        assert record.mask.any()
        assert record.strokes[0].points[1].tolist() == [3, 4]
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < len(records) * MASK.size / 4  # a byte a pixel if all were kept


def test_values_compressed_otherwise_are_equal():
    data = RegionMask("7", MASK).to_dict()
    raw = zlib.compress(MASK.astype("int8").tobytes(), 1)
    data["mask"]["zlib_base64"] = base64.b64encode(raw).decode()
    other = from_dict(data)
    assert data["mask"] != RegionMask("7", MASK).to_dict()["mask"]
    assert other == RegionMask("7", MASK)
    assert hash(other) == hash(RegionMask("7", MASK))


@pytest.mark.parametrize(
    "text", ["!!!", "eJxj", "QQ==", base64.b64encode(zlib.compress(b"")).decode()]
)
def test_damage_is_found_at_once_in_files_and_named_when_looked_at_in_the_journal(text):
    data = RegionMask("7", MASK).to_dict()
    data["mask"]["zlib_base64"] = text
    with pytest.raises(ValueError, match="mask: the array data"):
        from_dict(data)
    record = from_dict(data, origin="event 3 of the journal")
    for look in (lambda: record.mask, lambda: hash(record)):
        with pytest.raises(ValueError, match="event 3 of the journal: mask: the array data"):
            look()


def test_values_are_checked_when_looked_at():
    data = RegionMask("7", [[1]]).to_dict()
    data["mask"]["zlib_base64"] = base64.b64encode(zlib.compress(b"\x07")).decode()
    with pytest.raises(ValueError, match=r"^mask may only hold"):
        from_dict(data)
    record = from_dict(data, origin="event 3 of the journal")
    with pytest.raises(ValueError, match=r"event 3 of the journal: mask may only hold.*7"):
        _ = record.mask


def test_maps_wait_as_well():
    verdict = from_dict(Verdict("7", "accept", map=np.eye(3)).to_dict(), origin="event 1")
    assert verdict.map.tolist() == np.eye(3).tolist()
    assert Verdict("7", "accept").map is None
