"""A checkpoint as one module gives what its parts give one after the other."""

import numpy as np
import pytest
import torch

from birdclf.features.mfcc import MFCCStack
from birdclf.metrics.figures import log_softmax
from birdclf.models.audio_cnn import AudioCNN
from birdclf.posthoc.base import Adjustment
from birdclf.posthoc.energy import Energy, Rejection
from birdclf.posthoc.tau_norm import TauNormalised
from birdclf.runs.checkpoint import LoadedRun
from birdclf.runs.waveforms import WaveformClassifier, affine

CLASSES = ("a", "b", "c", "d")
PRIOR = (0.5, 0.25, 0.2, 0.05)
ADJUSTMENTS = [
    None,
    Adjustment(0.0, PRIOR),
    Adjustment(1.3, PRIOR),
    TauNormalised(0.7, (2.0, 1.0, 0.5, 0.0), (0.3, -1.0, 0.0, 2.0)),
    Rejection(-1e9, 0.95),
]


def loaded(adjustment=None, temperature: float | None = None) -> LoadedRun:
    torch.manual_seed(0)
    features = MFCCStack(window_s=0.5)
    features.fit([features.analyse_windows(0.1 * torch.randn(3, 16_000))])
    network = AudioCNN(num_classes=len(CLASSES), in_channels=3, width=0.1).eval()
    return LoadedRun(network, features, True, CLASSES, temperature, 1, {}, adjustment)


@pytest.mark.parametrize("adjustment", ADJUSTMENTS, ids=str)
@pytest.mark.parametrize("temperature", [None, 0.5, 3.0])
def test_every_adjustment_is_a_line_in_each_logit(adjustment, temperature):
    logits = np.random.default_rng(1).normal(0, 8, (50, len(CLASSES)))
    expected = (logits if adjustment is None else adjustment.apply(logits)) / (temperature or 1.0)
    scale, offset = affine(loaded(adjustment, temperature))
    np.testing.assert_allclose(logits * scale + offset, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("adjustment", ADJUSTMENTS, ids=str)
def test_sound_gives_what_features_network_and_adjustment_give(adjustment):
    run = loaded(adjustment, 2.0)
    sounds = 0.1 * torch.randn(5, 16_000)
    with torch.inference_mode():
        stored = torch.stack([run.features.analyse(sound).bands for sound in sounds])
        logits = run.predictor(stored).numpy()
        probabilities, embeddings = WaveformClassifier(run)(sounds)
        layer = [module for module in run.network.modules() if isinstance(module, torch.nn.Linear)][-1]
        from_embeddings = layer(embeddings)
    expected = logits if adjustment is None else adjustment.apply(logits)
    np.testing.assert_allclose(probabilities.numpy(), np.exp(log_softmax(expected / 2.0)), atol=1e-4)
    np.testing.assert_allclose(from_embeddings.numpy(), logits, rtol=1e-3, atol=1e-3)


def test_a_rejected_window_has_no_probability():
    sounds = torch.linspace(0.01, 0.5, 7)[:, None] * torch.randn(7, 16_000)
    with torch.inference_mode():
        run = loaded()
        logits = run.predictor(torch.stack([run.features.analyse(sound).bands for sound in sounds])).numpy()
        usual, vectors = WaveformClassifier(run)(sounds)
        rejection = Energy(0.5).fit(logits, [1] * 4, lambda logits: 0.0)
        probabilities, embeddings = WaveformClassifier(loaded(rejection))(sounds)
    rejected = rejection.rejects(logits)
    assert rejected.sum() == 3
    assert (probabilities[rejected] == 0).all()
    torch.testing.assert_close(probabilities[~rejected], usual[~rejected])
    torch.testing.assert_close(embeddings, vectors)


def test_a_batch_gives_what_each_window_gives():
    module = WaveformClassifier(loaded())
    sounds = 0.1 * torch.randn(4, 16_000)
    with torch.inference_mode():
        together, apart = module(sounds), [module(one) for one in sounds.split(1)]
    for whole, parts in zip(together, zip(*apart, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-4, atol=1e-5)
