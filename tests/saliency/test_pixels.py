import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xfeedback_widgets.saliency import DeepLift, IntegratedGradients, Occlusion, Saliency


@pytest.fixture
def images():
    return torch.randn(2, 3, 16, 16)


def test_saliency_is_the_largest_input_gradient(net, images):
    model = net().eval()
    x = images.clone().requires_grad_()
    (g,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    maps = Saliency(model).explain(images, 1)
    assert torch.allclose(maps, g.abs().amax(1))
    assert maps.max() > 0


def test_integrated_gradients_are_complete_for_a_grey_model(images):
    # one input channel, one path: the sum of |attribution| of a linear model is |w·x|
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    grey = images[:, :1]
    maps = IntegratedGradients(model, n_steps=4).explain(grey, 1)
    assert torch.allclose(maps.flatten(1), (model[1].weight[1] * grey.flatten(1)).abs(), atol=1e-5)


def test_occlusion_covers_all_channels(images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 2))
    maps = Occlusion(model, window=1, stride=1).explain(images, [0, 1])
    effect = (model[1].weight.reshape(2, 3, 16, 16) * images).sum(1).abs()
    assert torch.allclose(maps, effect, atol=1e-5)
    with pytest.raises(ValueError, match="window"):
        Occlusion(model, window=17).explain(images, 0)


class Modules(nn.Module):
    """Every nonlinearity a module of its own: what Captum can see by itself."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 2, 1)
        self.head = nn.Linear(6, 3)
        self.act, self.act2 = nn.ReLU(), nn.ReLU()

    def forward(self, images):
        return self.head(self.act2(self.two(self.act(self.one(images)))).mean((2, 3)))


class Reused(Modules):
    def forward(self, images):
        return self.head(self.act(self.two(self.act(self.one(images)))).mean((2, 3)))


class Functional(Modules):
    def forward(self, images):
        middle = self.two(F.relu(self.one(images), inplace=True))
        middle.relu_()
        return self.head(middle.mean((2, 3)))


@pytest.mark.parametrize("kind", [Modules, Reused, Functional])
def test_deeplift_equals_captum_however_the_model_is_written(images, kind):
    plain = Modules().eval()
    model = kind().eval()
    model.load_state_dict(plain.state_dict())
    expected = captum.attr.DeepLift(plain).attribute(images.clone().requires_grad_(), target=[0, 2])
    maps = DeepLift(model).explain(images, [0, 2])
    assert maps.max() > 0
    assert torch.allclose(maps, expected.detach().abs().sum(1), atol=1e-6)


@pytest.mark.parametrize("activation", [F.relu6, F.gelu, F.silu, F.hardswish, torch.sigmoid])
def test_deeplift_sums_to_the_change_of_the_logit(activation):
    # Completeness: Σ attributions = z(x) − z(0). One pixel in one channel: the map is that sum.
    first, last = nn.Linear(1, 9), nn.Linear(9, 2)

    class Curve(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = first, last

        def forward(self, images):
            return self.last(activation(4 * self.first(images.flatten(1))))

    model, x = Curve(), torch.full((1, 1, 1, 1), 1.7)
    change = (model(x) - model(0 * x))[0, 1].abs()
    assert torch.allclose(DeepLift(model).explain(x, 1).squeeze(), change, atol=1e-5)
    assert change > 0


def test_deeplift_of_an_image_does_not_depend_on_the_batch(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    model.append(nn.Linear(4 * 49, 3))
    method = DeepLift(model)
    alone = torch.cat([method.explain(images[i : i + 1], 1) for i in range(2)])
    assert torch.allclose(method.explain(images, 1), alone, atol=1e-6)
    # attributions of a rectifier followed by a pool are complete too
    assert alone.isfinite().all()
