"""Browsing pages without a browser: what a page sends becomes records of ImageNet-AB, on disk and exact."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from PIL import Image

from xfeedback_widgets import simulate
from xfeedback_widgets.corrections import Luab
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import (
    Feedback,
    ImageNetAB,
    Verdict,
    export_ab,
    import_bubbleview,
    import_imagenet_ab,
)
from xfeedback_widgets.metrics import hit_rate
from xfeedback_widgets.session import Session
from xfeedback_widgets.widgets import BrowseWidget
from xfeedback_widgets.widgets.browse.tracer import (
    ENTER,
    LEAVE,
    MOVE,
    NOWHERE,
    SELECT,
    UNSELECT,
    BrowseTrace,
    apply,
    rows_of,
)

BEGAN = 1_700_000_000_000


@pytest.fixture
def browse(session, make_widget):
    return functools.partial(make_widget, BrowseWidget, session, "one", page_size=12)


def send(widget, *rows, number=1, visit=0, places=(), source="page"):
    """Send what happened as the page does: (what, tile, x, y, ms since it began)."""
    data = np.array([(*row[:-1], BEGAN + row[-1]) for row in rows], "<f8")
    message = {"kind": "batch", "source": source, "number": number, "visit": visit}
    message |= {"places": list(places), "time": BEGAN + 10**6}
    widget.pages.receive(message, [data.tobytes()])
    assert widget.wait()


def test_a_page_becomes_the_exact_record():
    trace = BrowseTrace("n01440764/7", (375, 500), "ada")
    trace.put((857, 1976.5, 243, 182.25))
    rows = [
        (ENTER, 0, 0.1, 0.1, 100), (MOVE, 0, 0.1, 0.1, 100), (MOVE, 0, 0.2, 0.2, 110),
        (MOVE, 0, 0.3, 0.3, 117), (SELECT, 0, 0.5, 0.4, 200), (MOVE, 0, 0.6, 0.6, 240),
        (UNSELECT, 0, 0.6, 0.6, 300), (MOVE, 0, 0.7, 0.6, 330), (SELECT, 0, 0.25, 0.75, 400),
        (LEAVE, 0, 1.1, 0.5, 450),
    ]  # fmt: skip
    assert apply([trace], rows) == {0}
    assert trace.record().to_dict() == {
        "imageID": "n01440764/7",
        "originalImageHeight": 375,
        "originalImageWidth": 500,
        "imageHeight": 182.25,
        "imageWidth": 243,
        "imagePosition": {"x": 857, "y": 1976.5},
        "hoveredRecord": [{"action": "enter", "time": 100}, {"action": "leave", "time": 450}],
        "hoveredCount": 1,
        # neither the place 10 ms after another one nor the one while it was selected
        "mouseTracking": [
            {"x": 0.1, "y": 0.1, "time": 100},
            {"x": 0.3, "y": 0.3, "time": 117},
            {"x": 0.7, "y": 0.6, "time": 330},
        ],
        "selected": True,
        "selectedCount": 2,
        "selectedRecord": [
            {"x": 0.5, "y": 0.4, "time": 200},
            {"x": 0.25, "y": 0.75, "time": 400},
        ],
        "estimateTime": 200,
        "worker_id": "ada",
    }


def test_clicks_are_on_disk_before_they_are_acknowledged(browse, session):
    widget = browse()
    seen = []
    session.subscribe(
        lambda event, _: (
            seen.append((event, dict(widget.pages.acknowledged))) if event == "recorded" else None
        )
    )
    send(widget, (ENTER, 3, 0.5, 0.5, 10), (SELECT, 3, 0.25, 0.5, 20), (SELECT, 5, 0.1, 0.2, 40))
    assert seen == [("recorded", {})] * 2
    assert widget.pages.acknowledged == {"page": 1}
    assert widget.chosen == (widget.page[3], widget.page[5])
    assert widget.pages.chosen["0"] == [3, 5]
    assert "Saved: 2 pictures selected" in widget.status
    assert session.feedback.points[widget.page[3]] == {1: (0.25, 0.5)}
    assert session.feedback.byproducts[widget.page[3]][0].duration == 0.01
    send(widget, (UNSELECT, 5, 0.1, 0.2, 60), number=2)
    assert widget.chosen == (widget.page[3],)
    assert widget.page[5] not in session.feedback.points
    send(widget, (SELECT, 5, 0.1, 0.2, 60), number=2)  # the same batch once more
    assert widget.chosen == (widget.page[3],)


def test_all_pictures_are_written_when_the_page_is_turned(browse, session):
    widget = browse(mixed_in=0.2)
    labels = [int(session.data.labels[session.data.index(i)]) for i in widget.page]
    assert set(labels) > {1}
    assert labels.count(1) > 6
    first = widget.page
    assert not widget.records
    widget.buttons["next_page"].click()
    assert widget.wait()
    assert "Saved: page 1" in widget.status
    assert [record.imageID for record in widget.records] == list(first)
    assert {record.hoveredCount for record in widget.records} == {0}
    assert widget.pages.number == 1
    assert {widget.pages.sheet_0["number"], widget.pages.sheet_1["number"]} == {0, 1}
    # what the page notes while it turns belongs to the page that it was about
    send(widget, (LEAVE, 0, 0, 0, 5), (MOVE, 2, 0.5, 0.5, 9), visit=0)
    widget.close()
    assert len(widget.records[2].mouseTracking) == 1
    assert len(session.feedback.byproducts) == 12


def test_opened_again_it_goes_on_where_it_was(browse, session):
    widget = browse()
    send(widget, (ENTER, 2, 0.5, 0.5, 0), (SELECT, 2, 0.5, 0.5, 30), places=[(0, 0, 99, 99)] * 12)
    page = widget.page
    widget.close()
    widget = browse()
    assert (widget.page, widget.chosen) == (page, (page[2],))
    send(widget, (UNSELECT, 2, 0, 0, 500), (SELECT, 2, 0.1, 0.9, 600), (LEAVE, 2, 1, 1, 650))
    record = next(r for r in widget.records if r.imageID == page[2])
    assert [click.time - BEGAN for click in record.selectedRecord] == [30, 600]
    assert (record.selectedCount, record.hoveredCount, record.imageWidth) == (2, 1, 99)
    widget.buttons["next_page"].click()
    assert widget.wait()
    assert browse().page == widget.page != page


def test_a_click_that_cannot_be_saved_is_not_acknowledged(browse, session, monkeypatch):
    widget = browse()
    with monkeypatch.context() as broken:

        def refuse(_):
            raise OSError("no space left on device")

        broken.setattr(session, "record", refuse)
        send(widget, (SELECT, 1, 0.5, 0.5, 10))
        assert "no space left" in widget.status
    assert widget.pages.acknowledged == {}
    send(widget, (SELECT, 4, 0.5, 0.5, 20), number=2)
    assert widget.pages.acknowledged == {"page": 2}
    assert {r.imageID for r in widget.records} == {widget.page[1], widget.page[4]}


@pytest.mark.parametrize(
    "row", [(SELECT, 12, 0.5, 0.5, 0), (SELECT, 0, np.nan, 0.5, 0), (9, 0, 0.5, 0.5, 0)]
)
def test_what_no_page_can_send_is_said_and_loses_nothing(browse, row):
    widget = browse()
    send(widget, (SELECT, 0, 0.5, 0.5, 0))
    send(widget, row, number=2)
    assert "reload" in widget.status
    assert len(widget.records) == 1


def test_a_key_that_did_not_point_teaches_nothing(browse, session):
    widget = browse()
    send(widget, (SELECT, 0, *NOWHERE, 10), (SELECT, 1, 0.6, 0.4, 20))
    assert set(session.feedback.points) == {widget.page[1]}
    assert len(widget.chosen) == 2


def test_undo_leaves_byproducts_alone(browse, session):
    widget = browse()
    session.record(Verdict(widget.page[0], "accept"))
    send(widget, (SELECT, 0, 0.5, 0.5, 10))
    assert isinstance(session.undo(), Verdict)
    assert len(widget.records) == 1


def test_files_hold_exactly_what_was_captured(browse, tmp_path):
    widget = browse()
    rows = [(MOVE, t % 12, t / 100, t / 90, 20 * t) for t in range(60)]
    send(widget, *rows, (SELECT, 1, 0.5, 0.25, 9000), places=[(1.5, 2, 114, 114)] * 12)
    widget.buttons["next_page"].click()
    assert widget.wait()
    assert export_ab(widget.records, tmp_path / "kept.json", workers="keep") == 12
    assert list(import_imagenet_ab(tmp_path / "kept.json")) == widget.records
    export_ab(widget.records, tmp_path / "hashed.json")
    assert '"me"' not in (tmp_path / "hashed.json").read_text()


def test_what_is_learned_is_said(browse, session):
    assert "Training will not use this" in browse()._controls.notice.value
    session.correction = Luab()
    widget = browse()
    assert widget._controls.notice.value == ""
    session.record(next(iter(simulate.Annotator(session.data).clicks(widget.page[:1]))))
    assert widget.wait()
    assert "1 of " in widget._controls.summary.value


def test_names_and_words_are_escaped(make_model, digits, tmp_path):
    names = ["<b>zero</b>", "<img src=x onerror=alert(1)>", "🐱"]
    data = ImageSet([digits[i] for i in range(20)], class_names=names)
    with Session(make_model(), data, tmp_path / "s") as opened:
        widget = BrowseWidget(opened, names[1], description="not <i>two</i>")
        assert widget.wait()
        assert "&lt;img" in widget._controls.question.value
        assert "<i>" not in widget._controls.question.value
        assert widget._static().startswith(b"\x89PNG")
        assert "image/png" in widget._repr_mimebundle_()
        widget.close()
        widget.close()


def test_an_unreadable_picture_stays_empty(make_model, digits, tmp_path):
    class Broken(torch.utils.data.Dataset):
        targets = [1] * 14

        def __len__(self):
            return 14

        def __getitem__(self, index):
            if index == 3:
                raise OSError("cut off")
            return digits[index][0], 1

    data = ImageSet(Broken(), ids=[str(i) for i in range(14)], class_names=["a", "b", "c"])
    with Session(make_model(), data, tmp_path / "s") as opened:
        widget = BrowseWidget(opened, "b", images=[str(i) for i in range(14)], page_size=12)
        assert widget.wait()
        assert [len(t["picture"]) > 0 for t in widget.pages.sheet_0["tiles"]].count(False) == 1
        send(widget, (SELECT, 3, 0.5, 0.5, 1))
        assert "reload" in widget.status
        widget.buttons["next_page"].click()
        assert widget.wait()
        assert len(widget.records) == 11
        widget.close()


def test_options_are_refused_with_a_remedy(session):
    with pytest.raises(ValueError, match="did you mean 'one'"):
        BrowseWidget(session, "onne")
    with pytest.raises(TypeError, match="did you mean 'description'"):
        BrowseWidget(session, "one", descripton="")
    with pytest.raises(ValueError, match="page_size"):
        BrowseWidget(session, "one", page_size=7)
    with pytest.raises(ValueError, match="mixed_in"):
        BrowseWidget(session, "one", mixed_in=1)
    with pytest.raises(KeyError, match="digit-1"):
        BrowseWidget(session, "one", images=["digit-1000"])
    with pytest.raises(ValueError, match="images="):
        BrowseWidget(session, "one", images=[])


def test_real_click_series_replayed_through_the_page(shared_data, make_model, tmp_path, capsys):
    """BubbleView on OSIE's photographs: what people clicked is where other people looked."""
    folder = shared_data / "bubbleview"
    looked: dict[str, list] = {}
    for record in import_bubbleview(folder / "osie-eye-official.mat", keep="path"):
        looked.setdefault(record.imageID, []).append(record.mouseTracking[:, :2])
    series = import_bubbleview(folder / "osie30x30.mat")
    ids = sorted({record.imageID for record in series})[:12]
    series = [record for record in series if record.imageID in ids and record.selectedRecord]
    small = [Image.open(folder / "targets_osie" / i).convert("L").resize((32, 24)) for i in ids]
    pictures = [torch.tensor(np.asarray(each))[None] / 255 for each in small]
    data = ImageSet([(p, 0) for p in pictures], ids=ids, class_names=["a", "b", "c"])
    with Session(make_model(), data, tmp_path / "s", annotator="0") as opened:
        rates, final = [], []
        for person in range(3):
            opened.annotator = str(person)
            widget = BrowseWidget(opened, "a", images=ids, page_size=12)
            assert widget.wait()
            mine = {i: [r for r in series if r.imageID == i][person] for i in ids}
            for number, image_id in enumerate(ids, start=1):
                rows = np.array(rows_of(mine[image_id], ids.index(image_id)), "<f8").tobytes()
                message = {"kind": "batch", "source": "bubbles", "number": number, "visit": 0}
                widget.pages.receive(message | {"time": 2.0**42}, [rows])
            assert widget.wait()
            assert len(widget.records) == len(ids)
            for record in widget.records:
                clicks = mine[record.imageID].selectedRecord
                assert isinstance(record, ImageNetAB)
                assert record.selectedRecord == clicks
                assert record.final_click == clicks[-1][:2]
                places = np.concatenate(looked[record.imageID])
                rates.append(hit_rate([click[:2] for click in clicks], places))
                final.append(hit_rate([record.final_click], places))
            widget.close()
        merged = Feedback.of(opened.feedback.records)
        assert len(merged.points) == len(ids)
    hits = np.mean([rate.inside for rate in rates])
    last = np.mean([rate.inside for rate in final])
    with capsys.disabled():
        print(
            f"\nBubbleView replayed: {hits:.3f} of the clicks, {last:.3f} of the final ones, chance 0.2"
        )
    assert hits > 0.4
    assert last > 0.3
