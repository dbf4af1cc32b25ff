"""Several small batches are one large one, to the last group of an epoch."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.data.dataset import DrawSampler, Part, ResumableLoader, WindowDataset
from birdclf.training.module import share_of_step, waits_for_step


def loader(n: int, batch: int, processes: int = 1) -> ResumableLoader:
    dataset = WindowDataset.__new__(WindowDataset)
    dataset.rows = np.arange(n)
    return ResumableLoader(dataset, DrawSampler(n, 1, batch, Part(0, processes)))


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 5), st.integers(1, 2))
def test_the_shares_of_a_step_are_those_of_its_recordings(n, size, accumulated, processes):
    batches = loader(n, size * processes, processes)
    count = len(batches)
    trainer = SimpleNamespace(train_dataloader=batches, num_training_batches=count, accumulate_grad_batches=accumulated)
    shares = [share_of_step(i, accumulated, trainer) / accumulated for i in range(count)]
    lengths = [batches.recordings(i, i + 1) for i in range(count)]
    assert sum(lengths) == n + batches.order.again
    for begin in range(0, count, accumulated):
        group = slice(begin, begin + accumulated)
        assert shares[group] == pytest.approx([length / sum(lengths[group]) for length in lengths[group]])
    waits = [waits_for_step(i, trainer) for i in range(count)]
    assert waits.count(False) == -(-count // accumulated) and not waits[-1]
