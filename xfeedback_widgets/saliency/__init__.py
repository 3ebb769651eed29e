"""What the model looks at: the CAM family, Captum's pixel methods, target layers, map arithmetic.

Every method has ``explain(images, targets)``. Judging the maps belongs to the user, and training on
them to the corrections.
"""

from xfeedback_widgets.saliency.base import SaliencyMethod
from xfeedback_widgets.saliency.deeplift import DeepLift
from xfeedback_widgets.saliency.gradcam import CentredGradCAM, GradCAM
from xfeedback_widgets.saliency.gradcam_plus_plus import GradCAMPlusPlus, SmoothGradCAMPlusPlus
from xfeedback_widgets.saliency.layers import NoSpatialLayerError, TargetLayer, find_target_layer
from xfeedback_widgets.saliency.maps import is_empty, normalize, threshold, upsample
from xfeedback_widgets.saliency.pixels import IntegratedGradients, Occlusion, Saliency
from xfeedback_widgets.saliency.registry import METHODS, create

__all__ = [
    "METHODS",
    "CentredGradCAM",
    "DeepLift",
    "GradCAM",
    "GradCAMPlusPlus",
    "IntegratedGradients",
    "NoSpatialLayerError",
    "Occlusion",
    "Saliency",
    "SaliencyMethod",
    "SmoothGradCAMPlusPlus",
    "TargetLayer",
    "create",
    "find_target_layer",
    "is_empty",
    "normalize",
    "threshold",
    "upsample",
]
