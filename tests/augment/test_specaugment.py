"""Masks: their widths, places, fill and limits."""

import numpy as np
import pytest
import torch
from batches import EXACT, NOW, batch, built, chain
from hypothesis import given
from hypothesis import strategies as st

from birdclf.augment.chain import BatchPosition
from birdclf.augment.specaugment import SpecAugment
from birdclf.errors import UserError
from birdclf.features.ast import AstFilterbank
from birdclf.features.mfcc import MFCCStack

FRAMES_A_S = 100


def masked(
    link: SpecAugment, size: int = 64, features: MFCCStack = EXACT, position: BatchPosition = NOW
) -> torch.Tensor:
    """Return which values became 0, ``(B, C, F, T)``; none is so before."""
    link.bind(features, torch.ones(2))
    x = torch.ones(size, 2, features.n_bands if link.freq_masks else 1, features.frames)
    return link(x, np.arange(size), np.random.default_rng([position.epoch, position.batch])) == 0


@given(
    masks=st.integers(0, 4),
    width_s=st.floats(0.01, 1.0),
    share=st.floats(0.01, 1.0),
    freq_masks=st.integers(1, 3),
    freq_width=st.floats(0.02, 1.0),
    batch_number=st.integers(0, 1000),
)
def test_no_mask_is_wider_than_it_may_be(masks, width_s, share, freq_masks, freq_width, batch_number):
    of_time = (width_s, share) if masks else (None, None)
    link = SpecAugment(1.0, masks, *of_time, freq_masks, freq_width)
    hidden = masked(link, 8, position=BatchPosition(0, batch_number))
    assert (hidden == hidden[:, :1]).all(), "another mask in another channel"
    over_time, over_freq = hidden[:, 0].all(dim=1), hidden[:, 0].all(dim=2)
    # Whatever is hidden is so as a whole row or column.
    assert torch.equal(hidden[:, 0], over_time[:, None, :] | over_freq[:, :, None])
    if not over_freq.all(dim=1).any():
        most = min(masks * round(width_s * FRAMES_A_S), int(share * EXACT.frames))
        assert over_time.sum(dim=1).max() <= most
    if not over_time.all(dim=1).any():
        assert over_freq.sum(dim=1).max() <= freq_masks * round(freq_width * EXACT.n_bands)


def widths(hidden: torch.Tensor) -> torch.Tensor:
    return hidden.sum(dim=1)


def test_widths_are_uniform_and_places_too():
    """With one mask: width on 0..W, start on 0..T - width (Park et al., 2019, section 2)."""
    hidden = masked(SpecAugment(1.0, 1, 0.2, 1.0, 0), 4000)[:, 0].all(dim=1)
    count = torch.bincount(widths(hidden), minlength=21)
    assert len(count) == 21
    expected = 4000 / 21
    assert float(((count - expected) ** 2 / expected).sum()) < 45.3  # chi-squared, 20 degrees, 0.1 %
    wide = hidden[widths(hidden) > 0]
    start = wide.float().argmax(dim=1).double()
    room = EXACT.frames - widths(wide)
    assert float((start / room).mean()) == pytest.approx(0.5, abs=0.02)
    assert start.min() < 3 and (start + widths(wide)).max() > EXACT.frames - 3
    last = EXACT.frames - wide.flip(1).float().argmax(dim=1)
    assert torch.equal(last - start.long(), widths(wide)), "a mask with a hole"


def test_masks_together_cover_the_share_at_most():
    link = SpecAugment(1.0, time_masks=10, time_width_s=0.4, max_time_share=0.2, freq_masks=0)
    covered = widths(masked(link, 500)[:, 0].all(dim=1)).double() / EXACT.frames
    assert covered.max() <= 0.2 and covered.mean() > 0.1


def test_what_is_masked_is_the_train_mean():
    features = MFCCStack(window_s=1.0, n_mels=64, n_mfcc=64)
    bands, target = batch()
    features.fit([bands])
    x, _ = chain(built("specaugment", p=1.0, freq_masks=0), features=features)(bands, target, features, NOW)
    back = x * features.std + features.mean
    hidden = (x == 0).all(dim=(1, 2))[:, None, None, :].expand_as(x)
    assert hidden.any()
    assert torch.equal(back[hidden], features.mean.expand_as(x)[hidden])
    assert torch.equal(x[~hidden], features(bands)[~hidden])


def test_each_window_has_masks_of_its_own():
    hidden = masked(built("specaugment"), 8).flatten(1)
    assert len({tuple(row.nonzero().flatten().tolist()) for row in hidden}) == 8


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"time_masks": -1}, "augment.specaugment.time_masks is -1"),
        ({"time_masks": 0.5}, "a whole number"),
        ({"time_masks": 0, "freq_masks": 0}, "1 or more where freq_masks is 0"),
        ({"time_width_s": 0.001}, "from a frame of 0.01 s"),
        ({"time_width_s": 1.1}, "the window of 1 s"),
        ({"max_time_share": 1.5}, "between 0 and 1"),
        ({"max_time_share": 0.001}, "1/100 or more"),
        ({"freq_width": 0.005}, "1/64 or more"),
        ({"freq_width": float("nan")}, "freq_width is nan"),
        ({"p": 1.1}, "augment.specaugment.p is 1.1; it must be a number between 0 and 1"),
    ],
)
def test_what_is_refused(settings, said):
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        chain(SpecAugment(**settings))


def test_where_features_are_normalised_by_other_data_the_fill_is_the_train_mean_all_the_same():
    features, rng = AstFilterbank(window_s=1.0, n_mels=20), np.random.default_rng(0)
    bands = torch.randn(8, 20, features.frames) + torch.linspace(-9, 3, 20)[:, None]
    features.fit([bands[:4], bands[4:]])
    link = SpecAugment(1.0, freq_masks=3, freq_width=0.5)
    link.bind(features, torch.ones(2))
    x = features(bands)
    masked = link(x, np.arange(8), rng)
    expected = ((bands.mean(dim=(0, 2)) - features.mean[0, :, 0]) / features.std[0, :, 0])[None, None, :, None]
    hidden = masked != x
    assert 0.05 < float(hidden.float().mean()) < 0.95
    torch.testing.assert_close(masked[hidden], expected.expand_as(x)[hidden])
