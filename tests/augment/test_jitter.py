"""Jitter: white noise of a given deviation on normalised features, whatever their shape."""

import numpy as np
import pytest
import torch
from batches import EXACT, NOW, batch, chain
from hypothesis import given
from hypothesis import strategies as st

from birdclf.augment.jitter import Jitter
from birdclf.errors import UserError


@pytest.mark.parametrize("std", [0.1, 0.3, 2.0])
@pytest.mark.parametrize("shape", [(400, 50), (20, 3, 10, 40)])
def test_noise_is_white_and_of_the_deviation_it_says(std: float, shape: tuple[int, ...]):
    noise = Jitter(std=std)(torch.zeros(shape), np.arange(shape[0]), np.random.default_rng(0)).flatten(1)
    assert float(noise.mean()) == pytest.approx(0.0, abs=4 * std / noise.numel() ** 0.5)
    assert float(noise.std()) == pytest.approx(std, rel=4 / (2 * noise.numel()) ** 0.5)
    neighbours = (noise[:, 1:] * noise[:, :-1]).mean() / std**2
    windows = (noise[1:] * noise[:-1]).mean() / std**2
    assert abs(float(neighbours)) < 0.04 and abs(float(windows)) < 0.04


@given(st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True), st.integers(0, 100))
def test_a_row_gets_the_same_noise_whichever_others_do(rows, seed):
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(seed))
    before, rows = x.clone(), np.array(sorted(rows))
    whole = Jitter()(x, np.arange(12), np.random.default_rng(seed))
    some = Jitter()(x, rows, np.random.default_rng(seed))
    assert torch.equal(x, before)
    assert torch.equal(some[rows], whole[rows])
    others = np.setdiff1d(np.arange(12), rows)
    assert torch.equal(some[others], x[others])


def test_in_a_chain_each_value_of_a_window_is_moved():
    bands, target = batch()
    x, y = chain(Jitter(std=0.3))(bands, target, EXACT, NOW)
    moved = x - EXACT(bands)
    assert float(moved.std()) == pytest.approx(0.3, rel=0.02) and (moved != 0).float().mean() > 0.999
    assert torch.equal(y, target)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"std": 0.0}, r"augment\.jitter\.std is 0\.0; it must be above 0"),
        ({"std": -1.0}, r"augment\.jitter\.std is -1"),
        ({"std": "much"}, r"augment\.jitter\.std is 'much'"),
        ({"p": 1.5}, r"augment\.jitter\.p is 1\.5"),
    ],
)
def test_what_is_refused(settings, said):
    with pytest.raises(UserError, match=said):
        Jitter(**settings)
