"""Files of byproducts: exact there and back, streamed, and refused by entry where they cannot be right."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import numpy as np
import pytest

from xfeedback_widgets.feedback import (
    Byproduct,
    CocoAB,
    ExchangeError,
    ImageNetAB,
    Verdict,
    anonymous,
    export_ab,
    export_imagenet_xml,
    export_records,
    import_bubbleview,
    import_coco_ab,
    import_imagenet_ab,
    import_records,
)

WORKERS = ("ada@work", "bob@work")


def _browsed(number, rng):
    times = sorted(rng.uniform(1.6e12, 1.7e12) for _ in range(6))
    return ImageNetAB(
        f"n0144/n0144_{number // 2}", 375, 500, 243, 243.25,
        imagePosition=(857, rng.uniform(0, 9000)),
        hoveredRecord=[("enter", 5), ("leave", 1641425052740)],
        hoveredCount=1,
        mouseTracking=[[rng.random(), rng.random(), at] for at in times],
        selected=number % 3 > 0,
        selectedCount=2,
        selectedRecord=[(rng.random(), 1, 7), (0.5, rng.random(), 1641425052319)],
        estimateTime=rng.uniform(0, 4000),
        worker_id=WORKERS[number % 2],
    )  # fmt: skip


def _tagged(number, rng):
    point = (rng.random(), rng.random())
    return CocoAB(
        number, 428, 640, 450, 450, timeSpent=9000.5,
        actionHistories=[("add", "cup", None, point, 1), ("remove", "cup", point, None, 2.5)],
        categoryHistories=[(3, "Kitchenware", 0, True)],
        mouseTracking=[[rng.random(), 0.25, 3]],
        worker_id=WORKERS[number % 2], hit_id="h", page_id=4, others='{"assignment_id": "A"}',
    )  # fmt: skip


BROWSED = [_browsed(number, random.Random(number)) for number in range(7)]
TAGGED = [_tagged(number, random.Random(number)) for number in range(7)]


@pytest.mark.parametrize(
    ("records", "read"), [(BROWSED, import_imagenet_ab), (TAGGED, import_coco_ab)]
)
def test_json_comes_back_exactly(tmp_path, records, read):
    path = tmp_path / "ab.json"
    assert export_ab(iter(records), path, workers="keep") == 7
    assert list(read(path)) == records
    before = path.read_bytes()
    export_ab(read(path), path, workers="keep")
    assert path.read_bytes() == before
    assert json.loads(before) == [record.to_dict() for record in records]
    (tmp_path / "lines").write_text("\n".join(json.dumps(r.to_dict()) for r in records))
    assert list(read(tmp_path / "lines")) == records
    assert export_ab([], path) == 0
    assert list(read(path)) == []


def test_xml_comes_back_exactly(tmp_path):
    assert export_imagenet_xml(BROWSED, tmp_path, workers="keep") == 4
    assert (tmp_path / "n0144" / "n0144_0.xml").exists()
    assert list(import_imagenet_ab(tmp_path)) == BROWSED


RELEASED = """<annotation><folder>n0144</folder><filename>n0144_9</filename>
<size><width>500</width><height>375</height><depth>3</depth></size>
<metadata><selected>False</selected><estimateTime>0</estimateTime></metadata>
<metadata><imageHeight>243</imageHeight><selected>True</selected>
<selectedRecord><x>0.25</x><y>0.5</y></selectedRecord>
<selectedRecord><x>0.5</x><y>0.4</y></selectedRecord>
<mouseTracking><x>0.5</x><y>0.5</y></mouseTracking>
<mouseTracking><x>0.5</x><y>0.5</y><time>7</time></mouseTracking>
<worker_id>007</worker_id></metadata></annotation>"""


def test_the_released_xml_gives_the_final_click(tmp_path):
    """The published loader takes the first click, and the mean over workers."""
    (tmp_path / "a.xml").write_text(RELEASED)
    passed, clicked = import_imagenet_ab(tmp_path / "a.xml")
    assert passed.final_click is None
    assert clicked.imageID == "n0144/n0144_9"
    assert clicked.final_click == (0.5, 0.4)
    assert clicked.pixels(clicked.final_click) == (250, 150)
    assert clicked.worker_id == "007"
    assert clicked.mouseTracking.tolist() == [[0.5, 0.5, 7]]
    export_imagenet_xml([passed, clicked], tmp_path / "out", workers="keep")
    assert list(import_imagenet_ab(tmp_path / "out")) == [passed, clicked]


@pytest.mark.parametrize("export", [export_ab, export_imagenet_xml])
def test_workers_are_hashed_unless_asked_otherwise(tmp_path, export):
    def workers(name, **options):
        export(BROWSED, tmp_path / name, **options)
        files = sorted(p for p in (tmp_path / name, *(tmp_path / name).rglob("*")) if p.is_file())
        assert not any(worker in file.read_text() for worker in WORKERS for file in files)
        return [record.worker_id for record in import_imagenet_ab(tmp_path / name)]

    first = workers("a", salt="x")
    assert len(set(first)) == 2
    assert workers("b", salt="x") == first
    assert set(workers("c")).isdisjoint(first) and set(workers("d")).isdisjoint(workers("e"))  # noqa: PT018


def test_records_of_the_journal_can_be_made_anonymous(tmp_path):
    given = [
        Byproduct("1", BROWSED[0], annotator=WORKERS[0], time=1.0),
        Byproduct("2", TAGGED[1], annotator=WORKERS[1], time=2.0),
        Verdict("1", "accept", annotator=WORKERS[0]),
        Verdict("2", "accept"),
    ]
    for ending in ("jsonl", "csv", "parquet"):
        export_records(given, tmp_path / f"all.{ending}")
        assert import_records(tmp_path / f"all.{ending}") == given
    hidden = anonymous(given, salt="x")
    export_records(hidden, tmp_path / "hidden.jsonl")
    text = (tmp_path / "hidden.jsonl").read_text()
    assert not any(f'"{word}"' in text for word in (*WORKERS, "assignment_id"))
    assert hidden[0].annotator == hidden[0].trace.worker_id == hidden[2].annotator
    assert hidden[3] == given[3]
    assert anonymous(given)[0].annotator != hidden[0].annotator


GOOD = json.dumps(TAGGED[0].to_dict())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"[{GOOD}, {GOOD.replace('450', '-1')}]", "entry 2: imageHeight.*-1"),
        (f"[{GOOD}, 7]", "entry 2: .*object.*'7'"),
        (f"[{GOOD} {GOOD}]", "no comma.*entry 1"),
        (f"[{GOOD},]", "breaks off after entry 1"),
        (f"[{GOOD}", "after entry 1"),
        (f"[{GOOD}] {GOOD}", "follows entry 1"),
        (f"[{GOOD}, {GOOD[:99]}", "entry 2: not JSON"),
        (f'[{GOOD[:-1]}, "image_id": 3}}]', "entry 1: .*'image_id' is given twice"),
        (f'[{{"image_id": {"[" * 100_000}', "entry 1: .*not JSON"),
        (f'[{{"image_id": {"9" * 5000}}}]', "entry 1: .*not JSON"),
        (f'[{{"image_id": "{"9" * 2**24}', "entry 1: longer than"),
        ('[{"image_id": NaN}]', "entry 1: .*NaN"),
        (b'[{"image_id": "\xff"}]', "not UTF-8"),
        ('{"a": {"image_id": 3}}', "entry 1: CocoAB lacks the field 'image_id'"),
    ],
)
def test_hostile_json_is_refused_by_entry(tmp_path, content, words):
    path = tmp_path / "ab.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ExchangeError, match=words):
        list(import_coco_ab(path))


def test_entries_that_cannot_be_right_may_be_passed_over(tmp_path):
    path = tmp_path / "ab.json"
    path.write_text(f"[{GOOD}, {GOOD.replace('450', '-1')}, {GOOD}]")
    refused = []
    found = list(import_coco_ab(path, on_refused=lambda *said: refused.append(said)))
    assert found == [TAGGED[0]] * 2
    ((where, why),) = refused
    assert where.endswith("entry 2")
    assert "imageHeight" in why


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('<!DOCTYPE a [<!ENTITY e "e">]><a>&e;</a>', "document type"),
        ("<a><metadata>", "cannot be read as XML"),
        (RELEASED.replace("0.4", "40"), r"metadata 2: selectedRecord\[1\]\.y"),
        (RELEASED.replace("<height>375</height>", ""), "originalImageHeight"),
        (RELEASED.replace("True", "perhaps"), "metadata 2: selected .*'perhaps'"),
    ],
)
def test_hostile_xml_is_refused_by_entry(tmp_path, content, words):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(ExchangeError, match=words):
        list(import_imagenet_ab(tmp_path))


@pytest.mark.parametrize("image", ["../out", "/etc/passwd", "a/../../b", "c:\\d", ""])
def test_names_that_lead_elsewhere_are_not_written(tmp_path, image):
    record = ImageNetAB.from_dict(BROWSED[0].to_dict() | {"imageID": image or "."})
    with pytest.raises(ExchangeError, match="cannot be the name of a file"):
        export_imagenet_xml([record], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_is_streamed(tmp_path):
    """Many times the memory that reading it may take; the 398 MB are the benchmark's business."""
    path = tmp_path / "large.json"
    entry = json.dumps(BROWSED[0].to_dict() | {"note": "x" * 100_000})
    with path.open("w") as file:
        file.write("[" + ",".join([entry] * 600) + "]")
    code = f"""
import resource
from xfeedback_widgets.feedback import import_imagenet_ab
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seen = []
count = sum(1 for _ in import_imagenet_ab({str(path)!r}, on_progress=lambda *at: seen.append(at)))
assert seen[-1] == ({path.stat().st_size},) * 2 and seen == sorted(seen), seen
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, kilobytes = map(int, done.stdout.split())
    assert count == 600
    assert kilobytes < 20_000 < path.stat().st_size / 1024


def test_bubbleview_clicks_load_and_can_be_replayed(shared_data, tmp_path):
    folder = shared_data / "bubbleview"
    clicks = import_bubbleview(folder / "salicon30x30.mat")
    assert len({record.imageID for record in clicks}) == 51
    assert len(clicks) == 780
    assert sum(record.selectedCount or 0 for record in clicks) == 9006
    first = clicks[0]
    assert first.imageID == "COCO_train2014_000000001014.jpg"
    assert (first.originalImageWidth, first.originalImageHeight) == (640, 480)
    assert first.pixels(first.final_click) == pytest.approx((75.5, 340))
    assert [c.time - first.selectedRecord[0].time for c in first.selectedRecord][:3] == [
        0,
        2e3,
        4e3,
    ]
    export_ab(clicks, tmp_path / "clicks.json", workers="keep")
    assert list(import_imagenet_ab(tmp_path / "clicks.json")) == clicks
    eyes = import_bubbleview(folder / "osie-eye-official.mat", keep="path")
    assert sum(len(record.mouseTracking) for record in eyes) == 7117
    assert eyes[0].mouseTracking[:2, 2].tolist() == [80, 257]  # durations, added up


def test_other_files_are_no_bubbleview(tmp_path):
    from scipy.io import savemat

    for name, content in (("a", b"text"), ("b", b"MATLAB 5.0 MAT-file" + bytes(300))):
        (tmp_path / f"{name}.mat").write_bytes(content)
        with pytest.raises(ExchangeError, match="no file of BubbleView"):
            import_bubbleview(tmp_path / f"{name}.mat")
    entry = {"filename": "a.jpg", "impath": "a.jpg", "userdata": np.zeros(1)}
    savemat(tmp_path / "c.mat", {"bubble": entry})
    with pytest.raises(ExchangeError, match=r"entry 1.*a\.jpg"):
        import_bubbleview(tmp_path / "c.mat")
