"""A pass over the train split can begin at any batch, and goes on as the whole pass does."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from birdclf.data.dataset import DrawSampler, Part, ResumableLoader, WindowDataset, as_fetched

FRAMES = 20


@pytest.fixture
def make(store):
    rows = np.arange(13)

    def loader(workers: int = 0) -> ResumableLoader:
        dataset = WindowDataset(store, rows, rows % 3, "random", FRAMES, seed=1)
        sampler = DrawSampler(len(rows), seed=1, batch_size=4)
        return ResumableLoader(dataset, sampler, num_workers=workers, collate_fn=as_fetched)

    return loader


@pytest.mark.parametrize("workers", [0, 2])
def test_it_resumes_after_the_batches_of_its_state(make, workers):
    whole, stopped, later = make(), make(workers), make(workers)
    for loader in (whole, stopped):
        loader.order.set_epoch(2)
    batches = list(whole)
    passing = iter(stopped)
    next(passing), next(passing)
    state = stopped.state_dict()
    assert state == {"epoch": 2, "batches": 2}, "workers fetch ahead; what counts is what was given out"
    later.load_state_dict(state)
    later.order.set_epoch(2)  # the trainer says it again
    rest = list(later)
    assert len(later) == len(batches) == 4 and len(rest) == 2
    assert later.state_dict() == {"epoch": 2, "batches": 4}
    for ours, theirs in zip(rest, batches[2:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    whole.order.set_epoch(3)
    later.order.set_epoch(3)
    assert [b.recording.tolist() for b in later] == [b.recording.tolist() for b in whole], "the next epoch is whole"


@given(n=st.integers(1, 40), epoch=st.integers(0, 5), begin=st.integers(0, 40))
def test_a_beginning_and_its_rest_are_an_epoch(n, epoch, begin):
    whole, rest = DrawSampler(n, seed=3), DrawSampler(n, seed=3)
    whole.set_epoch(epoch)
    rest.start_at(epoch, begin)
    assert list(whole)[begin:] == list(rest) and len(rest) == n
    assert sorted(draw % n for draw in whole) == list(range(n))


@given(
    n=st.integers(1, 60), share=st.integers(1, 5), processes=st.integers(1, 4), epoch=st.integers(0, 2),
    done=st.integers(0, 3),
)  # fmt: skip
def test_processes_share_each_batch_and_none_is_left_without(n: int, share: int, processes: int, epoch: int, done: int):
    size = share * processes
    whole = DrawSampler(n, seed=3, batch_size=size)
    whole.start_at(epoch, done * size)
    draws = list(whole)
    parts = []
    for rank in range(processes):
        part = DrawSampler(n, seed=3, batch_size=size, part=Part(rank, processes))
        assert len(part) == len(range(rank, n + part.again, processes))
        part.start_at(epoch, done * size)
        parts.append(list(part))
    assert len({-(-len(part) // share) for part in parts}) == 1  # as many batches for each
    for batch in range(-(-len(draws) // size)):
        met = [draw for part in parts for draw in part[batch * share : (batch + 1) * share]]
        expected = draws[batch * size : (batch + 1) * size]
        assert set(expected) <= set(met) and len(met) == max(len(expected), processes)
