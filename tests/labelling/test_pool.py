"""The most uncertain windows, in bounded memory."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from birdclf.detection.inputs import Recording
from birdclf.labelling.clips import Candidate, Pool

NOTHING = np.zeros(2, np.float32)


def candidate(file: str, start_s: float, uncertainty: float) -> Candidate:
    return Candidate(Recording(file, file, file), start_s, start_s + 1.0, NOTHING, NOTHING, uncertainty)


def shown_to(pool: Pool, candidates) -> list[Candidate]:
    for one in candidates:
        pool.add(one)
        assert len(pool) < 2 * pool.size
    return pool.best()


numbers = st.floats(0, 1)


@given(st.lists(numbers, max_size=200), st.integers(1, 30))
def test_the_most_uncertain_stay_in_their_order(uncertainties, size):
    apart = [candidate("a", float(n), one) for n, one in enumerate(uncertainties)]
    assert shown_to(Pool(size), apart) == sorted(apart, key=lambda one: -one.score)[:size]


@given(st.lists(st.lists(numbers, max_size=40), max_size=5), st.sampled_from([0.1, 0.25, 0.6, 1.0]), st.integers(1, 20))
def test_no_two_overlap_and_what_is_most_uncertain_is_there(recordings, hop_s, size):
    given_windows = [
        candidate(str(file), n * hop_s, one) for file, windows in enumerate(recordings) for n, one in enumerate(windows)
    ]
    found = shown_to(Pool(size), given_windows)
    assert len(found) <= size and all(one in given_windows for one in found)
    for one in found:
        for other in found:
            apart = one.recording != other.recording or abs(one.start_s - other.start_s) > 1 - 1e-5
            assert one is other or apart
    most = max((one.score for one in given_windows), default=None)
    assert most is None or found[0].score == most


@given(st.lists(numbers, min_size=1, max_size=40), st.sampled_from([0.1, 0.25, 0.6]))
def test_where_there_is_room_only_what_overlaps_is_missing(uncertainties, hop_s):
    given_windows = [candidate("a", n * hop_s, one) for n, one in enumerate(uncertainties)]
    found = shown_to(Pool(100), given_windows)
    for one in given_windows:
        surer = [o for o in found if abs(o.start_s - one.start_s) < 1 - 1e-5 and o.score >= one.score]
        assert one in found or surer


def test_of_a_file_under_two_names_overlaps_are_found():
    one, other = candidate("a", 0.0, 0.5), candidate("a", 0.5, 0.4)
    assert shown_to(Pool(5), [one, other._replace(recording=Recording("link", "a (2)", "a"))]) == [one]
