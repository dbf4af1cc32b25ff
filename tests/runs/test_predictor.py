"""A recording's logits are pooled over its windows: the mean, or what a probe says."""

import pytest
import torch
from made_embedder import WIDTH, made_onnx

from birdclf.data.dataset import Batch
from birdclf.features.embedders.embedder import Embedder
from birdclf.features.mfcc import MFCCStack
from birdclf.models.audio_cnn import AudioCNN
from birdclf.models.probes import LinearProbe
from birdclf.runs.predictor import Predictor


def test_logits_of_several_windows_are_averaged_and_one_window_is_itself():
    torch.manual_seed(0)
    features = MFCCStack(window_s=0.5)
    predictor = Predictor(AudioCNN(num_classes=3, in_channels=3, width=0.1), features).eval()
    bands = torch.randn(3, features.n_bands, features.frames)
    with torch.no_grad():
        each = predictor(bands)
        two = Batch(bands, torch.zeros(2, dtype=torch.int64), torch.arange(2), torch.tensor([0, 0, 1]))
        found = predictor.recording_logits(two)
    torch.testing.assert_close(found, torch.stack([each[:2].mean(dim=0), each[2]]))


@pytest.mark.parametrize("pool", ["mean", "max", "log_mean_exp", "attention"])
def test_logits_of_a_probe_are_pooled_as_it_says_and_one_window_is_itself(pool: str):
    torch.manual_seed(0)
    features = Embedder(str(made_onnx(800)), 8_000, 0.1)
    probe = LinearProbe(3, in_channels=WIDTH, pool=pool)
    predictor = Predictor(probe, features).eval()
    vectors = torch.randn(5, WIDTH, 1)
    owner = torch.tensor([0, 0, 0, 1, 2])
    with torch.no_grad():
        each = predictor(vectors)
        found = predictor.recording_logits(Batch(vectors, torch.zeros(3, dtype=torch.int64), torch.arange(3), owner))
        expected = probe.pool_windows(each, features(vectors), owner, 3)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(found[1:], each[3:])
        alone = Batch(vectors[3:], torch.zeros(2, dtype=torch.int64), torch.arange(2), torch.arange(2))
        torch.testing.assert_close(predictor.recording_logits(alone), each[3:])
