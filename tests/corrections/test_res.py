"""RES-G's target, certainty and slack against hand-worked cases."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter

from xfeedback_widgets.corrections import ResG
from xfeedback_widgets.corrections.res import robust_loss, smoothed_target
from xfeedback_widgets.feedback import Feedback, RegionMask


def test_distance_by_hand():
    maps = torch.tensor([[[1.0, 0.5], [0.05, 0.9]]], requires_grad=True)
    target = torch.tensor([[[0.8, 1.0], [0.0, 0.0]]])
    certainty = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])  # the last cell is unknown
    # (0.2 - 0.1) + (0.5 - 0.1) + max(0, 0.05 - 0.1) over three cells
    loss = robust_loss(maps, target, certainty, 0.1)
    torch.testing.assert_close(loss, torch.tensor([0.5 / 3]))
    loss.sum().backward()
    torch.testing.assert_close(maps.grad, torch.tensor([[[1 / 3, -1 / 3], [0.0, 0.0]]]))
    assert robust_loss(maps, target, 0 * certainty, 0.1).tolist() == [0.0]


def test_target_is_a_gaussian_of_what_is_included_and_zero_where_excluded():
    shares = torch.zeros(1, 2, 9, 9)
    shares[0, 0, 3:6, 2:5] = 1
    shares[0, 1, :, 7:] = 1
    target, certainty = smoothed_target(shares, 1.0)
    expected = gaussian_filter(shares[0, 0].double().numpy(), 1.0, mode="nearest", truncate=3)
    expected = torch.tensor(expected / expected.max()).float()
    expected[:, 7:] = 0
    torch.testing.assert_close(target[0], expected)
    assert certainty[0, 4, 3] == certainty[0, 0, 8] == 1  # marked
    assert certainty[0, 4, 5] == target[0, 4, 5] > 0  # imputed
    assert certainty[0, 8, 0] == target[0, 8, 0] < 0.01  # unknown
    sharp, sure = smoothed_target(shares, 0.0)
    assert torch.equal(sharp, shares[:, 0])
    assert torch.equal(sure, shares.sum(1))


def test_nothing_included_asks_for_nothing_where_excluded():
    shares = torch.zeros(1, 2, 3, 3)
    shares[0, 1, 0] = 1
    target, certainty = smoothed_target(shares, 1.0)
    assert not target.any()
    assert certainty.sum() == 3


def test_inexact_boundaries_within_the_slack_cost_nothing(net, data, corner):
    model = net().eval()
    feedback = Feedback.of([RegionMask("a", corner(rest=-1))])

    def cost(eta):
        correction = ResG(eta=eta)
        correction.prepare(model, data, feedback)
        return float(correction.loss(model, data.batch([0])).parts["attention"])

    assert cost(0.0) > cost(0.2) > cost(0.5)
    assert cost(0.999) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("eta", [-0.1, 1.0, float("nan")])
def test_impossible_slack_is_refused(eta):
    with pytest.raises(ValueError, match="eta must be in"):
        ResG(eta=eta)
