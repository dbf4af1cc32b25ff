"""Which moments of a window spoke for a class."""

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.nn import functional

from birdclf.training.predictor import Predictor


def class_activation(predictor: Predictor, bands: Tensor, target: int) -> Tensor | None:
    """Return gradient-weighted class activation over time (Grad-CAM, Selvaraju et al., 2017, equations 1 and 2).

    The map of the last convolution is averaged over the bands: cepstral coefficients have no place on a frequency axis,
    and a strip over time is the same to read for every representation.

    Args:
        predictor: In evaluation mode.
        bands: ``(1, F, T)`` stored features of a window.
        target: Class.

    Returns:
        ``(T,)`` from 0 to 1, all 0 where nothing speaks for the class; None for a network without convolution.
    """
    convolutions = [layer for layer in predictor.network.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions:
        return None
    with torch.enable_grad():
        features = predictor.features(bands).requires_grad_()
        cam = LayerGradCam(predictor.network, convolutions[-1])
        activation: Tensor = cam.attribute(features, target=target, relu_attributions=True).detach()  # (1, 1, f, t)
    over_time = functional.interpolate(activation.mean(dim=2), size=bands.shape[-1], mode="linear")[0, 0]
    return over_time / over_time.max().clamp_min(1e-12)
