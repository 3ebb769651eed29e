"""Precedence: a press holds the background back, for a moment and never for good."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from xfeedback_widgets.training import Precedence
from xfeedback_widgets.training import precedence as module


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_a_claim_is_waited_for_to_its_end_and_nobody_waits_without_one(clock):
    precedence = Precedence()
    precedence.give_way()
    assert clock.slept == precedence.left == 0
    precedence.claim()
    clock.now += 0.03
    precedence.give_way()
    assert clock.slept == pytest.approx(0.05)
    assert precedence.left == 0


@pytest.mark.parametrize("pause", [0.001, 0.02, 0.09, 0.15])
def test_however_fast_somebody_presses_half_of_the_time_is_left(clock, pause):
    precedence, began, held = Precedence(), clock.now, 0.0
    while clock.now < began + 20:
        precedence.claim()
        left = precedence.left
        clock.now += pause
        held += min(left, pause)
    assert 0.2 <= held / (clock.now - began) <= 0.51


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def step(model, images):
    model(images).square().sum().backward()
    return [p.grad.clone() for p in model.parameters()]


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_a_model_gives_way_before_each_layer_forward_and_backward(monkeypatch):
    torch.manual_seed(0)
    model, images = network(), torch.rand(2, 1, 8, 8)
    expected = step(copy.deepcopy(model), images)
    precedence, places = Precedence(), []
    monkeypatch.setattr(precedence, "give_way", lambda: places.append(torch.is_grad_enabled()))
    with precedence.between_layers(model):
        assert hooks(model) == 6
        with torch.no_grad():
            copy.deepcopy(model)(images)  # a frozen copy, as corrections make them
        assert places == [False] * 3
        found = step(model, images)
    assert len(places) == 3 + 6
    assert all(map(torch.equal, found, expected))
    assert hooks(model) == 0


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_models_that_take_no_time_of_the_processors_or_are_compiled_are_left_alone():
    scripted = torch.jit.trace(network().eval(), torch.rand(1, 1, 8, 8))
    for model in (network().to("meta"), torch.compile(network()), scripted):
        with Precedence().between_layers(model):
            assert hooks(model) == 0


def test_weights_that_are_computed_are_not_computed_to_be_looked_at():
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with Precedence().between_layers(model):
        assert hooks(model) == 2
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_hooks_go_when_training_fails():
    model = network()
    with pytest.raises(ZeroDivisionError), Precedence().between_layers(model):
        raise ZeroDivisionError
    assert hooks(model) == 0
