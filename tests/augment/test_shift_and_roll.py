"""Shift and roll move frames, and the gap holds what was asked for."""

import numpy as np
import pytest
import torch
from batches import COUNTS, EXACT, batch, chain
from hypothesis import given
from hypothesis import strategies as st

from birdclf.augment.shift import FILLS, Roll, Shift
from birdclf.errors import UserError


def moved(link, bands: torch.Tensor, seed: int = 3) -> torch.Tensor:
    link.bind(EXACT, COUNTS)
    return link(bands, np.arange(len(bands)), np.random.default_rng(seed), EXACT)


@given(fill=st.sampled_from(FILLS), max_s=st.floats(0.01, 0.99), seed=st.integers(0, 100))
def test_frames_move_by_one_number_and_the_gap_is_filled(fill, max_s, seed):
    most = round(max_s * 100)
    bands = batch(4)[0].float()
    out = moved(Shift(1.0, most / 100, fill), bands, seed)
    by = np.random.default_rng(seed).integers(-most, most + 1, 4)
    quiet = EXACT.to_db(bands).amax(dim=(1, 2)) - 80
    for row, shifted, d, db in zip(bands, out, by, quiet, strict=True):
        kept = slice(max(d, 0), 100 + min(d, 0))
        assert torch.equal(shifted[:, kept], row[:, max(-d, 0) : 100 - max(d, 0)])
        gap = shifted[:, :d] if d > 0 else shifted[:, 100 + d :]
        if not d:
            continue
        if fill == "silence":
            torch.testing.assert_close(EXACT.to_db(gap), db.expand(64, abs(d)), atol=1e-3, rtol=1e-4)
        elif fill == "edge":
            assert torch.equal(gap, (row[:, :1] if d > 0 else row[:, -1:]).expand_as(gap))
        else:
            assert torch.equal(gap, row[:, :d].flip(1) if d > 0 else row[:, d:].flip(1))


def test_a_shift_reaches_its_limit_both_ways_and_not_further():
    bands = torch.arange(100.0).expand(3000, 2, 100).contiguous()
    out = moved(Shift(1.0, 0.2, "edge"), bands)
    by = (bands - out)[:, 0, 50]
    assert set(by.tolist()) == set(range(-20, 21))


@given(st.integers(0, 100))
def test_a_roll_loses_no_frame(seed):
    bands = batch(4)[0].float()
    out = moved(Roll(1.0), bands, seed)
    by = np.random.default_rng(seed).integers(0, 100, 4)
    assert all(torch.equal(o, torch.roll(b, int(d), 1)) for o, b, d in zip(out, bands, by, strict=True))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_s": 0.001}, "augment.shift.max_s is 0.001; it must be from a frame of 0.01 s"),
        ({"max_s": 1.0}, "less than the window of 1 s"),
        ({"fill": "wrap"}, "fill is 'wrap'; it must be one of silence, edge, mirror"),
        ({"p": -0.1}, "augment.shift.p"),
    ],
)
def test_what_is_refused(settings, said):
    with pytest.raises(UserError, match=said):
        chain(Shift(**settings))
