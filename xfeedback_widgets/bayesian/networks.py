"""The two networks of the paper, Bayesian from the start (Bekkemoen & Langseth, arXiv 2105.02653)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from xfeedback_widgets.bayesian.conversion import convert
from xfeedback_widgets.bayesian.layers import PRIOR_STD, RHO


def lenet(
    classes: int = 10, channels: int = 1, *, prior_std: float = PRIOR_STD, rho: float = RHO
) -> nn.Module:
    """LeNet-5 for images of 28 × 28 pixels, with rectifiers and max pooling.

    Parameters
    ----------
    classes, channels
        Outputs, and channels of the images.
    prior_std, rho
        As for :func:`~xfeedback_widgets.bayesian.convert`.

    Returns
    -------
    nn.Module
        Its maps before the last rectifier of the convolutions are ``[N, 16, 8, 8]``.
    """
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(channels, 6, 5),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(6, 16, 5),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(16 * 4 * 4, 120),
        "relu3": nn.ReLU(),
        "fc2": nn.Linear(120, 84),
        "relu4": nn.ReLU(),
        "fc3": nn.Linear(84, classes),
    }
    return convert(nn.Sequential(OrderedDict(layers)), prior_std=prior_std, rho=rho)


def alexnet(
    classes: int = 2, channels: int = 3, *, prior_std: float = PRIOR_STD, rho: float = RHO
) -> nn.Module:
    """AlexNet with batch normalisation after each convolution, for photographs of 224 × 224 pixels.

    Parameters
    ----------
    classes, channels, prior_std, rho
        As for :func:`lenet`.

    Returns
    -------
    nn.Module
        114 million parameters with two classes, half of them standard deviations.
    """

    def block(
        inputs: int, outputs: int, size: int, *, padding: int, stride: int = 1
    ) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=padding)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    features = nn.Sequential(
        *block(channels, 64, 11, stride=4, padding=2),
        nn.MaxPool2d(3, 2),
        *block(64, 192, 5, padding=2),
        nn.MaxPool2d(3, 2),
        *block(192, 384, 3, padding=1),
        *block(384, 256, 3, padding=1),
        *block(256, 256, 3, padding=1),
        nn.MaxPool2d(3, 2),
    )
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Linear(256 * 6 * 6, 4096),
        nn.ReLU(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, classes),
    )
    model = nn.Sequential(OrderedDict(features=features, head=head))
    return convert(model, prior_std=prior_std, rho=rho)
