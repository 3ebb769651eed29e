import pytest
import torch
from torch import nn

from xfeedback_widgets.saliency import GradCAMPlusPlus, SmoothGradCAMPlusPlus
from xfeedback_widgets.saliency.gradcam_plus_plus import plus_plus_weights


def test_weights_by_hand():
    # one channel, A sums to 3; g = [2, 0, -1, 1]: a = 1/(2 + 3g), so w = 2/8 + 1/5
    activations = torch.tensor([1.0, 2.0, 0.0, 0.0]).reshape(1, 1, 2, 2)
    gradient = torch.tensor([2.0, 0.0, -1.0, 1.0]).reshape(1, 1, 2, 2)
    assert torch.allclose(plus_plus_weights(activations, gradient), torch.tensor([[0.45]]))
    # negative activations: 2 + g ΣA ≤ 0 has no meaning
    assert plus_plus_weights(-activations, gradient.abs() + 2).item() == 0


@pytest.mark.parametrize("between", [None, nn.LayerNorm(8)])
def test_equals_the_published_formula(net, between):
    model = net(between).eval()
    model.last[0].bias.data.fill_(0.5)  # mostly positive activations, as after a ReLU
    images = torch.rand(3, 3, 16, 16)
    a = model.last(model.stem(images)).detach().requires_grad_()
    score = model.head(model.between(a.mean((2, 3))))[:, 2].sum()
    (g,) = torch.autograd.grad(score, a)
    a, g = a.double(), g.double()
    alpha = g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3)
    weights = (alpha * g.relu()).sum((2, 3), keepdim=True)
    expected = (weights * a).sum(1).relu()
    assert expected.max() > 0
    maps = GradCAMPlusPlus(model, "last").explain(images, 2)
    assert torch.allclose(maps.double(), expected, rtol=1e-4, atol=1e-7)


def test_large_logits_do_not_overflow(net):
    model = net().eval()
    model.head.bias.data.fill_(1000.0)  # exp(1000) is infinite
    assert GradCAMPlusPlus(model).explain(torch.rand(2, 3, 16, 16), 1).isfinite().all()


def test_smoothing_explains_the_requested_class_and_is_seeded(net):
    model = net().eval()
    images = torch.rand(2, 3, 16, 16)
    smooth = SmoothGradCAMPlusPlus(model, n=4, sigma=0.3)
    maps = [smooth.explain(images, c) for c in range(4)]
    assert not torch.allclose(maps[0], maps[1])
    assert torch.equal(smooth.explain(images, 1), maps[1])
    drawn = SmoothGradCAMPlusPlus(model, n=4, sigma=0.3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn.explain(images, 1), maps[1])
    assert not torch.equal(drawn.explain(images, 1), maps[1])
    # the noise never changes which class is explained
    logits, predicted = smooth.logits_and_explain(images)
    assert torch.equal(logits, model(images))
    assert torch.equal(predicted, smooth.explain(images, logits.argmax(1)))
    still = SmoothGradCAMPlusPlus(model, n=2, sigma=0)
    assert torch.allclose(still.explain(images, 3), GradCAMPlusPlus(model).explain(images, 3))
    with pytest.raises(ValueError, match="n=0"):
        SmoothGradCAMPlusPlus(model, n=0)
