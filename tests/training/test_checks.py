"""What does not fit together is refused before training, naming the image and the remedy."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xfeedback_widgets as xf
from xfeedback_widgets.corrections import PlainFineTuning
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback
from xfeedback_widgets.training import check_fits, fine_tune


def _images(*shape: int, n: int = 4, labels=(0, 1, 2, 1), **options) -> ImageSet:
    pairs = [(torch.rand(*shape), labels[i]) for i in range(n)]
    return ImageSet(pairs, ids=[f"image-{i}" for i in range(n)], **options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_images(3, 8, 8), r"cannot take image 'image-0' of data, .* \[3, 8, 8\] .*transform="),
        (_images(4, 8, 8), r"cannot take image 'image-0' of data, .* \[4, 8, 8\]"),
        (
            _images(1, 8, 8, labels=(0, 1, 11, 1)),
            r"image 'image-2' of data has label 11, but the model gives 3 logits",
        ),
        (_images(1, 8, 8), None),
        (_images(1, 1, 1), None),
    ],
)
def test_images_the_model_cannot_classify(make_model, data, message):
    model = make_model()
    if message is None:
        assert check_fits(model, data) == 3
        return
    for refused in (
        lambda: check_fits(model, data),
        lambda: fine_tune(model, data, Feedback(), PlainFineTuning(), epochs=1),
    ):
        with pytest.raises(ValueError, match=message):
            refused()


def test_a_validation_set_that_does_not_fit_is_called_so(make_model):
    with pytest.raises(ValueError, match="of validation has label 7"):
        fine_tune(
            make_model(), _images(1, 8, 8), Feedback(), PlainFineTuning(),
            validation=_images(1, 8, 8, labels=(0, 7, 0, 0)),
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_the_first_image_that_can_be_read_is_tried(make_model):
    images = [torch.full((1, 8, 8), float("nan")), torch.rand(1, 8, 8)]
    some = ImageSet([(image, 0) for image in images], ids=["a", "b"], class_names=["x", "y", "z"])
    assert check_fits(make_model(), some) == 3
    with pytest.raises(ValueError, match=r"none of the 1 images of data can be read, such as 'a'"):
        check_fits(make_model(), some.subset([0]))


def test_what_is_no_model_and_no_image_set(make_model):
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got function"):
        check_fits(lambda x: x, _images(1, 8, 8))
    with pytest.raises(TypeError, match=r"data must be an ImageSet, got list; wrap it"):
        check_fits(make_model(), [(torch.rand(1, 8, 8), 0)])
    with pytest.raises(ValueError, match="the model has no parameters"):
        check_fits(nn.Flatten(), _images(1, 8, 8))


def test_the_model_is_left_as_it_was(make_model):
    model = make_model(0.5).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    check_fits(model, _images(1, 8, 8))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_a_session_wants_a_name_for_each_output(tmp_path, make_model):
    with pytest.raises(ValueError, match="gives 3 logits, but data names 12 classes"):
        xf.Session(
            make_model(), _images(1, 8, 8, class_names=[f"class {i}" for i in range(12)]), tmp_path
        )
    assert list(tmp_path.iterdir()) == []
