import copy
import threading

import pytest
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import LayerGradCam
from torch import nn

from xfeedback_widgets.saliency import METHODS, GradCAM, create, is_empty, normalize

MODELS = {  # name: whether the closed form must be found
    "resnet18": True,
    "resnet50": True,
    "mobilenet_v2": True,
    "efficientnet_b0": True,
    "densenet121": False,  # a ReLU stands between its last layer and the pool
    "vgg11": False,
}


def lively(model):
    """Random weights that keep the signal alive down to the logits (seen by non-empty maps)."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model


def captum_map(model, layer, images, targets):
    found = LayerGradCam(model, layer).attribute(images, targets, relu_attributions=True)
    return found[:, 0].detach()


@pytest.mark.parametrize(("name", "closed"), MODELS.items())
def test_equals_captum(name, closed):
    model = lively(torchvision.models.get_model(name, weights=None, num_classes=10)).eval()
    images, targets = torch.rand(4, 3, 64, 64), torch.tensor([0, 3, 7, 9])
    method = GradCAM(model)
    assert method.closed_form is closed
    maps = method.explain(images, targets)
    expected = captum_map(model, method.target_layer.module, images, targets)
    assert not is_empty(maps).all()
    # both on a common scale: random weights give logits of any size
    scale = expected.max().clamp(min=1)
    assert (maps - expected).abs().max() <= 1e-5 * scale
    assert (normalize(maps) - normalize(expected)).abs().max() <= 1e-4
    trained = method.logits_and_maps(images, targets)
    assert torch.allclose(trained[1], maps, rtol=1e-4, atol=1e-6)
    assert torch.allclose(trained[0], model(images), rtol=1e-5, atol=1e-5)


class Grid(nn.Module):
    """Lays the patches of a token sequence out as [N, C, h, w], for Captum to look at, and back."""

    def __init__(self, norm, side, prefix):
        super().__init__()
        self.norm, self.side, self.prefix, self.grid = norm, side, prefix, nn.Identity()

    def forward(self, tokens):
        tokens = self.norm(tokens)
        patches = tokens[:, self.prefix :].transpose(1, 2).unflatten(2, (self.side, self.side))
        patches = self.grid(patches).flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, : self.prefix], patches], 1)


class Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images).logits


def vit_torchvision():
    vit = torchvision.models.VisionTransformer(64, 16, 3, 4, 64, 128, num_classes=5)
    nn.init.normal_(vit.heads.head.weight)  # made as zeros
    return vit


def vit_timm():
    timm = pytest.importorskip("timm")
    return timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=5)


def vit_timm_registers():
    timm = pytest.importorskip("timm")
    return timm.create_model("vit_small_patch14_reg4_dinov2", img_size=56, num_classes=5)


def vit_hugging_face():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=64,
        num_labels=5,
    )
    return transformers.ViTForImageClassification(config)


@pytest.mark.parametrize(
    ("make", "prefix", "size"),
    [
        (vit_torchvision, 1, 64),
        (vit_timm, 1, 64),
        (vit_timm_registers, 5, 56),
        (vit_hugging_face, 1, 64),
    ],
)
def test_equals_captum_on_the_patches_of_a_vit(make, prefix, size):
    model = make().eval()
    images, targets = torch.rand(6, 3, size, size), torch.tensor([0, 1, 2, 3, 4, 0])
    method = GradCAM(model)
    layer = method.target_layer
    assert (layer.layout, layer.prefix_tokens) == ("tokens", prefix)
    assert not method.closed_form
    maps = method.explain(images, targets)
    assert maps.shape == (6, 4, 4)
    assert not is_empty(maps).all()
    shown = copy.deepcopy(model)
    grid = Grid(shown.get_submodule(layer.name), 4, prefix)
    parent, _, child = layer.name.rpartition(".")
    setattr(shown.get_submodule(parent), child, grid)
    if make is vit_hugging_face:
        shown = Logits(shown)
    assert (maps - captum_map(shown, grid.grid, images, targets)).abs().max() <= 1e-5


def test_equals_captum_on_timm_and_hugging_face_cnns():
    timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5
    )
    hugging_face = Logits(transformers.ResNetForImageClassification(config)).eval()
    images, targets = torch.rand(4, 3, 64, 64), torch.tensor([0, 1, 2, 4])
    for model in (timm.create_model("resnet10t", num_classes=5).eval(), hugging_face):
        method = GradCAM(model)
        assert method.closed_form
        maps = method.explain(images, targets)
        assert not is_empty(maps).all()
        expected = captum_map(model, method.target_layer.module, images, targets)
        assert (maps - expected).abs().max() <= 1e-5
    whole = GradCAM(hugging_face.model)  # returns an object with .logits
    assert torch.equal(whole.explain(images, targets), maps)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("closed", [True, False])
def test_gradcheck_in_double_precision(net, twisted, closed, centred):
    model = (net() if closed else twisted()).double().eval()
    method = GradCAM(model, "last" if closed else "conv", centred=centred)
    assert method.closed_form is closed
    images = torch.rand(2, 3, 8, 8, dtype=torch.double, requires_grad=True)
    targets = torch.tensor([0, 2])
    weights = [p for p in model.parameters() if p.ndim > 1]

    def run(images, *_weights):
        logits, maps = method.logits_and_maps(images, targets)
        return logits, maps

    assert (method.explain(images, targets) > 0).any()
    assert torch.autograd.gradcheck(run, (images, *weights), fast_mode=True)


@pytest.mark.parametrize("between", [None, nn.ReLU()])  # closed form, head gradient
def test_signed_maps_with_constant_weights_by_the_definition(net, between):
    model = net(between).eval()
    images, targets = torch.rand(3, 3, 16, 16), torch.tensor([0, 1, 3])
    h = model.last(model.stem(images))
    score = model.head(model.between(h.mean((2, 3)))).gather(1, targets[:, None]).sum()
    (g,) = torch.autograd.grad(score, h, retain_graph=True)
    expected = (g.mean((2, 3), keepdim=True) * h).sum(1)  # g is a number here
    assert expected.min() < 0 < expected.max()
    _, maps = GradCAM(model).logits_and_maps(images, targets, signed=True, alpha="constant")
    assert torch.allclose(maps, expected, atol=1e-6)
    weights = [p for p in model.parameters() if p.ndim > 1]
    got = torch.autograd.grad(maps.square().sum(), weights, allow_unused=True)
    wanted = torch.autograd.grad(expected.square().sum(), weights, allow_unused=True)
    for one, other in zip(got, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-6) if other is not None else one is None
    assert got[-1] is None  # a loss on the map leaves the linear layer alone


def test_maps_by_the_definition(net):
    model = net().eval()
    images = torch.rand(2, 3, 16, 16)
    h = model.last(model.stem(images))
    for centred in (False, True):
        score = model.head(h.mean((2, 3)))
        score = score[:, 1] - (score.mean(1) if centred else 0)
        (g,) = torch.autograd.grad(score.sum(), h, retain_graph=True)
        expected = (g.mean((2, 3), keepdim=True) * h).sum(1).relu()
        maps = GradCAM(model, centred=centred).explain(images, 1)
        assert expected.max() > 0
        assert torch.allclose(maps, expected, atol=1e-6)


class Straight(torch.autograd.Function):
    """Identity with another gradient: values alone cannot tell it from nothing at all."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Twice(nn.Module):
    def forward(self, values):
        return Straight.apply(values)


@pytest.mark.parametrize(
    "between", [nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 8), Twice(), nn.BatchNorm1d(8)]
)
def test_no_closed_form_when_anything_stands_in_the_head(net, between):
    model = net(between).eval()
    method = GradCAM(model)
    assert not method.closed_form
    images = torch.rand(2, 3, 32, 32)
    expected = captum_map(model, method.target_layer.module, images, torch.tensor([1, 2]))
    assert torch.allclose(method.explain(images, [1, 2]), expected, atol=1e-6)


def test_a_fixed_pool_is_not_a_global_one(net):
    model = net().eval()
    model.pool = nn.AvgPool2d(8)
    method = GradCAM(model)  # 32 px give an 8×8 map, which this pool averages whole; 40 px 10×10
    images = torch.rand(2, 3, 40, 40)
    expected = captum_map(model, model.last, images, torch.tensor([1, 2]))
    assert torch.allclose(method.explain(images, [1, 2]), expected, atol=1e-6)


def test_the_head_may_be_replaced_afterwards(net):
    model = net().eval()
    method = GradCAM(model)
    images = torch.rand(2, 3, 32, 32)
    model.head = nn.Linear(8, 7)
    new = captum_map(model, model.last, images, torch.tensor([6, 5]))
    assert torch.allclose(method.explain(images, [6, 5]), new, atol=1e-6)
    model.between = nn.ReLU()
    new = captum_map(model, model.last, images, torch.tensor([6, 5]))
    assert torch.allclose(method.explain(images, [6, 5]), new, atol=1e-6)


def test_dropout_before_the_head_leaves_the_map_alone(net):
    model = net(nn.Dropout(0.5)).train()
    method = GradCAM(model)
    assert method.closed_form
    images = torch.rand(2, 3, 16, 16)
    h = model.last(model.stem(images))
    expected = (model.head.weight[[1, 2], :, None, None] * h).sum(1).relu() / 16
    assert torch.allclose(method.logits_and_maps(images, [1, 2])[1], expected, atol=1e-6)


@pytest.mark.parametrize("layer", ["last", "stem"])  # closed form, head gradient
def test_one_forward_and_nothing_of_the_graph_kept(net, layer):
    model = net().train()
    method = GradCAM(model, layer)
    calls, seen = [], []
    model.register_forward_hook(lambda *_: calls.append(1))
    model.stem[0].register_forward_hook(lambda _m, _i, out: seen.append(out.requires_grad))
    images = torch.rand(2, 3, 16, 16)
    logits, maps = method.logits_and_explain(images)
    assert (len(calls), seen) == (1, [False])
    assert not logits.requires_grad
    assert not maps.requires_grad
    logits, maps = method.logits_and_maps(images)
    assert len(calls) == 2
    maps.sum().backward()
    assert model.stem[0].weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert not method.logits_and_maps(images)[1].requires_grad
    packed = []

    def pack(tensor):
        packed.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        method.explain(images)
        # the closed form saves nothing; the head gradient nothing of the trunk (3 channels in)
        assert method.closed_form or packed
        assert not packed if method.closed_form else all(shape[1:2] != (3,) for shape in packed)


def test_works_in_any_grad_mode_dtype_and_with_frozen_weights(net):
    for between in (None, nn.LayerNorm(8)):
        model = net(between).eval().requires_grad_(requires_grad=False)
        method = GradCAM(model)
        images = torch.rand(2, 3, 16, 16)
        expected = method.explain(images, 1)
        with torch.no_grad():
            assert torch.equal(method.explain(images, 1), expected)
        with torch.inference_mode():
            maps = method.explain(images * 1, torch.tensor([1, 1]))
        assert torch.equal(maps, expected)
        assert not maps.is_inference()
        half = GradCAM(copy.deepcopy(model).bfloat16()).explain(images, 1)
        assert half.dtype == torch.float32
        assert (normalize(half) - normalize(expected)).abs().max() < 0.15


def test_a_trunk_that_forbids_gradients(net):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()
            self.head = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 3))

        def forward(self, images):
            with torch.no_grad():
                h = self.net.last(self.net.stem(images))
            return self.head(h.mean((2, 3)))

    model = Frozen().eval()
    images = torch.rand(2, 3, 16, 16)
    h = model.net.last(model.net.stem(images)).detach().requires_grad_()
    (g,) = torch.autograd.grad(model.head(h.mean((2, 3)))[:, 1].sum(), h)
    expected = (g.mean((2, 3), keepdim=True) * h).sum(1).relu()
    maps = GradCAM(model, "net.last").explain(images, 1)
    assert torch.allclose(maps, expected, atol=1e-6)


def test_in_place_work_in_the_head_does_not_reach_the_activations():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, 3)

        def forward(self, images):
            return self.head(F.relu(self.features(images), inplace=True).mean((2, 3)))

    model = InPlace()
    images, targets = torch.randn(3, 3, 9, 9), torch.tensor([0, 1, 2])
    expected = captum_map(model, model.features, images, targets)
    for maps in (
        GradCAM(model, "features").explain(images, targets),
        GradCAM(model, "features").logits_and_maps(images, targets)[1],
    ):
        assert torch.allclose(maps, expected, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_the_model_is_left_as_it_was_found(net, state_of, name):
    model = net(nn.Dropout()).train()
    model.stem[1].eval()
    model.head.weight.requires_grad_(requires_grad=False)
    model(torch.rand(2, 3, 16, 16)).sum().backward()
    before = state_of(model)
    method = create(name, model)
    assert state_of(model) == before
    images = torch.rand(2, 3, 16, 16)
    before["rng"] = torch.get_rng_state().tolist()
    first, second = method.explain(images, 1), method.explain(images, 1)
    assert state_of(model) == before
    assert torch.equal(first, second)  # evaluation mode: no dropout
    assert first.dtype == torch.float32
    assert (first >= 0).all()
    assert not first.requires_grad

    def broken(*_):
        raise RuntimeError("broken head")

    model.head.forward = broken
    with pytest.raises(RuntimeError, match="broken head"):
        method.explain(images, 1)
    assert state_of(model) == before


def test_another_thread_may_use_the_model_meanwhile(net):
    model = net(nn.LayerNorm(8)).eval()
    method, images, outputs = GradCAM(model), torch.rand(1, 3, 16, 16), []
    normal = model.head.forward

    def meddle(values):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=lambda: outputs.append(model(images)))
            thread.start()
            thread.join()
        return normal(values)

    expected = method.explain(images, 1)
    model.head.forward = meddle
    assert torch.equal(method.explain(images, 1), expected)
    assert outputs[0].requires_grad


@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        (torch.rand(3, 16, 16), None, r"images\[None\]"),
        (torch.rand(0, 3, 16, 16), None, "at least one"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), None, "255"),
        (torch.full((2, 3, 16, 16), float("nan")), None, r"0, 1 .*NaN"),
        (torch.rand(2, 3, 16, 16), 4, "target 4 .*0 … 3"),
        (torch.rand(2, 3, 16, 16), [0, -1], r"target -1 \(image 1"),
        (torch.rand(2, 3, 16, 16), [0, 1, 2], r"expected \[2\]"),
        (torch.rand(2, 3, 16, 16), torch.tensor([0.0, 1.0]), "integer"),
    ],
)
def test_bad_input_is_named_with_the_remedy(net, images, targets, message):
    for name in ("gradcam", "saliency"):
        with pytest.raises(ValueError, match=message):
            create(name, net()).explain(images, targets)


def test_diverged_weights_are_no_empty_map(net):
    model = net()
    model.last[0].weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="diverged"):
        GradCAM(model, "last").explain(torch.rand(2, 3, 16, 16), 1)


def test_a_real_photo_and_real_weights(shared_data):
    skimage_data = pytest.importorskip("skimage.data")
    model = torchvision.models.mobilenet_v2(weights=None)
    path = shared_data / "mobilenet_v2" / "mobilenet_v2_imagenet.pth"
    model.load_state_dict(torch.load(path, weights_only=True))
    cat = torch.from_numpy(skimage_data.chelsea().copy()).permute(2, 0, 1)[None].float() / 255
    cat = F.interpolate(cat[..., 75:375], (224, 224), mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = (cat - mean[:, None, None]) / std[:, None, None]
    logits, maps = GradCAM(model).logits_and_explain(images)
    assert 281 <= int(logits.argmax()) <= 285  # the cats of ImageNet
    assert maps.shape == (1, 7, 7)
    assert not is_empty(maps).any()
    face = maps[0, 1:6, 1:6].sum() / maps.sum()
    assert face > 0.6
