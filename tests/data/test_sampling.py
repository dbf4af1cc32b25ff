"""Every sampler of ``conf/sampler`` is found by looking and held to what any has to be; then each to its own rule."""

from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.stats import chisquare

from birdclf.config import conf_dir
from birdclf.data.dataset import DrawSampler, Part, ResumableLoader, WindowDataset, as_fetched
from birdclf.data.samplers import ClassAware, Natural, Power, Progressive, Sampler, within_classes
from birdclf.errors import UserError

FILES = sorted(path.stem for path in (conf_dir() / "sampler").glob("*.yaml"))
EPOCHS = 5
COUNTS = (400, 100, 25, 8, 1)
TARGET = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))
LISTS = st.lists(st.integers(0, 6), min_size=2, max_size=60).map(lambda values: np.array(values, dtype=np.int64))


@cache
def built(name: str) -> Sampler:
    whole = OmegaConf.create({"trainer": {"max_epochs": EPOCHS}})
    whole.sampler = OmegaConf.load(Path(conf_dir()) / "sampler" / f"{name}.yaml")
    return instantiate(whole.sampler)


def order(sampler: Sampler, epoch: int = 0, seed: int = 1, target: np.ndarray = TARGET) -> np.ndarray:
    return sampler.order(target, epoch, np.random.default_rng([seed, epoch]))


def drawn(sampler: Sampler, epochs: int, first: int = 0) -> np.ndarray:
    """Return how often each class was drawn in some epochs."""
    positions = np.concatenate([order(sampler, epoch) for epoch in range(first, first + epochs)])
    return np.bincount(TARGET[positions], minlength=5)


def test_there_are_samplers():
    assert {"natural", "power", "progressive", "class_aware"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
@given(target=LISTS, epoch=st.integers(0, EPOCHS - 1), seed=st.integers(0, 100))
def test_an_epoch_has_as_many_draws_as_recordings(name, target, epoch, seed):
    sampler = built(name)
    assert isinstance(sampler.balances, bool)
    positions = order(sampler, epoch, seed, target)
    assert positions.shape == target.shape and positions.dtype == np.int64
    assert (positions >= 0).all() and (positions < len(target)).all()
    assert (positions == order(sampler, epoch, seed, target)).all(), "it is not a function of seed and epoch"
    for k in np.unique(target):  # no recording again before all others of its class
        times = np.bincount(positions, minlength=len(target))[target == k]
        assert times.max() - times.min() <= 1


@pytest.mark.parametrize("name", FILES)
def test_the_order_follows_seed_and_epoch(name):
    orders = {tuple(order(built(name), epoch, seed)) for epoch in range(3) for seed in range(3)}
    assert len(orders) == 9


@pytest.mark.parametrize("name", FILES)
def test_only_a_sampler_that_balances_changes_the_class_counts(name):
    sampler = built(name)
    assert sampler.balances == (drawn(sampler, EPOCHS).tolist() != [EPOCHS * n for n in COUNTS])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_together_draw_what_one_does(name, processes):
    own = partial(built(name).order, TARGET)
    size = 4 * processes
    whole = DrawSampler(len(TARGET), 1, size, order=own)
    parts = [DrawSampler(len(TARGET), 1, size, Part(rank, processes), own) for rank in range(processes)]
    for sampler in (whole, *parts):
        sampler.start_at(3, 2 * size)
    draws, shared = list(whole), [list(part) for part in parts]
    assert len({-(-len(part) // 4) for part in shared}) == 1  # as many batches for each
    for batch in range(-(-len(draws) // size)):
        met = [draw for part in shared for draw in part[batch * 4 : (batch + 1) * 4]]
        expected = draws[batch * size : (batch + 1) * size]
        assert set(expected) <= set(met) and len(met) == max(len(expected), processes)


@pytest.mark.parametrize("name", FILES)
def test_it_resumes_in_the_middle_of_an_epoch(name, numbered_store):
    store, target = numbered_store([620 + i for i in range(13)]), np.array([0] * 9 + [1] * 3 + [2])

    def loader() -> ResumableLoader:
        dataset = WindowDataset(store, np.arange(13), target, "random", 500, seed=1)
        sampler = DrawSampler(13, 1, batch_size=4, order=partial(built(name).order, dataset.target))
        return ResumableLoader(dataset, sampler, collate_fn=as_fetched)

    whole, later = loader(), loader()
    whole.order.set_epoch(2)
    batches = list(whole)
    later.load_state_dict({"epoch": 2, "batches": 2})
    rest = list(later)
    assert len(batches) == 4 and len(rest) == 2
    for ours, theirs in zip(rest, batches[2:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("lengths", [[700, 560], [501, 1500]])
def test_a_recording_drawn_again_has_another_window(numbered_store, lengths):
    target = np.array([0, 1])
    dataset = WindowDataset(numbered_store(lengths), np.arange(2), target, "random", 500, seed=1)
    sampler = DrawSampler(2, 1, order=lambda *_: np.array([0, 1] * 20))
    for epoch in range(20):
        sampler.set_epoch(epoch)
        batch = dataset.__getitems__(list(sampler))
        starts = (batch.bands[:, 0, 0].double() * 1000 + batch.bands[:, 1, 0].double()).numpy().astype(int)
        for recording, length in enumerate(lengths):
            met = starts[batch.recording.numpy() == recording] - sum(lengths[:recording])
            places = length - 499
            assert met.min() >= 0 and met.max() < places
            assert len(set(met)) == 20 if places > 55 else len(set(met)) == min(places, 20)


def test_natural_is_the_order_it_always_was():
    for epoch in (0, 3):
        sampler = DrawSampler(534, seed=7, order=partial(Natural().order, TARGET))
        sampler.set_epoch(epoch)
        expected = np.random.Generator(np.random.PCG64([sampler.key, epoch])).permutation(534) + 534 * epoch
        assert list(sampler) == expected.tolist() == list(_epoch(DrawSampler(534, seed=7), epoch))


def _epoch(sampler: DrawSampler, epoch: int) -> DrawSampler:
    sampler.set_epoch(epoch)
    return sampler


@pytest.mark.parametrize("q", [0, 0.3, 0.5, 1])
def test_power_draws_classes_by_a_power_of_their_counts(q):
    expected = np.array(COUNTS, dtype=float) ** q
    expected *= 40 * len(TARGET) / expected.sum()
    assert chisquare(drawn(Power(q), 40), expected).pvalue > 0.01
    assert Power(q).balances == (q != 1)
    for epoch in range(10):
        assert (np.abs(drawn(Power(q), 1, epoch) - expected / 40) < 1).all(), "an epoch is off by more than rounding"


def test_rounding_is_right_on_average():
    """Balanced, 5 classes share 534 draws: 106.8 each."""
    each = np.array([drawn(Power(0.0), 1, epoch) for epoch in range(400)])
    assert set(np.unique(each)) == {106, 107}
    np.testing.assert_allclose(each.mean(axis=0), 106.8, atol=0.08)


@given(target=LISTS, seed=st.integers(0, 1000))
def test_power_1_is_every_recording_once(target, seed):
    assert sorted(order(Power(1.0), 0, seed, target)) == list(range(len(target)))


def test_within_a_class_recordings_are_drawn_alike():
    """The class of 400 gets 107 draws an epoch."""
    positions = np.concatenate([order(Power(0.0), epoch) for epoch in range(200)])
    times = np.bincount(positions, minlength=len(TARGET))[TARGET == 0]
    assert chisquare(times).pvalue > 0.01


def test_progressive_goes_from_natural_to_balanced():
    sampler = Progressive(EPOCHS)
    assert [sampler.q(epoch) for epoch in range(EPOCHS)] == [1, 0.75, 0.5, 0.25, 0]
    assert Progressive(1).q(0) == 1 and sampler.q(99) == 0
    assert "to 0.25, not to 0" in sampler.cut_short(EPOCHS - 1, EPOCHS)
    assert sampler.cut_short(EPOCHS, EPOCHS) is None and Progressive(1).cut_short(1, 1) is None
    assert sorted(order(sampler, 0)) == list(range(len(TARGET)))
    assert np.ptp(drawn(sampler, 1, EPOCHS - 1)) <= 1
    for epoch in range(EPOCHS):
        assert (order(sampler, epoch) == order(Power(sampler.q(epoch)), epoch)).all()
        expected = np.array(COUNTS, dtype=float) ** sampler.q(epoch)
        assert chisquare(drawn(sampler, 1, epoch), expected * len(TARGET) / expected.sum()).pvalue > 0.01


@given(target=LISTS, seed=st.integers(0, 1000))
def test_class_aware_draws_each_class_once_a_round(target, seed):
    classes = target[order(ClassAware(), 0, seed, target)]
    present = np.unique(target)
    assert np.ptp(np.bincount(classes)[present]) <= 1
    for begin in range(0, len(target), len(present)):
        a_round = classes[begin : begin + len(present)]
        assert len(set(a_round)) == len(a_round)


def test_class_aware_gives_classes_an_equal_share():
    assert chisquare(drawn(ClassAware(), 30)).pvalue > 0.01


def test_recordings_go_round_and_round():
    target = np.array([1, 0, 1, 1])
    positions = within_classes(target, np.array([1, 0, 1, 0, 1, 1, 1, 1]), np.random.default_rng(0))
    ones = positions[[0, 2, 4, 5, 6, 7]]
    assert sorted(ones[:3]) == [0, 2, 3] and (ones[3:] == ones[:3]).all()
    assert positions[[1, 3]].tolist() == [1, 1]


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan"), "half", True])
def test_a_wrong_q_is_refused(q):
    with pytest.raises(UserError, match=r"sampler\.q is .* between 0 \(balanced\) and 1"):
        Power(q)


def test_a_training_without_epochs_is_refused():
    with pytest.raises(UserError, match=r"sampler\.epochs is 0"):
        Progressive(0)
