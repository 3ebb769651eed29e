"""Audits of small models: scores worked by hand, what is counted instead of scored, shards, kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import xfeedback_widgets as xf
from xfeedback_widgets.audit import STATUS, AuditReport, DamagedShardError
from xfeedback_widgets.data import Annotation, Box, Boxes, ImageSet


class Fixed(nn.Module):
    """A classifier whose class maps are its input: channel c of the image is the map of class c."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(channels, channels, 1, bias=False)
        self.head = nn.Linear(channels, channels, bias=False)
        self.trunk.weight.data = torch.eye(channels)[:, :, None, None]
        self.head.weight.data = torch.eye(channels)

    def forward(self, images):
        return self.head(self.trunk(images).mean((2, 3)))


def cell(y, x, channel=0, size=4, value=1.0):
    image = torch.zeros(2, size, size)
    image[channel, y, x] = value
    return image


def boxed(*boxes, size=(4, 4), names=("a", "b")):
    images = {f"{i}": Annotation((Box(*box),), size) for i, box in enumerate(boxes)}
    return Boxes(images)


def small_set(images, labels, **more):
    return ImageSet(
        list(zip(images, labels, strict=True)),
        ids=[str(i) for i in range(len(images))],
        class_names=["a", "b"],
        **more,
    )


def test_rs_by_hand():
    image = cell(0, 0, value=3.0) + cell(3, 3, value=1.0) + cell(1, 1, channel=1, value=7.0)
    data = small_set([image, image, image], [0, 0, 1])
    # map of class a: 3 at the top left, 1 at the bottom right; of class b: all at (1, 1)
    boxes = boxed((0, 0, 2, 2), (2, 0, 4, 4), (0, 0, 2, 1))
    for saliency in ("gradcam", "gradcam++"):
        report = xf.audit(Fixed(), data, boxes=boxes, saliency=saliency, batch_size=2)
        assert report.rows["rs"].tolist() == pytest.approx([0.75, 0.25, 0.0])
        assert report.rows["area"].tolist() == [0.25, 0.5, 0.125]
        # logits: 4/16 for a, 7/16 for b
        assert report.image_table["prediction"].tolist() == ["b", "b", "b"]
        probability = float(torch.tensor([4 / 16, 7 / 16]).softmax(0)[0])
        assert report.rows["probability"].tolist() == pytest.approx(
            [probability, probability, 1 - probability]
        )
        table = report.class_table
        assert table["class"].tolist() == ["b", "a"]  # ascending
        assert table["crs"].tolist() == pytest.approx([0.0, 0.5])
        assert table["accuracy"].tolist() == [1.0, 0.0]
        assert table["accuracy_top5"].tolist() == [1.0, 1.0]
        assert table["expected"].tolist() == [0.125, 0.375]
        assert table["lift"].tolist() == pytest.approx([0.0, 4 / 3])
        assert np.isnan(table["low"][0])  # one image has no spread
        low, high = table["low"][1], table["high"][1]
        assert (low, high) == pytest.approx((0.25, 0.75))


def test_the_map_is_upsampled_bilinearly():
    # stride 2: a map of 2×2 over an image of 4×4; pixel centres of a row lie at −0.25, 0.25, 0.75, 1.25 cells
    model = Fixed()
    model.trunk = nn.Sequential(model.trunk, nn.AvgPool2d(2))
    data = small_set([cell(0, 0, value=4.0)], [0])
    report = xf.audit(model, data, boxes=boxed((0, 0, 1, 4)), saliency="gradcam")
    # weights of the left cell per column: 1, .75, .25, 0
    assert report.rows["rs"][0] == pytest.approx(1 / 2)
    assert xf.audit(model, data, boxes=boxed((0, 0, 2, 2))).rows["rs"][0] == pytest.approx(
        (1.75 / 2) ** 2
    )


def test_boxes_of_other_classes_do_not_count_and_rivals_are_known():
    image = cell(0, 0, value=1.0) + cell(3, 3, channel=1, value=3.0) + cell(3, 3, value=1.0)
    own, other = Box(0, 0, 2, 2, "a"), Box(2, 2, 4, 4, "b")
    data = small_set([image, image, image], [0, 0, 0])
    boxes = Boxes(
        {
            "0": Annotation((own, other), (4, 4)),
            "1": Annotation((other,), (4, 4)),
            "2": Annotation((own,), (4, 4)),
        }
    )
    rows = xf.audit(Fixed(), data, boxes=boxes).rows
    assert rows["rs"].tolist() == pytest.approx([0.5, np.nan, 0.5], nan_ok=True)
    assert rows["elsewhere"].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert rows["rival"].tolist() == [1, 1, 0]  # predicted b, which is in the picture
    assert [STATUS[s] for s in rows["status"]] == ["scored", "no box", "scored"]
    with pytest.raises(
        ValueError, match=r"no class named in boxes \(x …\) is a class of the images"
    ):
        xf.audit(Fixed(), data, boxes=Boxes({"0": Annotation((Box(0, 0, 1, 1, "x"),))}))


class Odd(Fixed):
    """Overflows for very bright images."""

    def forward(self, images):
        return super().forward(images * torch.where(images > 100, torch.inf, 1.0))


def test_empty_and_not_finite_maps_are_counted_and_never_scored():
    images = [cell(0, 0), cell(0, 0, channel=1), cell(0, 0, value=101.0), torch.zeros(2, 4, 4)]
    images += [torch.full((2, 4, 4), torch.nan), cell(3, 3)]
    data = small_set(images, [0] * 6)
    with pytest.warns(RuntimeWarning, match="cannot be read"):
        report = xf.audit(Odd(), data, boxes=boxed(*[(0, 0, 2, 2)] * 6), batch_size=4)
    found = [STATUS[status] for status in report.rows["status"]]
    assert found == ["scored", "empty map", "not finite", "empty map", "unreadable", "scored"]
    assert report.class_table["crs"].tolist() == [0.5]  # of 1 and 0: four others would make it 1/6
    row = {name: column[0] for name, column in report.class_table.items()}
    assert [row[n] for n in ("scored", "empty_maps", "not_finite", "unreadable")] == [2, 2, 1, 1]
    assert np.isnan(report.rows["confidence"][2])
    assert report.rows["prediction"][2] == -1
    # the neighbours of the bad image in its batch are as if they were alone
    alone = xf.audit(
        Odd(), small_set([images[0], images[1]], [0, 0]), boxes=boxed(*[(0, 0, 2, 2)] * 2)
    )
    assert report.rows["rs"][0] == alone.rows["rs"][0]
    assert row["accuracy"] == pytest.approx(
        3 / 5
    )  # equal logits: the first class; unreadable ones are out


def test_the_requested_class_is_explained_also_by_smooth_gradcam_plus_plus():
    # the model always predicts b, whose map lies elsewhere: only the map of the label scores 1
    image = cell(0, 0, value=1.0) + cell(3, 3, channel=1, value=5.0)
    data = small_set([image] * 3, [0, 0, 0])
    smooth = xf.saliency.SmoothGradCAMPlusPlus(Fixed(), n=2, sigma=0.001)
    report = xf.audit(smooth.model, data, boxes=boxed(*[(0, 0, 1, 1)] * 3), saliency=smooth)
    assert report.image_table["prediction"].tolist() == ["b"] * 3
    assert report.rows["rs"].min() > 0.9
    assert report.facts["options"] == {"n": 2, "sigma": 0.001, "layer": "trunk"}


def test_outputs_say_which_logit_is_a_class():
    data = small_set([cell(0, 0, channel=1)], [0])
    report = xf.audit(Fixed(), data, boxes=boxed((0, 0, 1, 1)), outputs=[1, 0])
    assert report.rows["rs"][0] == 1
    assert report.image_table["correct"].tolist() == [True]
    assert report.image_table["prediction"].tolist() == ["a"]
    with pytest.raises(ValueError, match="outputs has 1 entries for 2 classes"):
        xf.audit(Fixed(), data, boxes=boxed((0, 0, 1, 1)), outputs=[1])


def test_masks_and_detectors_say_where_they_come_from(digits, make_model):
    model = make_model()
    own = xf.audit(model, digits)
    assert own.facts["regions"] == "masks of the image set"
    by_id = {image_id: digits.mask(i) for i, image_id in enumerate(digits.ids)}
    assert np.array_equal(
        xf.audit(model, digits, masks=by_id).rows["rs"], own.rows["rs"], equal_nan=True
    )

    def ink(picture):
        assert picture.shape == (8, 8, 3)
        return [[2, 0, 6, 8]]

    detected = xf.audit(model, digits, boxes=ink)
    assert detected.facts["regions"].startswith("detector ")
    assert detected.facts["regions"].endswith("ink")
    assert set(detected.rows["area"].tolist()) == {0.5}
    with pytest.raises(ValueError, match="'digit-0': the detector returned int"):
        xf.audit(model, digits, boxes=lambda picture: 3)
    with pytest.raises(ValueError, match="nothing says where the objects are"):
        xf.audit(model, small_set([cell(0, 0)], [0]))
    with pytest.raises(ValueError, match="both given"):
        xf.audit(model, digits, boxes=ink, masks=by_id)
    with pytest.raises(ValueError, match="masks has 2 entries for 120 images"):
        xf.audit(model, digits, masks=[None, None])


def test_boxes_of_another_picture_are_refused():
    data = small_set([cell(0, 0)], [0])
    with pytest.raises(ValueError, match=r"'0' has 4×4 pixels .* but boxes says 8×8"):
        xf.audit(Fixed(), data, boxes=boxed((0, 0, 2, 2), size=(8, 8)))


def test_the_model_is_left_as_it_was(digits, make_model):
    model = make_model(dropout=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    xf.audit(model, digits, device="cpu")
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Viewed(Fixed):
    """Flattens by ``view``, as much older code does: refuses channels last."""

    def forward(self, images):
        maps = self.trunk(images)
        return self.head(
            maps.view(len(maps), maps.shape[1], -1).view(len(maps) * 2, -1).mean(1).view(-1, 2)
        )


def test_a_model_that_refuses_channels_last_is_audited_all_the_same():
    data = small_set([cell(0, 0)] * 2, [0, 0])
    reports = [
        xf.audit(model, data, boxes=boxed(*[(0, 0, 1, 1)] * 2)) for model in (Fixed(), Viewed())
    ]
    assert [report.facts["channels_last"] for report in reports] == [True, False]
    assert reports[0].rows.tobytes() == reports[1].rows.tobytes()


# -- progress, stopping, shards, kill ------------------------------------------------------------------


def same(one: AuditReport, two: AuditReport) -> bool:
    return (
        one.rows.tobytes() == two.rows.tobytes()
        and list(one.ids) == list(two.ids)
        and one.facts == two.facts
    )


def test_stops_between_batches_and_goes_on(digits, make_model, tmp_path):
    model, seen = make_model(), []
    whole = xf.audit(model, digits, batch_size=16)
    assert whole.complete
    stopped = xf.audit(
        model,
        digits,
        batch_size=16,
        directory=tmp_path,
        progress=seen.append,
        stop=lambda: len(seen) >= 3,
    )
    assert (len(stopped), stopped.complete) == (48, False)
    assert [(p.done, p.total) for p in seen] == [(16, 120), (32, 120), (48, 120)]
    assert "48 of 120 images" in repr(stopped)
    resumed = xf.audit(model, digits, batch_size=16, directory=tmp_path, progress=seen.append)
    assert (seen[3].done, seen[-1].done, seen[-1].left) == (64, 120, 0.0)
    assert same(resumed, whole)
    assert same(AuditReport.load(tmp_path), whole)
    # what is finished is not computed again
    assert same(
        xf.audit(model, digits, batch_size=16, directory=tmp_path, stop=lambda: True), whole
    )


@pytest.mark.parametrize("count", [1, 3, 8, 11])
def test_shards_merge_to_what_one_process_finds(digits, make_model, tmp_path, count):
    model = make_model()
    whole = xf.audit(model, digits, batch_size=16)
    parts = [xf.audit(model, digits, batch_size=16, shard=(i, count)) for i in range(count)]
    assert sum(map(len, parts)) == 120
    assert same(AuditReport.merge(reversed(parts)), whole)
    for i in reversed(range(count)):
        part = xf.audit(model, digits, batch_size=16, shard=(i, count), directory=tmp_path)
        assert same(part, parts[i])
    assert xf.audit.finished(tmp_path, count) == count
    assert same(AuditReport.load(tmp_path), whole)
    with pytest.raises(ValueError, match="is in two of the parts"):
        AuditReport.merge([parts[-1], parts[-1]])


def test_other_audits_are_not_mixed(digits, make_model, tmp_path):
    model = make_model()
    xf.audit(model, digits, batch_size=16, directory=tmp_path, stop=lambda: True)
    with pytest.raises(ValueError, match="batch_size was 16 and is 8"):
        xf.audit(model, digits, batch_size=8, directory=tmp_path)
    with torch.no_grad():
        model[0].weight += 0.1
    with pytest.raises(ValueError, match="another audit: weights was"):
        xf.audit(model, digits, batch_size=16, directory=tmp_path)
    with pytest.raises(ValueError, match="different audits: weights differs"):
        AuditReport.merge(
            [xf.audit(m, digits, shard=(i, 2)) for i, m in enumerate([model, make_model()])]
        )
    xf.audit(make_model(), digits, directory=tmp_path / "two", shard=(0, 2), stop=lambda: True)
    with pytest.raises(ValueError, match="another number of shards than 3"):
        xf.audit(make_model(), digits, directory=tmp_path / "two", shard=(0, 3))
    with pytest.raises(ValueError, match=r"shard is \(2, 2\)"):
        xf.audit(model, digits, shard=(2, 2))


def test_damage_is_named_and_a_torn_end_is_cut_off(digits, make_model, tmp_path):
    model = make_model()
    whole = xf.audit(model, digits, batch_size=16, directory=tmp_path)
    rows = tmp_path / "shard-00000-of-00001.rows"
    ids = rows.with_suffix(".ids")
    for path in (rows, ids):  # written by a process that died before it said so
        path.write_bytes(path.read_bytes() + b"half of a r")
    assert same(AuditReport.load(tmp_path), whole)
    assert same(xf.audit(model, digits, batch_size=16, directory=tmp_path), whole)
    content = bytearray(rows.read_bytes())
    assert len(content) == 120 * whole.rows.itemsize
    content[100] ^= 1
    rows.write_bytes(content)
    with pytest.raises(
        DamagedShardError, match=r"shard-00000-of-00001\.rows is not what was written"
    ):
        xf.audit(model, digits, batch_size=16, directory=tmp_path)
    rows.with_suffix(".json").write_text("{}")
    with pytest.raises(DamagedShardError, match=r"\.json cannot be read"):
        AuditReport.load(tmp_path)


def test_two_processes_do_not_write_one_shard(digits, make_model, tmp_path):
    model = make_model()

    def intrude(_progress):
        with pytest.raises(RuntimeError, match="another process is writing"):
            xf.audit(model, digits, directory=tmp_path)

    xf.audit(model, digits, directory=tmp_path, progress=intrude)


def _problem():
    torch.manual_seed(0)
    images = torch.rand(600, 2, 4, 4)
    data = ImageSet(
        [(image, i % 2) for i, image in enumerate(images)],
        ids=[f"image {i}" for i in range(600)],
        masks=images[:, 0] > 0.5,
    )
    return Fixed(), data


def _child(directory: str) -> None:
    from xfeedback_widgets.audit import shards

    shards._EVERY = 0.01
    torch.set_num_threads(1)
    model, data = _problem()

    def said(progress):
        print(progress.done, flush=True)
        time.sleep(0.005)

    xf.audit(model, data, batch_size=8, directory=directory, progress=said)


def test_goes_on_after_kill_9_with_the_same_result(tmp_path):
    model, data = _problem()
    whole = xf.audit(model, data, batch_size=8)
    starts = []
    for lines in (4, 9):
        child = subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        said = [int(child.stdout.readline()) for _ in range(lines)]
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        starts.append(said[0])
    assert starts[0] == 8
    assert starts[1] > 8  # it went on where the first one was
    assert not AuditReport.load(tmp_path).complete
    assert same(xf.audit(model, data, batch_size=8, directory=tmp_path), whole)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    _child(sys.argv[1])


def test_regions_that_people_drew():
    """What is marked as relevant is the object; the report says who said where it is."""
    data = small_set([cell(0, 0) + cell(3, 3, value=3.0)] * 3, [0, 0, 0])
    drawn = np.zeros((4, 4), np.int8)
    drawn[:2, :2], drawn[2:, 2:] = 1, -1
    forbidden = np.where(drawn < 0, -1, 0)
    feedback = xf.feedback.Feedback.of(
        [xf.RegionMask("0", drawn), xf.RegionMask("1", forbidden), xf.RegionMask("away", drawn)]
    )
    report = xf.audit(Fixed(), data, masks=feedback)
    assert report.rows["rs"][0] == pytest.approx(0.25)
    assert [STATUS[status] for status in report.rows["status"]] == ["scored", "no box", "no box"]
    assert report.facts["regions"] == "drawn by people on 1 image"
    again = xf.feedback.Feedback.of([xf.RegionMask("0", -drawn)])
    assert xf.audit(Fixed(), data, masks=again).facts["boxes"] != report.facts["boxes"]
    np.testing.assert_array_equal(
        report.scores(["1", "0", "x"]), np.float32([np.nan, 0.25, np.nan])
    )
    with pytest.raises(ValueError, match="nothing is drawn as relevant"):
        xf.audit(Fixed(), data, masks=xf.feedback.Feedback())


def test_the_score_of_curves_is_that_of_the_report():
    torch.manual_seed(1)
    images = [torch.rand(2, 6, 6) for _ in range(30)]
    masks = [None if i % 5 == 0 else torch.rand(6, 6) > 0.6 for i in range(30)]
    data = small_set(images, [i % 2 for i in range(30)], masks=masks)
    score = xf.audit.mean_score(Fixed(), data, batch_size=7)
    assert score == pytest.approx(xf.audit.audit(Fixed(), data).summary()["crs"], abs=1e-6)
    empty = small_set([torch.zeros(2, 6, 6)] * 2, [0, 1], masks=[torch.ones(6, 6) > 0] * 2)
    assert np.isnan(xf.audit.mean_score(Fixed(), empty))
