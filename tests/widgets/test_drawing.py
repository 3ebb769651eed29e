"""A drawing: strokes and the mask they leave, as records and back, and how much is covered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xfeedback_widgets.feedback import RegionMask
from xfeedback_widgets.feedback.strokes import Stroke
from xfeedback_widgets.widgets.drawing import Drawing, raster
from xfeedback_widgets.widgets.drawing.toolbox import Toolbox, grid

SPOT = Stroke("brush", 1, 6.0, np.float32([[10, 8], [14, 9]]))
BLOCK = Stroke("rectangle", -1, points=np.float32([[2, 2], [9, 6]]))


def test_a_record_is_continued_where_it_stopped():
    drawing = Drawing(24, 16, [SPOT])
    record = drawing.record("a", target=2, method="gradcam", version=1)
    assert (record.target, record.method, record.version) == (2, "gradcam", 1)
    again = Drawing.of(
        RegionMask(**{**vars(record), "strokes": record.strokes, "mask": record.mask})
    )
    assert again.add(BLOCK)
    assert again.strokes == (SPOT, BLOCK)
    assert np.array_equal(again.mask, raster.replay([SPOT, BLOCK], 24, 16))
    assert np.array_equal(record.mask, raster.replay([SPOT], 24, 16)), "a record does not change"


def test_a_mask_without_strokes_becomes_one_that_can_be_replayed():
    mask = np.random.default_rng(0).integers(-1, 2, (16, 24)).astype(np.int8)
    drawing = Drawing.of(RegionMask("a", mask))
    assert [stroke.tool for stroke in drawing.strokes] == ["copy"]
    assert np.array_equal(raster.replay(drawing.strokes, 24, 16), mask)
    assert Drawing.of(RegionMask("a", np.zeros((3, 4), np.int8))).strokes == ()


def test_what_changes_nothing_is_not_noted():
    drawing = Drawing(24, 16, [SPOT])
    assert not drawing.add(SPOT)
    assert not drawing.add(Stroke("brush", 1, 4.0, np.float32([[-50, 3]])))
    assert drawing.strokes == (SPOT,)


def test_a_stroke_can_be_taken_back_when_it_could_not_be_written_down():
    drawing = Drawing(24, 16, [SPOT])
    before = drawing.mask.copy()
    assert drawing.add(Stroke("clear", 0))
    drawing.take_back()
    assert drawing.strokes == (SPOT,)
    assert np.array_equal(drawing.mask, before)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([SPOT, BLOCK, Stroke("clear", 0), Stroke("invert", -1)]), max_size=9)
)
def test_strokes_always_replay_to_the_mask(drawn):
    drawing = Drawing(24, 16, drawn)
    assert np.array_equal(raster.replay(drawing.strokes, 24, 16), raster.replay(drawn, 24, 16))
    assert np.array_equal(drawing.mask, raster.replay(drawn, 24, 16))


def test_the_mask_cannot_be_changed_from_outside():
    with pytest.raises(ValueError, match="read-only"):
        Drawing(4, 4).mask[0] = 1
    with pytest.raises(ValueError, match="pixels"):
        Drawing(0, 4)


def test_shares_of_the_mass_and_of_the_picture():
    heat = np.zeros((4, 4), np.float32)
    heat[:2, :2] = 1.0
    drawing = Drawing(4, 4, [Stroke("rectangle", -1, points=np.float32([[0, 0], [1, 2]]))])
    drawing.add(Stroke("rectangle", 1, points=np.float32([[2, 2], [4, 4]])))
    shares = drawing.shares(heat)
    assert (shares.irrelevant, shares.relevant) == (0.5, 0.0)
    assert (shares.irrelevant_area, shares.relevant_area) == (2 / 16, 4 / 16)
    assert drawing.shares(None).irrelevant == 0.0
    assert drawing.shares(np.zeros((7, 7), np.float32)).irrelevant == 0.0


@pytest.mark.parametrize("size", [(40, 30), (3000, 2000)])
def test_everything_hotter_than_a_threshold(size):
    y, x = np.mgrid[:7, :7]
    heat = np.exp(-((y - 2) ** 2 + (x - 4) ** 2) / 6).astype(np.float32)
    drawing = Drawing(*size)
    stroke = drawing.fill(heat, 0.4, -1)
    assert (stroke.tool, stroke.size) == ("fill", pytest.approx(0.4))
    drawing.add(stroke)
    assert np.array_equal(drawing.mask == -1, drawing.hotter(heat, 0.4))
    shares = drawing.shares(heat)
    exact = heat_share(heat, drawing)
    assert shares.irrelevant == pytest.approx(exact, abs=2e-3)
    assert 0.3 < exact < 0.95


def heat_share(heat, drawing):
    from xfeedback_widgets.widgets import colors

    weights = colors.resize(heat, *drawing.mask.shape).astype(np.float64)
    return float(weights[drawing.mask == -1].sum() / weights.sum())


@settings(max_examples=30, deadline=None)
@given(arrays(np.int8, (6, 5), elements=st.sampled_from((-1, 0, 1))))
def test_a_mask_of_another_size_is_copied_to_the_nearest_pixels(mask):
    drawing = Drawing(15, 12, [SPOT])
    drawing.add(drawing.copy(mask))
    assert np.array_equal(drawing.mask, mask.repeat(2, axis=0).repeat(3, axis=1))
    assert len(drawing.strokes) <= 1, "nothing from before is left"


def test_cells_divide_the_picture_without_gap_or_overlap():
    shape, count = (7, 5), np.zeros((30, 33), int)
    for row in range(7):
        for column in range(5):
            drawing = Drawing(33, 30)
            drawing.add(drawing.cells([(row, column)], shape, 1))
            count += drawing.mask
    assert (count == 1).all()


def test_sizes_are_shares_of_the_picture_and_the_eraser_has_its_own():
    toolbox = Toolbox()
    small, large = toolbox.size(100), toolbox.size(1000)
    assert large == pytest.approx(10 * small)
    toolbox.resize(3, 1000)
    assert toolbox.size(1000) > large
    brush = toolbox.size(1000)
    toolbox.value = 0
    eraser = toolbox.size(1000)
    toolbox.resize(-40, 1000)
    assert toolbox.size(1000) == 1.0 < eraser
    toolbox.value = 1
    assert toolbox.size(1000) == brush


def test_the_cell_cursor_stays_inside_and_walks_over_few_cells():
    assert grid((7, 9), (200, 100)) == (7, 9)
    assert grid((64, 64), (200, 100)) == (16, 16)
    assert grid(None, (200, 100)) == (7, 7)
    assert grid((7, 7), (4, 3)) == (3, 4)
    toolbox = Toolbox()
    toolbox.move(99, -99, (7, 9))
    assert toolbox.cell == (0, 8)
