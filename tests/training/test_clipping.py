"""Gradients are clipped by their norm, which is noted as it was before."""

from functools import partial

import pytest
import torch

from birdclf.features.mfcc import MFCCStack
from birdclf.models.audio_cnn import AudioCNN
from birdclf.training.module import SpeciesClassifier


@pytest.mark.parametrize(("limit", "clipped"), [(0.5, 0.5), (100.0, 3.0), (None, 3.0)])
def test_the_norm_is_at_most_the_limit_and_noted_as_it_was(limit: float | None, clipped: float):
    classifier = SpeciesClassifier(
        network=AudioCNN(num_classes=2, in_channels=3, width=0.1), loss=torch.nn.CrossEntropyLoss(),
        features=MFCCStack(window_s=0.5), classes=("a", "b"), optimizer=partial(torch.optim.SGD, lr=0.1),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer), monitor="val/accuracy",
    )  # fmt: skip
    parameters = [p for p in classifier.parameters() if p.requires_grad]
    size = sum(p.numel() for p in parameters)
    for p in parameters:
        p.grad = torch.full_like(p, 3.0 / size**0.5)
    classifier.configure_gradient_clipping(torch.optim.SGD(parameters, lr=0.1), limit, "norm")
    norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in parameters]))
    assert float(norm) == pytest.approx(clipped, rel=1e-4)
    assert float(classifier.train_metrics.norm) == pytest.approx(3.0, rel=1e-4)
