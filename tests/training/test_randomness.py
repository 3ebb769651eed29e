"""A run draws its own random numbers: it repeats itself, and the user's generator is never touched."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

import xfeedback_widgets as xf
from xfeedback_widgets.corrections import PlainFineTuning
from xfeedback_widgets.training.randomness import OwnRandomNumbers, is_stochastic

DRAWS = {
    "dropout": lambda: F.dropout(torch.ones(50), 0.3, training=True),
    "dropout in place": lambda: F.dropout(torch.ones(50), 0.3, training=True, inplace=True),
    "dropout module": lambda: nn.Dropout(0.3)(torch.ones(50)),
    "dropout1d": lambda: nn.Dropout1d(0.3)(torch.ones(2, 25, 3)),
    "dropout2d": lambda: nn.Dropout2d(0.3)(torch.ones(2, 25, 3, 3)),
    "dropout3d": lambda: nn.Dropout3d(0.3)(torch.ones(2, 25, 3, 3, 3)),
    "stochastic depth": lambda: StochasticDepth(0.3, "row")(torch.ones(50, 2)),
    "rand": lambda: torch.rand(5),
    "randn_like": lambda: torch.randn_like(torch.ones(5)),
    "rand_like": lambda: torch.rand_like(torch.ones(5)),
    "bernoulli_": lambda: torch.empty(50).bernoulli_(0.3),
    "normal_": lambda: torch.empty(5).normal_(),
    "randperm": lambda: torch.randperm(50),
    "multinomial": lambda: torch.ones(50).multinomial(20),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_repeat_and_leave_the_process_generator_alone(name):
    state = torch.get_rng_state()
    with OwnRandomNumbers(3):
        first, second = DRAWS[name](), DRAWS[name]()
    with OwnRandomNumbers(3):
        again = DRAWS[name]()
    with OwnRandomNumbers(4):
        other = DRAWS[name]()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("module", "shape"), [(nn.Dropout, (1,)), (nn.Dropout2d, (1, 5, 5))])
def test_dropout_keeps_its_mean_its_axes_and_its_gradient(module, shape):
    images = torch.ones(400, 50, *shape[1:], requires_grad=True)
    with OwnRandomNumbers(0):
        dropped = module(0.25)(images)
        assert torch.equal(module(0.25).eval()(images), images)
        assert not module(1.0)(images).any()
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    values = dropped.flatten(2) if module is nn.Dropout2d else dropped[..., None]
    assert torch.equal(values.amin(-1), values.amax(-1))  # whole channels
    assert {round(v, 4) for v in dropped.unique().tolist()} == {0.0, round(4 / 3, 4)}
    dropped.sum().backward()
    assert torch.equal(images.grad, dropped.detach())


def test_other_threads_draw_as_ever():
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    drawn = []
    with OwnRandomNumbers(0):
        thread = threading.Thread(target=lambda: drawn.append(torch.rand(4)))
        thread.start()
        thread.join()
    assert torch.equal(drawn[0], expected)


def test_what_a_user_draws_while_a_session_trains_neither_repeats_nor_matters(
    tmp_path, make_model, digits
):
    def trained(folder, draw):
        with xf.Session(
            make_model(0.5), digits, tmp_path / folder, PlainFineTuning(), epochs=2, batch_size=16
        ) as session:
            torch.manual_seed(2)
            session.train()
            drawn = []
            while session.progress.active:
                if draw:
                    drawn.append(torch.rand(2))
            assert session.progress.state == "done"
            return torch.cat([p.detach().flatten() for p in session.model.parameters()]), drawn

    alone, _ = trained("alone", draw=False)
    beside, drawn = trained("beside", draw=True)
    assert torch.equal(alone, beside)
    torch.manual_seed(2)
    assert len(drawn) > 10
    assert torch.equal(torch.stack(drawn), torch.stack([torch.rand(2) for _ in drawn]))


def test_who_draws_is_known(make_model):
    assert not is_stochastic(make_model(0.0))
    assert is_stochastic(make_model(0.5))
    assert is_stochastic(nn.Sequential(StochasticDepth(0.1, "row")))
