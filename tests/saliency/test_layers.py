import pytest
import torch
import torchvision
from torch import nn

from xfeedback_widgets.saliency import GradCAM, NoSpatialLayerError, create, find_target_layer


def torchvision_swin():
    return torchvision.models.swin_transformer.SwinTransformer(
        [4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=5
    )


def timm_swin():
    timm = pytest.importorskip("timm")
    return timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=64,
        window_size=4,
        embed_dim=16,
        depths=(1, 1),
        num_heads=(2, 2),
        num_classes=5,
    )


def hugging_face_swin():
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=64, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, num_labels=5
    )
    return transformers.SwinForImageClassification(config)


@pytest.mark.parametrize(
    ("make", "layout"),
    [(torchvision_swin, "nchw"), (timm_swin, "nhwc"), (hugging_face_swin, "tokens")],
)
def test_swin_in_its_three_layouts(make, layout):
    model = make().eval()
    method = GradCAM(model)
    assert method.target_layer.layout == layout
    assert method.target_layer.prefix_tokens == 0
    assert method.closed_form
    images = torch.rand(2, 3, 64, 64)
    maps = method.explain(images, [1, 2])
    assert maps.shape == (2, 8, 8)
    # the closed form and the head gradient of the same layer agree
    object.__setattr__(method.target_layer, "classifier", None)
    assert torch.allclose(method.explain(images, [1, 2]), maps, atol=1e-6)
    assert maps.max() > 0


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("mobilenet_v2", "features"),
        ("vgg11", "features"),  # not the pool after it
        ("shufflenet_v2_x0_5", "conv5"),
    ],
)
def test_known_layers(name, layer):
    assert find_target_layer(torchvision.models.get_model(name, weights=None)).name == layer


def test_a_class_token_hides_the_patches_of_the_last_block():
    vit = torchvision.models.VisionTransformer(64, 16, 3, 4, 64, 128, num_classes=5)
    target = find_target_layer(vit)  # its head is all zeros, as torchvision makes it
    assert target.name == "encoder.layers.encoder_layer_2.ln_1"


def test_images_that_are_not_square(net):
    assert GradCAM(net()).explain(torch.rand(1, 3, 16, 32), 1).shape == (1, 4, 8)
    swin = GradCAM(hugging_face_swin())
    maps = swin.explain(torch.rand(1, 3, 32, 64), 1)
    assert maps.shape == (1, 4, 8)


def test_a_layer_by_name_or_module(net):
    model = net()
    assert find_target_layer(model, "stem.0").module is model.stem[0]
    assert find_target_layer(model, model.stem[0]).name == "stem.0"
    with pytest.raises(ValueError, match=r"stem\.0"):
        GradCAM(model, "stem.O")
    with pytest.raises(ValueError, match="not a submodule"):
        GradCAM(model, nn.Conv2d(3, 3, 1))
    with pytest.raises(NoSpatialLayerError, match="before pooling"):
        GradCAM(model, "head")


def test_a_model_without_a_spatial_layer_says_what_to_pass():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 5, 3))
    method = GradCAM(model)  # no usual size fits: the images will tell
    with pytest.raises(NoSpatialLayerError, match=r"layer='name'.*integrated_gradients"):
        method.explain(torch.rand(2, 3, 5, 5))
    with pytest.raises(NoSpatialLayerError, match="images=batch"):
        _ = method.target_layer
    with pytest.raises(NoSpatialLayerError, match="layer='name'"):
        GradCAM(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)))


def test_an_unusual_size_is_learned_from_the_first_images():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9 * 9, 3))
    method = GradCAM(model)
    assert method.explain(torch.rand(2, 1, 11, 11), 0).shape == (2, 9, 9)
    assert method.target_layer.name == "1"


def test_a_method_moves_to_another_model(net):
    one, other = net().eval(), net().eval()
    method = GradCAM(one, centred=True)
    images = torch.rand(2, 3, 16, 16)
    moved = create(method, other)
    assert create(method, one) is method
    assert moved.centred
    expected = GradCAM(other, centred=True).explain(images, 1)
    assert torch.equal(moved.explain(images, 1), expected)
    assert not torch.allclose(method.explain(images, 1), expected)
    with pytest.raises(ValueError, match="gradcam"):
        create("gradcamm", one)
    with pytest.raises(ValueError, match="no layer"):
        create("saliency", one, "last")
