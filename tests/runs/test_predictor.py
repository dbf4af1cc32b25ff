"""A recording's logits are the mean over its windows."""

import torch

from birdclf.data.dataset import Batch
from birdclf.features.mfcc import MFCCStack
from birdclf.models.audio_cnn import AudioCNN
from birdclf.runs.predictor import Predictor, mean_by_owner


def test_the_mean_is_over_the_windows_of_each_recording():
    owner = torch.tensor([0, 0, 0, 1])
    batch = Batch(torch.zeros(4, 1, 1), torch.zeros(2, dtype=torch.int64), torch.arange(2), owner)
    values = torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0], [7.0, 0.0]])
    assert torch.equal(mean_by_owner(values, batch), torch.tensor([[3.0, 2.0], [7.0, 0.0]]))


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
