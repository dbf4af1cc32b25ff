"""Pairs of recordings with several windows each, and chains on vectors, which have no bands."""

import numpy as np
import pytest
import torch
from batches import COUNTS, NAMES, NOW, built
from hypothesis import given
from hypothesis import strategies as st
from made_embedder import WIDTH, made_onnx

from birdclf.augment.augmentation import Augmentation, Bags, OnBands, OnPairs, OnPower, partners
from birdclf.augment.chain import Chain
from birdclf.augment.jitter import Jitter
from birdclf.augment.mixup import Mixup, Remix
from birdclf.augment.specaugment import SpecAugment
from birdclf.errors import UserError
from birdclf.features.embedders.embedder import Embedder

sizes_of_bags = st.lists(st.integers(1, 5), min_size=2, max_size=6)


def embedder() -> Embedder:
    return Embedder(str(made_onnx(800)), 8_000, 0.1)


def chain(*augmentations: Augmentation, batch_size: int = 8) -> Chain:
    return Chain({type(one).name: one for one in augmentations}, embedder(), COUNTS, 1, batch_size)


def owners(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def test_windows_are_paired_in_turn_worked_by_hand():
    """Recordings of windows 0 to 2, 3, and 4 to 5."""
    bags = Bags(np.array([0, 0, 0, 1, 2, 2]))
    windows, others, place = bags.paired(np.array([0, 1, 2]), np.array([2, 0, 1]))
    assert windows.tolist() == [0, 1, 2, 3, 4, 5]
    assert others.tolist() == [4, 5, 4, 0, 3, 3]  # the two of recording 2 in turn, the first of 0, the only one of 1
    assert place.tolist() == [0, 0, 0, 1, 2, 2]
    windows, others, place = bags.paired(np.array([0, 2]), np.array([1, 0]))
    assert windows.tolist() == [0, 1, 2, 4, 5] and others.tolist() == [3, 3, 3, 0, 1]
    assert place.tolist() == [0, 0, 0, 1, 1]


@given(sizes_of_bags, st.integers(0, 1000), st.data())
def test_a_window_is_paired_with_one_of_its_recordings_partner(sizes, seed, data):
    owner, count = owners(sizes), len(sizes)
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1))))
    partner = partners(count, np.random.default_rng(seed))[rows]
    windows, others, place = Bags(owner).paired(rows, partner)
    assert windows.tolist() == np.flatnonzero(np.isin(owner, rows)).tolist()
    assert (owner[windows] == rows[place]).all() and (owner[others] == partner[place]).all()
    for k, row in enumerate(rows):
        mine = others[place == k]
        assert len(set(mine.tolist())) == min(sizes[row], sizes[partner[k]])  # as many different ones as there are


@given(st.integers(2, 8), st.integers(0, 1000))
def test_bags_of_one_window_are_pairs_of_windows(count, seed):
    rows, partner = np.arange(count), partners(count, np.random.default_rng(seed))
    for one, other in zip(Bags().paired(rows, partner), Bags(np.arange(count)).paired(rows, partner), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("kind", [Mixup, Remix])
@given(sizes_of_bags, st.integers(0, 1000))
def test_all_windows_of_a_recording_are_mixed_by_one_share(kind, sizes, seed):
    """Each vector is the one-hot of its recording, so that a mixed one says of what it was made, and by which share."""
    owner, count = owners(sizes), len(sizes)
    x, rows = torch.eye(count)[owner], np.arange(count)
    before = x.clone()
    link = kind(alpha=1.0)
    link.bind(embedder(), torch.full((count,), 10))
    mixed, y = link(x, torch.arange(count), rows, np.random.default_rng(seed), Bags(owner))
    assert torch.equal(x, before)
    # Classes are recordings here and equally frequent: the label is mixed as the vectors are.
    torch.testing.assert_close(mixed, y[torch.from_numpy(owner)])
    torch.testing.assert_close(y.sum(dim=1), torch.ones(count))


def test_in_a_chain_windows_of_recordings_that_are_not_mixed_stay_as_they_are():
    sizes = [3, 1, 2, 4] * 10
    owner, features = owners(sizes), embedder()
    bands = torch.randn(len(owner), WIDTH, 1, generator=torch.Generator().manual_seed(0))
    target = torch.arange(40) % 5
    x, y = chain(Mixup(p=0.5, alpha=1.0))(bands, target, features, NOW, torch.from_numpy(owner))
    assert x.shape == (len(owner), WIDTH) and y.shape == (40, 5)
    same = torch.from_numpy(np.array([bool((x == features(bands))[owner == n].all()) for n in range(40)]))
    assert 8 < same.sum() < 32
    assert torch.equal(y[same], torch.nn.functional.one_hot(target, 5).float()[same])
    alone, _ = chain(Mixup(p=0.5, alpha=1.0))(bands[:40], target, features, NOW)
    again, _ = chain(Mixup(p=0.5, alpha=1.0))(bands[:40], target, features, NOW, torch.arange(40))
    assert torch.equal(alone, again)


def test_a_batch_of_one_recording_is_not_mixed_however_many_windows_it_has():
    features, bands = embedder(), torch.randn(4, WIDTH, 1)
    x, y = chain(Mixup(), Jitter(p=0.0))(bands, torch.tensor([2]), features, NOW, torch.zeros(4, dtype=torch.int64))
    assert torch.equal(x, features(bands)) and y.tolist() == [[0.0, 0.0, 1.0, 0.0, 0.0]]


def on_vectors(name: str) -> bool:
    return not isinstance(built(name), OnBands | OnPower | SpecAugment)


@pytest.mark.parametrize("name", [name for name in NAMES if on_vectors(name)])
def test_what_acts_on_vectors_changes_them(name: str):
    features, bands = embedder(), torch.randn(6, WIDTH, 1)
    owner = torch.tensor([0, 0, 1, 2, 2, 2])
    x, y = chain(built(name, p=1.0))(bands, torch.tensor([0, 1, 4]), features, NOW, owner)
    assert x.shape == (6, WIDTH) and x.isfinite().all() and (x != features(bands)).any(dim=1).all()
    assert y.shape == ((3, 5) if isinstance(built(name), OnPairs) else (3,))


@pytest.mark.parametrize("name", [name for name in NAMES if not on_vectors(name)])
def test_what_needs_time_and_frequency_is_refused_for_vectors(name: str):
    with pytest.raises(UserError, match=rf"augment\.{name} .*Remove {name} from augment; mixup, remix and jitter"):
        chain(built(name))
