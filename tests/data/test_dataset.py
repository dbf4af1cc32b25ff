import numpy as np
import pytest
import torch

from birdclf.data.dataset import DrawSampler, WindowDataset, as_fetched, cut

LENGTHS = [500, 901, 1200, 2750]
ROWS = np.array([3, 0, 2])
TARGET = np.array([7, 5, 6])
POLICIES = ["random", "first", "center", "loudest", "all", "bag"]
ONE_WINDOW = POLICIES[:4]


def frame_numbers(bands: torch.Tensor) -> np.ndarray:
    """Return which frame of the store each column of ``(W, 2, T)`` is."""
    return (bands[:, 0].double() * 1000 + bands[:, 1].double()).numpy().astype(int)


@pytest.fixture
def make(numbered_store):
    store = numbered_store(LENGTHS)
    return lambda policy, seed=1, apart=False: WindowDataset(store, ROWS, TARGET, policy, 500, seed, apart)


def test_cut_slices_packed_frames():
    packed = np.arange(40, dtype=np.float16).reshape(20, 2)
    windows = cut(packed, np.array([3, 0, 15]), 5)
    assert windows.shape == (3, 2, 5) and windows.dtype == torch.float16
    for window, start in zip(windows, (3, 0, 15), strict=True):
        np.testing.assert_array_equal(window.numpy(), packed[start : start + 5].T)


@pytest.mark.parametrize("policy", POLICIES)
def test_windows_are_whole_stretches_of_their_recording(make, policy):
    dataset = make(policy)
    assert len(dataset) == 3
    batch = dataset.__getitems__([2, 0, 1, 0])
    assert batch.target.tolist() == [6, 7, 5, 7] and batch.target.dtype == torch.int64
    assert batch.recording.tolist() == [2, 3, 0, 3]
    assert batch.bands.shape[1:] == (2, 500) and batch.bands.dtype == torch.float16
    assert len(batch.owner) == len(batch.bands)
    offset = np.cumsum([0, *LENGTHS])
    numbers = frame_numbers(batch.bands)
    assert (np.diff(numbers, axis=1) == 1).all()
    row = batch.recording[batch.owner].numpy()
    assert (numbers[:, 0] >= offset[row]).all() and (numbers[:, -1] < offset[row + 1]).all()


def test_all_gives_every_window_with_its_owner(make):
    batch = make("all").__getitems__([0, 1, 2])
    assert batch.owner.tolist() == [0] * 6 + [1] + [2] * 3
    assert batch.bands.shape == (10, 2, 500)
    first = frame_numbers(batch.bands)[:, 0].tolist()
    assert first == [2601, 3101, 3601, 4101, 4601, 4851, 0, 1401, 1901, 2101]


def test_apart_every_window_is_an_item_of_its_own(make):
    dataset, together = make("all", apart=True), make("all").__getitems__([0, 1, 2])
    assert len(dataset) == 10
    batch = dataset.__getitems__(list(range(10)))
    assert torch.equal(batch.bands, together.bands)
    assert batch.owner.tolist() == list(range(10))
    assert batch.recording.tolist() == [3] * 6 + [0] + [2] * 3
    assert batch.target.tolist() == dataset.target.tolist() == [7] * 6 + [5] + [6] * 3


@pytest.mark.parametrize("apart", [True, False])
def test_a_bag_is_a_recording_with_all_its_windows(make, apart):
    bag, together = make("bag", apart=apart), make("all")
    assert len(bag) == 3 and not bag.apart
    for one, other in zip(bag.__getitems__([2, 0, 1]), together.__getitems__([2, 0, 1]), strict=True):
        assert torch.equal(one, other)
    again = bag.__getitems__([5, 12, 3])  # draws of later epochs are of the same recordings
    assert again.target.tolist() == [6, 7, 7]
    assert torch.equal(again.owner.bincount(), torch.tensor([3, 6, 6]))


def test_apart_a_draw_of_a_later_epoch_is_the_same_window(make):
    dataset = make("all", apart=True)
    first, later = dataset.__getitems__([9, 0, 6]), dataset.__getitems__([39, 10, 26])
    assert torch.equal(first.bands, later.bands) and torch.equal(first.recording, later.recording)
    assert frame_numbers(first.bands)[:, 0].tolist() == [2101, 2601, 0]


@pytest.mark.parametrize("policy", ONE_WINDOW)
def test_one_window_a_recording_is_the_same_apart_or_not(make, policy):
    one, other = (make(policy, apart=apart).__getitems__([2, 0, 1]) for apart in (True, False))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_batch_equals_its_items(make, policy):
    dataset = make(policy)
    indices = [4, 2, 9, 2] if policy == "random" else [1, 2, 0, 2]
    batch, items = dataset.__getitems__(indices), [dataset[i] for i in indices]
    assert torch.equal(batch.bands, torch.cat([item.bands for item in items]))
    assert torch.equal(batch.target, torch.cat([item.target for item in items]))
    assert torch.equal(batch.recording, torch.cat([item.recording for item in items]))
    assert torch.equal(batch.owner, torch.cat([item.owner + i for i, item in enumerate(items)]))


def test_random_windows_change_with_epoch_and_seed_only(make):
    one, again, other = make("random"), make("random"), make("random", seed=2)
    starts = [frame_numbers(one.__getitems__([3 * e, 3 * e + 2]).bands)[:, 0].tolist() for e in range(4)]
    assert len({tuple(s) for s in starts}) == 4
    assert frame_numbers(again.__getitems__([9, 11]).bands)[:, 0].tolist() == starts[3]
    assert frame_numbers(other.__getitems__([0, 2]).bands)[:, 0].tolist() != starts[0]
    assert one.__getitems__([0, 4, 8]).target.tolist() == TARGET.tolist()  # draw d is recording d % n


def test_fixed_windows_do_not_depend_on_the_seed(make):
    for policy in POLICIES[1:]:
        one, two = make(policy, seed=1).__getitems__([0, 1, 2]), make(policy, seed=2).__getitems__([0, 1, 2])
        assert torch.equal(one.bands, two.bands)


def test_every_epoch_is_a_permutation_named_by_draw():
    sampler = DrawSampler(17, seed=1)
    assert len(sampler) == 17
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        draws = np.array(list(sampler))
        assert sorted(draws) == list(range(17 * epoch, 17 * (epoch + 1)))
        orders.append(tuple(draws % 17))
        assert tuple(np.array(list(sampler)) % 17) == orders[-1]  # asked twice, the same
    assert len(set(orders)) == 3


def test_the_order_follows_the_seed():
    assert list(DrawSampler(50, seed=1)) == list(DrawSampler(50, seed=1)) != list(DrawSampler(50, seed=2))


def test_batches_are_passed_through():
    batch = object()
    assert as_fetched(batch) is batch
