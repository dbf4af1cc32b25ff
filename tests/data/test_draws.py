import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from birdclf.data.samplers import EPOCHS, number_draws, occurrence, split_draws

VALUES = st.lists(st.integers(0, 9), max_size=40).map(lambda values: np.array(values, dtype=np.int64))


def test_by_hand():
    # of 10 recordings in epoch 2: the first draw of recording 3 is 23, its second one 10 EPOCHS later
    draws = number_draws(np.array([3, 7, 3, 3]), 2, 10)
    assert draws.tolist() == [23, 27, 23 + 10 * EPOCHS, 23 + 20 * EPOCHS]
    first, again = split_draws(draws, 10)
    assert first.tolist() == [23, 27, 23, 23] and again.tolist() == [0, 0, 1, 2]


@given(VALUES)
def test_occurrence_counts_what_came_before(values):
    expected = [list(values[:i]).count(value) for i, value in enumerate(values)]
    assert occurrence(values).tolist() == expected


@given(VALUES, st.integers(0, 1000))
def test_no_two_draws_have_one_number(positions, epoch):
    draws = number_draws(positions, epoch, 10)
    assert (draws % 10 == positions).all() and len(set(draws)) == len(draws)
    assert not set(draws) & set(number_draws(positions, epoch + 1, 10))


def test_millions_of_recordings_fit():
    most = number_draws(np.zeros(10**5, dtype=np.int64), 10**6, 2 * 10**6).max()
    assert 0 < most < np.iinfo(np.int64).max
