import pytest
import torch
from torch import nn

from birdclf.features.mfcc import MFCCStack
from birdclf.models.audio_cnn import AudioCNN
from birdclf.report.sections.gallery import class_activation
from birdclf.runs.predictor import Predictor


class FirstBand(nn.Module):
    """Logits of two classes: the mean of the positive, and of the negative, part of the first channel's first band."""

    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.Conv2d(1, 2, 1, bias=False)
        self.halves.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.halves(features[:, :1, :1]).relu().mean(dim=(2, 3))


def stack() -> MFCCStack:
    return MFCCStack(window_s=1.0)


def window(burst: slice, value: float) -> torch.Tensor:
    bands = torch.zeros(1, 20, 100)
    bands[0, 0, burst] = value
    return bands


def test_the_moments_of_a_class_are_bright():
    predictor = Predictor(FirstBand(), stack()).eval()
    loud = class_activation(predictor, window(slice(30, 50), 4.0), target=0)
    assert loud is not None and loud.shape == (100,)
    assert loud.max() == 1 and (loud[30:50] == 1).all() and (loud[:30] == 0).all() and (loud[50:] == 0).all()
    quiet = class_activation(predictor, window(slice(60, 70), -4.0), target=1)
    assert quiet is not None and quiet.argmax() in range(60, 70) and quiet[:60].sum() == 0


def test_a_class_without_evidence_has_no_activation():
    predictor = Predictor(FirstBand(), stack()).eval()
    activation = class_activation(predictor, window(slice(30, 50), 4.0), target=1)
    assert activation is not None and activation.abs().sum() == 0


@pytest.mark.parametrize("width", [0.1, 0.3])
def test_it_works_on_a_real_network_and_leaves_no_gradient(width):
    torch.manual_seed(0)
    network = AudioCNN(3, width=width)
    predictor = Predictor(network, stack()).eval()
    with torch.no_grad():
        activation = class_activation(predictor, torch.randn(1, 20, 100), target=2)
    assert activation is not None and activation.shape == (100,)
    assert activation.min() >= 0 and activation.max() <= 1 and not activation.requires_grad
    assert all(p.grad is None for p in network.parameters())


def test_a_network_without_convolution_has_none():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 100, 3))
    assert class_activation(Predictor(network, stack()).eval(), torch.randn(1, 20, 100), target=0) is None
