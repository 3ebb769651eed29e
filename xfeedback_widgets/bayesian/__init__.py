"""Bayesian networks: a Gaussian over every weight, and what the model believes because of it.

``layers`` holds the local reparameterisation, ``conversion`` makes any model Bayesian and back,
``posterior`` draws networks for predictions with uncertainty and for maps with spread, ``experience`` says
what an uncertainty has meant so far, ``asking`` which image to ask about next, and ``networks`` has the two
networks of the paper. What feedback does to them is in ``corrections``.
"""

from xfeedback_widgets.bayesian.asking import ASKING, overlap_with, worth_asking
from xfeedback_widgets.bayesian.conversion import (
    bayesian_layers,
    convert,
    is_bayesian,
    kl,
    to_deterministic,
)
from xfeedback_widgets.bayesian.experience import Experience
from xfeedback_widgets.bayesian.layers import (
    BayesianConv1d,
    BayesianConv2d,
    BayesianLayer,
    BayesianLinear,
)
from xfeedback_widgets.bayesian.networks import alexnet, lenet
from xfeedback_widgets.bayesian.posterior import (
    Beliefs,
    DrawsStoppedError,
    PosteriorMaps,
    Prediction,
    beliefs,
    draws,
    posterior_maps,
    predict,
)

__all__ = [
    "ASKING",
    "BayesianConv1d",
    "BayesianConv2d",
    "BayesianLayer",
    "BayesianLinear",
    "Beliefs",
    "DrawsStoppedError",
    "Experience",
    "PosteriorMaps",
    "Prediction",
    "alexnet",
    "bayesian_layers",
    "beliefs",
    "convert",
    "draws",
    "is_bayesian",
    "kl",
    "lenet",
    "overlap_with",
    "posterior_maps",
    "predict",
    "to_deterministic",
    "worth_asking",
]
