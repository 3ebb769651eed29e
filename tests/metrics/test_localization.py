"""Attention against masks: hand-worked cases, properties, and Quantus and torchmetrics as judges."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_jaccard_index

from xfeedback_widgets import metrics

seeds = st.integers(0, 2**31 - 1)


def drawn(seed: int, count: int = 6, side: int = 9, empty: int = 0):
    """Random maps (the first `empty` of them all zero) and masks with at least one relevant pixel."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(count, side, side, generator=generator) ** 3
    maps[:empty] = 0
    masks = torch.rand(count, side, side, generator=generator) > 0.7
    masks[:, side // 2, side // 2] = True
    return maps, masks


def test_overlap_by_hand():
    maps = torch.tensor(
        [[[3.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]
    )
    irrelevant = torch.tensor([[[1, 0], [1, 1]], [[0, 0], [0, 1]], [[1, 1], [1, 1]]]).bool()
    assert metrics.attribution_overlap(maps, irrelevant) == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert metrics.empty_maps(maps) == pytest.approx(1 / 3)
    assert metrics.energy_pointing_game(maps, ~irrelevant) == pytest.approx((1 / 4 + 3 / 4) / 2)


def test_only_empty_maps_say_nothing():
    maps, masks = torch.zeros(2, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool)
    for metric in (
        metrics.attribution_overlap,
        metrics.energy_pointing_game,
        metrics.pointing_game,
        metrics.iou,
    ):
        assert math.isnan(metric(maps, masks))
    assert metrics.empty_maps(maps) == 1.0


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(0, 5), st.floats(1e-30, 1e30))
def test_overlap_properties(seed, empty, scale):
    maps, masks = drawn(seed, empty=empty)
    overlap = metrics.attribution_overlap(maps, masks)
    assert 0 <= overlap <= 1
    order = torch.randperm(len(maps), generator=torch.Generator().manual_seed(seed))
    assert metrics.attribution_overlap(maps[order], masks[order]) == pytest.approx(overlap)
    assert metrics.attribution_overlap(maps * scale, masks) == pytest.approx(overlap, abs=1e-4)
    assert metrics.attribution_overlap(maps, ~masks) == pytest.approx(1 - overlap, abs=1e-5)
    assert metrics.energy_pointing_game(maps, masks) == pytest.approx(overlap)
    assert metrics.attribution_overlap(maps, torch.ones_like(masks)) == pytest.approx(1)
    assert metrics.attribution_overlap(maps[empty:], masks[empty:]) == pytest.approx(overlap)


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_iou_agrees_with_torchmetrics(seed, threshold):
    maps, masks = drawn(seed)
    normalised = maps / maps.amax((1, 2), keepdim=True)
    expected = [
        float(binary_jaccard_index(one, mask.long(), threshold=threshold))
        for one, mask in zip(normalised, masks, strict=True)
    ]
    assert metrics.iou(maps, masks, threshold=threshold) == pytest.approx(
        np.mean(expected), abs=1e-6
    )


def test_pointing_and_energy_agree_with_quantus():
    quantus = pytest.importorskip("quantus")
    maps, masks = drawn(3, count=40, side=16)
    arguments = {
        "model": None,
        "x_batch": np.zeros((40, 1, 16, 16), np.float32),
        "y_batch": np.zeros(40, int),
        "a_batch": maps[:, None].numpy(),
        "s_batch": masks[:, None].numpy(),
        "channel_first": True,
    }
    options = {"disable_warnings": True, "abs": False, "normalise": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pointing = quantus.PointingGame(**options)(**arguments)
        energy = quantus.RelevanceMassAccuracy(**options)(**arguments)
    assert 0 < np.mean(pointing) < 1  # hits and misses are among them
    assert metrics.pointing_game(maps, masks) == pytest.approx(np.mean(pointing))
    assert metrics.energy_pointing_game(maps, masks) == pytest.approx(np.mean(energy), abs=1e-5)


def test_pointing_game_by_hand():
    maps = torch.zeros(3, 9, 9)
    masks = torch.zeros(3, 9, 9, dtype=torch.bool)
    masks[:, 4, 4] = True
    maps[0, 4, 4] = 1.0  # a hit
    maps[1, 4, 7] = 1.0  # three pixels beside
    maps[2, 4, 4] = maps[2, 0, 0] = 1.0  # one of two highest points
    assert metrics.pointing_game(maps, masks) == pytest.approx((1 + 0 + 0.5) / 3)
    assert metrics.pointing_game(maps, masks, tolerance=2.9) == pytest.approx(0.5)
    assert metrics.pointing_game(maps, masks, tolerance=3) == pytest.approx((1 + 1 + 0.5) / 3)
    masks[0] = False  # nothing to point at
    assert metrics.pointing_game(maps, masks) == pytest.approx(0.25)


def test_tolerance_is_a_disc():
    maps, masks = torch.zeros(1, 9, 9), torch.zeros(1, 9, 9, dtype=torch.bool)
    maps[0, 6, 6], masks[0, 4, 4] = 1.0, True  # √8 = 2.83 away
    assert metrics.pointing_game(maps, masks, tolerance=2.8) == 0
    assert metrics.pointing_game(maps, masks, tolerance=2.9) == 1


def test_small_maps_are_upsampled_to_the_masks():
    maps = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    masks = torch.zeros(1, 32, 32, dtype=torch.bool)
    masks[0, :16, :16] = True
    assert 0.6 < metrics.energy_pointing_game(maps, masks) < 0.95
    assert metrics.pointing_game(maps, masks) == 1
    assert metrics.iou(maps, masks) > 0.6


@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        (torch.rand(2, 4, 4), torch.ones(3, 4, 4).bool(), "one mask per map"),
        (torch.rand(4, 4), torch.ones(4, 4).bool(), r"expected \[N, h, w\]"),
        (torch.rand(0, 4, 4), torch.ones(0, 4, 4).bool(), "at least one image"),
        (-torch.rand(1, 4, 4), torch.ones(1, 4, 4).bool(), "finite and ≥ 0"),
        (torch.full((1, 4, 4), torch.nan), torch.ones(1, 4, 4).bool(), "finite and ≥ 0"),
        (torch.rand(1, 4, 4), torch.full((1, 4, 4), 0.5), "0 and 1"),
    ],
)
def test_wrong_input_is_named(maps, masks, message):
    for metric in (
        metrics.attribution_overlap,
        metrics.energy_pointing_game,
        metrics.pointing_game,
        metrics.iou,
    ):
        with pytest.raises(ValueError, match=message):
            metric(maps, masks)


def test_wrong_options_are_named():
    maps, masks = drawn(0)
    with pytest.raises(ValueError, match="tolerance is -1"):
        metrics.pointing_game(maps, masks, tolerance=-1)
    with pytest.raises(ValueError, match="got 1"):
        metrics.iou(maps, masks, threshold=1)
    with pytest.raises(ValueError, match="at least one map"):
        metrics.empty_maps(torch.zeros(0, 2, 2))
