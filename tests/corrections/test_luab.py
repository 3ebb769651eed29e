"""LUAB: the equation by hand, the points under augmentation, the head that leaves nothing behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models, transforms
from torchvision.transforms import v2

from xfeedback_widgets.corrections import PlainFineTuning, RandomFeedback
from xfeedback_widgets.corrections.luab import Luab, attention_away, point_loss
from xfeedback_widgets.data import Batch, ImageSet
from xfeedback_widgets.feedback import Byproduct, CocoAB, Feedback, ImageNetAB
from xfeedback_widgets.training import fine_tune


def clicked(image_id, x, y, *, target=None, time=None, size=(8, 8), annotator="ada"):
    trace = ImageNetAB("a", *size, selected=True, selectedRecord=[(x, y, 1)], estimateTime=time)
    return Byproduct(image_id, trace, target=target, annotator=annotator)


@pytest.fixture
def pointed(digits):
    """Clicks on the middle of the ink of every second digit."""
    records = []
    for index in range(0, len(digits), 2):
        rows, columns = digits.mask(index).nonzero(as_tuple=True)
        x, y = (columns.float().mean() + 0.5) / 8, (rows.float().mean() + 0.5) / 8
        records.append(clicked(digits.ids[index], float(x), float(y)))
    return Feedback.of(records)


def test_the_point_loss_by_hand():
    predicted = torch.tensor([[[0.5, 0.5], [3.0, 0.0]], [[0.1, 0.2], [0.0, 0.0]], [[1.0, 1.0]] * 2])
    points = torch.tensor(
        [[[0.1, 0.7], [0.5, 0.0]], [[0.3, 0.2], [7.0, 7.0]], [[torch.nan] * 2] * 2]
    )
    weights = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    # smooth-l1 is d²/2 within 1 and |d| − ½ beyond; the mean over x and y, then over the classes present
    first = ((0.4**2 / 2 + 0.2**2 / 2) / 2 + (2.5 - 0.5) / 2) / 2
    second = 2 * (0.2**2 / 2) / 2
    predicted.requires_grad_()
    found = point_loss(predicted, points, weights)
    torch.testing.assert_close(found, torch.tensor([first, second, 0.0]))
    found.sum().backward()
    assert predicted.grad[1, 1].tolist() == predicted.grad[2, 0].tolist() == [0, 0]
    assert predicted.grad.isfinite().all()


def test_attention_away_by_hand():
    maps = torch.zeros(3, 1, 4)
    maps[0, 0, 0] = maps[0, 0, 3] = 2.0
    maps[1, 0, 1] = 1.0
    points = torch.tensor([[0.125, 0.5], [0.375, 0.5], [0.5, 0.5]])
    far = torch.exp(torch.tensor(-(0.75**2) / (2 * 0.15**2)))
    wanted = torch.tensor([3 * (1 - (1 + far) / 2), 0.0, 0.0])
    torch.testing.assert_close(
        attention_away(maps, points, torch.tensor([3.0, 1.0, 1.0])), wanted, atol=1e-6, rtol=0
    )


def test_the_loss_is_the_papers_and_reaches_the_trunk(digits, pointed, make_model):
    model = make_model().eval()
    correction = Luab(weight=3.0)
    correction.prepare(model, digits, pointed)
    batch = digits.batch([0, 1, 2, 3])
    losses = correction.loss(model, batch)
    features = model[:-1](batch.images)
    z = torch.stack([torch.tensor(pointed.points[digits.ids[i]][None]) for i in (0, 2)])
    h = nn.functional.linear(features, correction._head.weight, correction._head.bias)
    second = F.smooth_l1_loss(h[[0, 2]], z, reduction="none").mean(1).sum() / 4
    expected = F.cross_entropy(model[-1](features), batch.labels) + 3.0 * second
    torch.testing.assert_close(losses.total, expected)
    torch.testing.assert_close(losses.parts["points"], 3.0 * second.detach())
    assert losses.reduction == "mean"

    def trunk_gradient(weight):
        correction.weight = weight
        model.zero_grad()
        correction.loss(model, batch).total.backward()
        return model[0].weight.grad.clone()

    assert not torch.equal(trunk_gradient(0.0), trunk_gradient(3.0))
    model.zero_grad()
    F.cross_entropy(model(batch.images), batch.labels).backward()
    torch.testing.assert_close(trunk_gradient(0.0), model[0].weight.grad, atol=1e-7, rtol=1e-5)


def test_several_labels_have_a_head_for_each_class(digits, make_model):
    """Binary cross-entropy, and the mean over the classes that are pointed at."""
    model = make_model().eval()
    correction = Luab(weight=2.0, fitted=False)
    correction.prepare(model, digits, Feedback())
    points, weights = torch.rand(120, 3, 2), torch.zeros(120, 3)
    weights[0, 0] = weights[0, 2] = weights[1, 1] = 1
    correction._points, correction._weights = points, weights
    correction._head = nn.Linear(12, 6)
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 1, 0]])
    images = digits.batch([0, 1, 2]).images
    losses = correction.loss(model, Batch(images, labels, torch.arange(3)))
    h = correction._head(model[:-1](images)).unflatten(1, (3, 2))
    of = [F.smooth_l1_loss(h[n, c], points[n, c]) for n, c in ((0, 0), (0, 2), (1, 1))]
    wanted = F.binary_cross_entropy_with_logits(model(images), labels)
    wanted = wanted + 2.0 * ((of[0] + of[1]) / 2 + of[2]) / 3
    torch.testing.assert_close(losses.total, wanted)


class _Crop(v2.Transform):
    def transform(self, inpt, params):
        return v2.functional.crop(inpt, 10, 100, 200, 200)


@pytest.mark.parametrize(
    ("flip", "point", "target", "weight"),
    [
        (0.0, (0.5, 0.4), (0.75, 0.7), 1),
        (1.0, (0.5, 0.4), (0.25, 0.7), 1),
        (1.0, (0.1, 0.4), None, 0),
    ],
)
def test_points_follow_crop_and_flip(flip, point, target, weight):
    from xfeedback_widgets.data.augment import augmented

    data = ImageSet([(torch.rand(1, 375, 500), 0)], ids=["a"], class_names=["x", "y"])
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    correction = Luab(fitted=False)
    correction.prepare(model, data, Feedback.of([clicked("a", *point, size=(375, 500))]))
    batch = augmented(data.batch([0]), v2.Compose([_Crop(), v2.RandomHorizontalFlip(flip)]))
    found = correction.loss(model, batch).parts["points"]
    if not weight:
        assert found == 0
        return
    h = correction._head(model[:-1](batch.images))
    torch.testing.assert_close(found, F.smooth_l1_loss(h, torch.tensor([target])).detach())


def test_points_of_the_file_go_through_the_preprocessing():
    from PIL import Image

    pictures = [(Image.new("RGB", (500, 375)), 0), (Image.new("RGB", (500, 375)), 1)]
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    data = ImageSet(pictures, ids=["a", "b"], transform=transforms.Compose(steps))
    said = [
        clicked("a", 0.5, 0.4, size=(375, 500)),
        clicked("b", 0.5, 0.4, size=(224, 224)),
        clicked("gone", 0.5, 0.4),
    ]
    correction = Luab(fitted=False)
    correction.prepare(models.squeezenet1_1(num_classes=2), data, Feedback.of(said))
    wanted = torch.tensor([[(0.5 * 341 - 58) / 224, (0.4 * 256 - 16) / 224], [0.5, 0.4]])
    torch.testing.assert_close(correction._points[:, 0], wanted)


def test_only_points_on_the_images_own_class_count(digits, make_model):
    label = int(digits.labels[0])
    name = digits.class_names[label]
    other = clicked(digits.ids[0], 0.9, 0.9, target=(label + 1) % 3)
    correction = Luab(fitted=False)
    for records, wanted in (
        ([other], None),
        ([other, clicked(digits.ids[0], 0.2, 0.3, target=label)], (0.2, 0.3)),
        ([other, clicked(digits.ids[0], 0.2, 0.4)], (0.2, 0.4)),
    ):
        correction.prepare(make_model(), digits, Feedback.of(records))
        assert (correction._weights[0, 0] > 0) == (wanted is not None)
        if wanted:
            torch.testing.assert_close(correction._points[0, 0], torch.tensor(wanted))
    assert name in digits.class_names


def test_long_looks_weigh_more_where_asked(digits, make_model):
    said = [clicked(digits.ids[i], 0.5, 0.5, time=t) for i, t in enumerate((100, 200, 900, None))]
    correction = Luab(weighting="dwell", fitted=False)
    correction.prepare(make_model(), digits, Feedback.of(said))
    assert correction._weights[:5, 0].tolist() == [0.5, 1, 2, 1, 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.resnet18(num_classes=3),
        lambda: models.mobilenet_v3_small(num_classes=3),
        lambda: models.squeezenet1_1(num_classes=3),  # its last layer is a convolution
        lambda: models.VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=3),
        lambda: models.swin_t(num_classes=3),
    ],
    ids=["resnet", "mobilenet", "squeezenet", "vit", "swin"],
)
def test_it_learns_on_any_classifier_and_leaves_nothing_behind(make):
    torch.manual_seed(1)
    images = torch.rand(6, 3, 64, 64)
    data = ImageSet([(image, i % 3) for i, image in enumerate(images)], ids=list("abcdef"))
    said = Feedback.of([clicked(i, 0.1 * n, 0.5, size=(64, 64)) for n, i in enumerate("abcd")])
    model = make()
    before = copy.deepcopy(model.state_dict())
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    history = fine_tune(model, data, said, Luab(weight=5.0), epochs=1, batch_size=6)
    assert history.steps[-1].losses["points"] > 0
    after = model.state_dict()
    assert list(after) == list(before)
    assert any(not torch.equal(after[name], before[name]) for name in after)
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


def test_a_published_version_has_the_models_own_weights(tmp_path, digits, pointed, make_model):
    from safetensors.torch import load_file

    from xfeedback_widgets import Session

    model = make_model()
    names = set(model.state_dict())
    with Session(
        model, digits, tmp_path / "s", Luab(), epochs=3, lr=1e-2, steps_per_epoch=20
    ) as session:
        for record in pointed.records[:5]:
            session.record(record)
        session.train()
        assert session.wait(60).state == "done"
        version = session.versions[-1]
        assert version.answers == 5
    (written,) = (tmp_path / "s" / "versions").glob(f"{version.number:06d}/*.safetensors")
    assert set(load_file(written)) == names


def test_the_head_is_trained_and_the_same_seed_gives_the_same_result(digits, make_model):
    places = zip(digits.ids, digits.labels.tolist(), strict=True)
    pointed = Feedback.of(clicked(image_id, 0.1 + 0.4 * label, 0.2) for image_id, label in places)

    def run(seed):
        model, correction = make_model(), Luab(weight=5.0, fitted=False, seed=seed)
        history = fine_tune(model, digits, pointed, correction, epochs=12, lr=1e-2, batch_size=32)
        return model.state_dict(), [step.losses["points"] for step in history.steps]

    (weights, losses), (again, _), (other, _) = run(3), run(3), run(4)
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not all(torch.equal(weights[name], other[name]) for name in weights)


def test_a_fitted_head_knows_more_than_the_middle(digits, pointed, make_model):
    model = make_model().eval()
    losses = {}
    for fitted in (True, False):
        correction = Luab(fitted=fitted)
        correction.prepare(model, digits, pointed)
        losses[fitted] = correction.loss(model, digits.batch(range(120))).parts["points"]
    assert losses[True] < 0.9 * losses[False]


def test_micro_batches_have_the_gradient_of_the_batch(digits, pointed, make_model):
    model = make_model().eval()
    correction = Luab(weight=5.0)
    correction.prepare(model, digits, pointed)
    batch = digits.batch(range(7))
    whole = correction.loss(model, batch).total
    parts = sum(correction.loss(model, b).total * len(b) / 7 for b in batch.split(3))
    torch.testing.assert_close(parts, whole)


def test_the_map_may_be_drawn_to_the_point(digits, pointed, make_model):
    model = make_model()
    correction = Luab(weight=10.0, head="map")
    history = fine_tune(model, digits, pointed, correction, epochs=6, lr=5e-3, batch_size=32)
    losses = [step.losses["points"] for step in history.steps]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_random_points_are_elsewhere_and_as_many(digits, pointed, make_model):
    model = make_model()

    def table(correction):
        correction = copy.copy(correction)
        correction.prepare(model, digits, pointed)
        inner = getattr(correction, "_prepared", correction)
        assert next(correction.parameters(), None) is not None
        return inner._points[:, 0], inner._weights[:, 0]

    points, weights = table(Luab())
    for how in ("random", "shuffled"):
        control = RandomFeedback(Luab(), how=how, seed=1)
        others, again = table(control), table(control)
        torch.testing.assert_close(others, again)
        assert torch.equal(others[1], weights)
        apart = (others[0] - points)[weights > 0].norm(dim=1)
        assert apart.mean() > (0.2 if how == "random" else 0.01)
    drawn = table(RandomFeedback(Luab()))[0][weights > 0]
    assert (drawn.mean(0) - 0.5).abs().max() < 0.12
    assert (drawn.std(0) - 12**-0.5).abs().max() < 0.06
    dealt = table(RandomFeedback(Luab(), how="shuffled"))[0][weights > 0]
    assert sorted(map(tuple, dealt.tolist())) == sorted(map(tuple, points[weights > 0].tolist()))


def test_without_points_it_is_plain_fine_tuning(digits, make_model):
    def weights(correction):
        model = make_model()
        fine_tune(model, digits, Feedback(), correction, epochs=1)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.testing.assert_close(weights(Luab()), weights(PlainFineTuning()))


@pytest.mark.parametrize("options", [{"weight": -1}, {"head": "face"}, {"weighting": "age"}])
def test_wrong_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Luab(**options)


def test_images_with_points_are_said_to_be_used(digits, pointed):
    correction = Luab()
    assert correction.uses(pointed, digits.ids[0]) == "points"
    assert correction.uses(pointed, digits.ids[1]) == ""


@pytest.fixture
def shapes():
    """Two labels to an image: a lying bar on the left, a standing one on the right, or both."""
    torch.manual_seed(5)
    flags = torch.rand(60, 2) < 0.5
    images = 0.1 * torch.rand(60, 1, 12, 12)
    rows = torch.randint(1, 10, (60,)).tolist()
    records = []
    for n, row in enumerate(rows):
        actions = []
        for c, name in enumerate(("lying", "standing")):
            if flags[n, c]:
                down, across = ((1, 4), (4, 1))[c]
                images[n, 0, row - 1 : row - 1 + down, 6 * c + 1 : 6 * c + 1 + across] += 1
                actions.append(("add", name, None, (0.5 * c + 0.25, row / 12), 1))
        trace = CocoAB(n, 12, 12, actionHistories=actions)
        records.append(Byproduct(str(n), trace, annotator="ada"))
    data = ImageSet(
        [(image, None) for image in images],
        ids=[str(n) for n in range(60)],
        class_names=["lying", "standing"],
        labels=flags,
    )
    return data, Feedback.of(records)


def test_several_labels_are_learned_with_their_points(shapes):
    data, said = shapes
    torch.manual_seed(2)
    start = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    labels_share = float(data.labels.float().mean())  # what a model that knows nothing reaches
    for correction in (PlainFineTuning(), Luab(weight=5.0), RandomFeedback(Luab(weight=5.0))):
        model = copy.deepcopy(start)
        history = fine_tune(
            model, data, said, correction, epochs=15, lr=1e-2, batch_size=20, validation=data
        )
        found = history.epochs[-1].metrics
        assert found["mean_average_precision"] > 0.8 > 0.2 + labels_share
    correction = Luab()
    correction.prepare(start, data, said)
    assert torch.equal(correction._weights > 0, data.labels)
    assert [p.shape[0] for p in correction.parameters()] == [4, 4]


def test_what_cannot_learn_several_labels_says_so(shapes):
    from xfeedback_widgets.corrections import CrayonAttention

    data, said = shapes
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    with pytest.raises(ValueError, match="CRAYON-Attention learns from one label"):
        fine_tune(model, data, said, CrayonAttention())
    with pytest.raises(ValueError, match="one label"):
        fine_tune(model, data, said, Luab(head="map"))
    model[-1] = nn.Linear(4, 3)
    with pytest.raises(ValueError, match=r"2 classes.*3 logits"):
        fine_tune(model, data, said, Luab())
