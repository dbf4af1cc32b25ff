"""Statistics of batch norms, measured anew."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from birdclf.models.norm_statistics import batch_norms, measuring


def network() -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.9), nn.BatchNorm1d(3, track_running_stats=False))


@given(st.lists(st.integers(2, 9), min_size=1, max_size=5), st.booleans())
def test_the_mean_is_over_recordings_however_they_are_batched(sizes: list[int], training: bool):
    module = network().train(training)
    (norm,) = batch_norms(module)
    norm.running_mean.fill_(100)
    batches = [torch.randn(size, 3) for size in sizes]
    with measuring(module, [norm]) as weigh, torch.no_grad():
        assert norm.training and not module[1].training
        for batch in batches:
            weigh(len(batch))
            module(batch)
    assert torch.allclose(norm.running_mean, torch.cat(batches).mean(0), atol=1e-5)
    spread = sum(batch.var(0) * len(batch) for batch in batches) / sum(sizes)
    assert torch.allclose(norm.running_var, spread, atol=1e-5)
    assert norm.momentum == 0.1 and all(layer.training is training for layer in module.modules())


def test_what_is_not_asked_for_stays_and_modes_come_back_after_an_error():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3)).train()
    kept, norm = batch_norms(module)
    kept.eval()
    with pytest.raises(KeyError), measuring(module, [norm]) as weigh:
        weigh(4)
        module(torch.randn(4, 3) + 5)
        raise KeyError
    assert kept.running_mean.eq(0).all() and norm.running_mean.gt(3).all() and norm.momentum == 0.1
    assert [layer.training for layer in (module, kept, norm)] == [True, False, True]
