from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from xfeedback_widgets.widgets import colors


@pytest.mark.parametrize("name", colors.COLORMAPS)
def test_tables_are_matplotlibs_and_grow_lighter_evenly(name):
    table = colors.table(name)
    assert np.array_equal(table, mpl.colormaps[name](np.arange(256), bytes=True)[:, :3])
    luminance = table @ np.array([0.2126, 0.7152, 0.0722])
    assert np.all(np.diff(luminance) > -1.0), "lightness must carry the order without colour"


def test_colorize_is_transparent_where_nobody_looks():
    rgba = colors.colorize(np.array([[0.0, 0.5, 1.0, np.nan, 2.0]]), "viridis")
    assert rgba.shape == (1, 5, 4)
    assert rgba[0, :, 3].tolist() == [0, 128, 255, 0, 255]
    assert rgba[0, 2, :3].tolist() == colors.table("viridis")[255].tolist()


def test_unknown_colormap_lists_those_offered():
    with pytest.raises(ValueError, match="cividis"):
        colors.colorize(np.zeros((2, 2)), "jet")


def test_contours_surround_the_hot_region_in_screen_coordinates():
    saliency = np.zeros((8, 8), dtype=np.float32)
    saliency[2:4, 5:7] = 1.0
    lines = colors.contours(saliency, height=80, width=160)
    assert {level for level, _ in lines} == set(colors.CONTOUR_LEVELS)
    outermost = next(line for level, line in lines if level == 0.25)
    assert 85 < outermost[:, 0].min() < 105
    assert 135 < outermost[:, 0].max() < 150
    assert 12 < outermost[:, 1].min() < 22
    assert colors.contours(np.zeros((8, 8), dtype=np.float32), 80, 80) == []


def test_contours_close_at_the_border():
    lines = colors.contours(np.ones((4, 4), np.float32), 10, 10)
    assert len(lines) == len(colors.CONTOUR_LEVELS)
    for _, line in lines:
        assert np.allclose(line[0], line[-1])


def test_small_pictures_travel_without_loss_and_huge_ones_small():
    pixels = np.random.default_rng(0).integers(0, 255, (28, 28, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(colors.encode_picture(pixels)))), pixels)
    huge = Image.open(io.BytesIO(colors.encode_picture(np.zeros((3000, 1000, 3), np.uint8))))
    assert huge.format == "JPEG"
    assert huge.size == (267, 800)
    assert colors.shrink(np.zeros((3000, 1000, 3), np.uint8), 256).shape == (256, 85, 3)
    assert colors.shrink(pixels, 256) is pixels


def test_resize_keeps_constant_maps_and_mean():
    assert np.allclose(colors.resize(np.full((3, 5), 0.4), 20, 40), 0.4)
    wide = np.random.default_rng(0).random((64, 64))
    assert abs(colors.resize(wide, 16, 16).mean() - wide.mean()) < 0.01
