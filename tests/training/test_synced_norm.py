"""Batch norm over several processes; that it takes their batch together is tested where processes train together."""

import copy

import pytest
import torch
from torch import nn

from birdclf.models.audio_cnn import AudioCNN
from birdclf.training.synced_norm import SyncedBatchNorm, sync_batch_norms


def test_a_network_keeps_its_names_and_in_one_process_its_outputs():
    torch.manual_seed(1)
    network = AudioCNN(5, width=0.1, dropout=0.0)
    synced = sync_batch_norms(copy.deepcopy(network), torch.device("cpu"))
    assert list(synced.state_dict()) == list(network.state_dict())
    assert sum(isinstance(layer, SyncedBatchNorm) for layer in synced.modules()) == 6
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in synced.modules())
    x = torch.randn(4, 3, 20, 30)
    for training in (True, False):
        torch.testing.assert_close(synced.train(training)(x), network.train(training)(x), rtol=0, atol=0)
    for ours, theirs in zip(synced.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3, momentum=None)])
def test_its_own_arithmetic_is_batch_norms(norm: nn.BatchNorm2d, monkeypatch: pytest.MonkeyPatch):
    """Two processes that hold the same half: sums double, and so do the counts."""
    synced = SyncedBatchNorm.of(copy.deepcopy(norm))
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("birdclf.training.synced_norm._sum_of_all", lambda values: 2 * values)
    half = 3 + 2 * torch.randn(4, 3, 5, 6)
    for _ in range(2):
        whole = norm(torch.cat([half, half]))
        torch.testing.assert_close(synced(half), whole[:4], rtol=1e-5, atol=1e-5)
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(synced.state_dict()[name], value, rtol=1e-5, atol=1e-6)
