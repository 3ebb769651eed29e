"""Bayesian networks: a Gaussian over every weight, and what the model believes because of it.

``layers`` holds the local reparameterisation, ``conversion`` makes any model Bayesian and back,
``posterior`` draws networks for predictions with uncertainty and for maps with spread, and
``networks`` has the two of the paper. What feedback does to them is in ``corrections``.
"""

from xfeedback_widgets.bayesian.conversion import (
    bayesian_layers,
    convert,
    is_bayesian,
    kl,
    to_deterministic,
)
from xfeedback_widgets.bayesian.layers import (
    BayesianConv1d,
    BayesianConv2d,
    BayesianLayer,
    BayesianLinear,
)
from xfeedback_widgets.bayesian.networks import alexnet, lenet
from xfeedback_widgets.bayesian.posterior import (
    PosteriorMaps,
    Prediction,
    draws,
    posterior_maps,
    predict,
)

__all__ = [
    "BayesianConv1d",
    "BayesianConv2d",
    "BayesianLayer",
    "BayesianLinear",
    "PosteriorMaps",
    "Prediction",
    "alexnet",
    "bayesian_layers",
    "convert",
    "draws",
    "is_bayesian",
    "kl",
    "lenet",
    "posterior_maps",
    "predict",
    "to_deterministic",
]
