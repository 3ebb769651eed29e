"""Strokes to pixels, against definitions written down anew: distances and winding numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xfeedback_widgets.feedback import RegionMask, Stroke, from_dict
from xfeedback_widgets.widgets.drawing import raster

WIDTH, HEIGHT = 23, 17
coordinate = st.floats(-12, 36, width=32)
spots = st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=6)
pressed = st.lists(
    st.tuples(coordinate, coordinate, st.floats(0, 1, width=32)), min_size=1, max_size=6
)
value = st.sampled_from((-1, 0, 1))
size = st.floats(0.1, 20)
masks = arrays(np.int8, (HEIGHT, WIDTH), elements=st.sampled_from((-1, 0, 1)))
quick = settings(max_examples=60, deadline=None)


def centres():
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return x, y


def depth(points, diameter):
    """How far inside the stroke each pixel's centre lies; sampled, so never too deep."""
    points = np.asarray(points, np.float64)
    pressure = points[:, 2] if points.shape[1] > 2 else np.ones(len(points))
    radius = np.maximum(diameter * pressure / 2, raster.THINNEST)
    x, y = centres()
    best = np.full(x.shape, -np.inf)
    for i in range(max(1, len(points) - 1)):
        j = min(i + 1, len(points) - 1)
        for t in np.linspace(0, 1, 150):
            at_x, at_y = (1 - t) * points[i, :2] + t * points[j, :2]
            best = np.maximum(
                best, (1 - t) * radius[i] + t * radius[j] - np.hypot(x - at_x, y - at_y)
            )
    return best


def winding(points):
    """Turns of a closed line around each pixel's centre, and how near the line comes to it."""
    x, y = centres()
    turns, near = np.zeros(x.shape), np.full(x.shape, np.inf)
    points = np.asarray(points, np.float64)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        a, b = np.arctan2(y0 - y, x0 - x), np.arctan2(y1 - y, x1 - x)
        turns += (b - a + np.pi) % (2 * np.pi) - np.pi
        squared = (x1 - x0) ** 2 + (y1 - y0) ** 2 or 1.0
        t = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / squared, 0, 1)
        near = np.minimum(near, np.hypot(x0 + t * (x1 - x0) - x, y0 + t * (y1 - y0) - y))
    return np.round(turns / (2 * np.pi)).astype(int), near


@quick
@given(points=st.one_of(spots, pressed), size=size)
def test_a_brush_covers_what_its_disc_sweeps(points, size):
    covered = raster.replay([Stroke("brush", 1, size, np.float32(points))], WIDTH, HEIGHT) == 1
    inside = depth(np.float32(points), size)
    assert covered[inside > 1e-9].all()
    # between two samples the disc moves at most half a pixel on the longest possible segment
    assert (inside[covered] > -0.4).all()


def test_a_long_brush_is_exact_where_the_sampling_is_fine():
    t = np.linspace(0, 2 * np.pi, 400)
    points = np.float32(
        np.stack([11 + 8 * np.cos(t), 8 + 5 * np.sin(2 * t), 0.5 + 0.5 * np.sin(t) ** 2], 1)
    )
    covered = raster.replay([Stroke("brush", -1, 4.0, points)], WIDTH, HEIGHT) == -1
    inside = depth(points, 4.0)
    sure = np.abs(inside) > 1e-6
    assert np.array_equal(covered[sure], inside[sure] > 0)


@quick
@given(points=st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=8))
def test_a_polygon_covers_what_it_winds_around(points):
    points = np.float32(points)
    covered = raster.replay([Stroke("polygon", 1, points=points)], WIDTH, HEIGHT) == 1
    turns, near = winding(points)
    sure = near > 1e-4
    assert np.array_equal(covered[sure], turns[sure] != 0)


@quick
@given(x=st.floats(0, WIDTH, exclude_max=True), y=st.floats(0, HEIGHT, exclude_max=True), size=size)
def test_a_click_without_moving_paints_also_with_the_thinnest_pen(x, y, size):
    for pressure in ((), (0.0,)):
        stroke = Stroke("brush", 1, size, np.float32([(x, y, *pressure)]))
        assert raster.replay([stroke], WIDTH, HEIGHT).any()


@quick
@given(area=arrays(np.bool_, (HEIGHT, WIDTH)))
def test_rectangles_give_their_area_back(area):
    points = raster.rectangles(area)
    assert np.array_equal(
        raster.replay([Stroke("fill", -1, 0.5, points)], WIDTH, HEIGHT) == -1, area
    )
    corners = points.reshape(-1, 2, 2)
    assert (corners[:, 1] - corners[:, 0]).prod(axis=1).sum() == area.sum(), "they do not overlap"


def test_a_rectangle_takes_its_corners_in_any_order_and_is_cut_at_the_border():
    for points in ([[2, 3], [6, 5]], [[6, 5], [2, 3]], [[6, 3], [2, 5]], [[1.6, 3.4], [6.4, 4.6]]):
        mask = raster.replay([Stroke("rectangle", -1, points=np.float32(points))], WIDTH, HEIGHT)
        assert mask[3:5, 2:6].sum() == mask.sum() == -8
    everything = np.float32([[-9e9, -5], [1e9, 1e38]])
    assert raster.replay([Stroke("rectangle", 1, points=everything)], WIDTH, HEIGHT).all()


@pytest.mark.parametrize("tool", ["brush", "eraser", "polygon", "rectangle"])
def test_strokes_far_outside_end_well(tool):
    points = np.float32([[-3e38, 2e38], [5, 5], [1e30, 4], [3, 3e38]])
    mask = raster.replay([Stroke(tool, 1, 3.0, points)], WIDTH, HEIGHT)
    assert mask.shape == (HEIGHT, WIDTH)
    assert not raster.replay([Stroke("brush", 1, 3.0, np.float32([[-8, 4]]))], WIDTH, HEIGHT).any()


@quick
@given(mask=masks)
def test_invert_clear_and_copy(mask):
    def after(*strokes):
        copied = mask.copy()
        for stroke in strokes:
            raster.apply(copied, stroke)
        return copied

    assert np.array_equal(after(Stroke("invert", 0)), -mask)
    once = after(Stroke("invert", 1))
    assert np.array_equal(once == 1, mask == 0)
    assert np.array_equal(once == -1, mask == -1)
    assert np.array_equal(after(*[Stroke("invert", -1)] * 2), mask)
    assert not after(Stroke("clear", 0)).any()
    assert not after(Stroke("copy", 0)).any(), "a copy of an empty mask"


@st.composite
def strokes(draw):
    kind = draw(
        st.sampled_from(("brush", "eraser", "polygon", "rectangle", "fill", "cells", "plain"))
    )
    if kind == "plain":
        return Stroke(draw(st.sampled_from(("invert", "clear"))), draw(value))
    points = draw(pressed if kind in {"brush", "eraser"} and draw(st.booleans()) else spots)
    return Stroke(kind, draw(value), draw(size), np.float32(points))


@quick
@given(drawn=st.lists(strokes(), max_size=8))
def test_the_same_strokes_leave_the_same_mask_after_being_stored(drawn):
    mask = raster.replay(drawn, WIDTH, HEIGHT)
    stored = from_dict(RegionMask("7", mask, strokes=drawn).to_dict()).strokes
    assert np.array_equal(mask, raster.replay(stored, WIDTH, HEIGHT))
    assert set(np.unique(mask)) <= {-1, 0, 1}


def test_a_long_stroke_is_cut_into_parts_that_fit_memory(monkeypatch):
    t = np.linspace(0, 30, 300)
    points = np.float32(np.stack([11 + t / 3 * np.cos(t), 8 + t / 4 * np.sin(t)], 1))
    whole = [Stroke("brush", 1, 2.0, points), Stroke("polygon", -1, points=points[::7])]
    expected = raster.replay(whole, WIDTH, HEIGHT)
    monkeypatch.setattr(raster, "_ROWS_AT_ONCE", 10)
    assert np.array_equal(raster.replay(whole, WIDTH, HEIGHT), expected)
