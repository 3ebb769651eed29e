"""A run ends when it gets no better, by what needs no image without the shortcut."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from xfeedback_widgets import Session, fine_tune
from xfeedback_widgets.corrections import PlainFineTuning
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback, RegionMask, Verdict
from xfeedback_widgets.metrics import evaluate
from xfeedback_widgets.training import Guard
from xfeedback_widgets.training.stopping import Exchange, Patience


class Corner(nn.Module):
    """Classifies an image by its upper left pixel, or by the middle one."""

    def __init__(self, where: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.where = where

    def forward(self, images):
        value = images[:, 0, self.where, self.where] * self.scale
        return torch.stack([1 - value, value], 1)


def halves():
    """Six images whose corner and middle both tell the class, three of each."""
    labels = [0, 0, 0, 1, 1, 1]
    images = torch.zeros(6, 1, 5, 5)
    images[3:, 0, 0, 0] = images[3:, 0, 2, 2] = 1
    return ImageSet(list(zip(images, labels, strict=True)), ids=[str(i) for i in range(6)])


def corner_marked(ids):
    mask = np.zeros((5, 5), np.int8)
    mask[0, 0] = -1
    return Feedback.of(RegionMask(i, mask) for i in ids)


def test_steadiness_is_how_often_the_prediction_survives_another_corner():
    data = halves()
    exchange = Exchange(data, corner_marked(data.ids))
    assert len(exchange) == 6
    assert exchange.steadiness(Corner(0)) == 0.0  # every image is given corners of the other class
    assert exchange.steadiness(Corner(2)) == 1.0


def test_partners_have_another_label_where_there_are_such():
    data = halves()
    few = Exchange(data, corner_marked(["0", "1", "2", "4"]))
    # 0, 1 and 2 get the corner of 4 and one of their own class; 4 gets two of the others
    assert few.steadiness(Corner(0), batch_size=3) == pytest.approx((3 * 0.5 + 0) / 4)


def test_rejected_maps_of_any_size_are_regions_too():
    data = halves()
    map_ = np.array([[1.0, 0.0], [0.0, 0.0]], np.float16)
    feedback = Feedback.of(Verdict(i, "reject", target=0, map=map_) for i in data.ids)
    assert Exchange(data, feedback).steadiness(Corner(0)) == 0.0


def test_without_regions_accuracy_alone_counts():
    data = halves()
    for feedback in (Feedback(), corner_marked(["0"]), corner_marked(["no such image"])):
        exchange = Exchange(data, feedback)
        assert len(exchange) == 0
        assert Patience(1, exchange).measured(Corner(0), 4) == {}
        with pytest.raises(ValueError, match="fewer than two images have a region"):
            exchange.steadiness(Corner(0))


def test_the_best_epoch_is_accurate_and_steady():
    model, patience = Corner(0), Patience(2, Exchange(halves(), Feedback()))
    told = [(0.8, 0.9), (0.9, 0.7), (0.99, 0.8), (0.95, 0.75)]
    ended = []
    for epoch, (accuracy, steadiness) in enumerate(told, 1):
        nn.init.constant_(model.scale, epoch)
        metrics = {"train_accuracy": 0.1, "accuracy": accuracy, "steadiness": steadiness}
        ended.append(patience.ends(model, epoch, metrics))
    assert ended == [False, False, False, False]  # .7, .6, .79, .7
    assert patience.best == 3
    assert patience.ends(model, 5, {"train_accuracy": 0.5})
    scale = model.scale
    assert patience.take_back(model)
    assert model.scale is scale
    assert model.scale.item() == 3
    assert not Patience(1, Exchange(halves(), Feedback())).take_back(model)


def test_a_run_ends_early_with_the_best_weights(digits, make_model):
    data, model = digits, make_model()
    rates = iter([1e-2] * 3 * 4 + [10.0] * 100)  # learns for three epochs, and is then torn apart
    seen = []

    class Torn(torch.optim.SGD):
        def step(self, closure=None):
            self.param_groups[0]["lr"] = next(rates)
            return super().step(closure)

    def remember(step):
        seen.append((step.epoch, copy.deepcopy(model.state_dict())))

    history = fine_tune(
        model, data, Feedback(), PlainFineTuning(), validation=data, on_step=remember,
        epochs=20, steps_per_epoch=4, patience=2, optimizer=lambda p: Torn(p, lr=1e-2, momentum=0.9),
    )  # fmt: skip
    best = history.epochs[-1]
    assert [e.epoch for e in history.epochs[1:]] == [*range(1, best.epoch + 3), best.epoch]
    assert max(e.metrics["accuracy"] for e in history.epochs[1:]) == best.metrics["accuracy"]
    assert evaluate(model, data)["accuracy"] == best.metrics["accuracy"]
    last_of_best = [state for epoch, state in seen if epoch == best.epoch][-1]
    assert all(torch.equal(v, last_of_best[name]) for name, v in model.state_dict().items())


def test_a_session_publishes_the_best_weights_last(digits, make_model, tmp_path):
    border = np.zeros((8, 8), np.int8)
    border[:2] = -1
    guard = Guard(max_accuracy_drop=1.0, max_empty_maps=1.0)
    with Session(make_model(), digits, tmp_path, PlainFineTuning(), guard=guard) as session:
        for image_id in digits.ids[:20]:
            session.record(RegionMask(image_id, border))
        session.train(epochs=60, lr=0.01, steps_per_epoch=3, patience=1, freeze_batchnorm=False)
        assert session.wait(60).state == "done"
        told = [v.metrics for v in session.versions if "steadiness" in v.metrics]
        scores = [metrics["train_accuracy"] + metrics["steadiness"] for metrics in told]
        assert 2 < len(scores) < 60
        assert scores[-1] == max(scores) == scores[-3]
        assert f"epoch {len(scores) - 2} was the best" in session.progress.message
        assert session.version == session.versions[-1].number
