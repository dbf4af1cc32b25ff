"""Windows of a recording that arrives in blocks."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.audio.clip import AudioError
from birdclf.audio.windows import windows_of

RATE_HZ = 100


def counting(length: int) -> np.ndarray:
    """Return samples that tell where they stood."""
    return np.arange(1, length + 1, dtype=np.float32)


def windows(blocks, samples=20, hop=20, padding="repeat"):
    return list(windows_of(blocks, RATE_HZ, samples, hop, padding))


lengths, sizes, hops = st.integers(1, 300), st.integers(1, 60), st.integers(1, 90)


@given(lengths, sizes, hops, st.lists(st.integers(0, 300), max_size=12), st.sampled_from(["repeat", "silence"]))
def test_cuts_into_blocks_change_nothing(length, samples, hop, cuts, padding):
    sound = counting(length)
    blocks = np.split(sound, sorted(min(cut, length) for cut in cuts))
    whole, parts = (windows(given, samples, hop, padding) for given in ([sound], blocks))
    assert [one[:2] for one in whole] == [one[:2] for one in parts]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


@given(lengths, sizes, hops)
def test_each_is_a_stretch_of_the_recording_as_long_as_a_window(length, samples, hop):
    sound = counting(length)
    for one in windows([sound], samples, hop):
        first, last = round(one.start_s * RATE_HZ), round(one.end_s * RATE_HZ)
        assert len(one.samples) == samples
        np.testing.assert_array_equal(one.samples[: last - first], sound[first:last])
        assert last - first == min(samples, length)


@given(lengths, sizes, hops)
def test_begins_ascend_a_hop_apart_but_for_the_last(length, samples, hop):
    starts = [round(one.start_s * RATE_HZ) for one in windows([counting(length)], samples, hop)]
    assert starts[:-1] == [hop * n for n in range(len(starts) - 1)]
    assert all(a < b for a, b in zip(starts, starts[1:], strict=False))
    assert starts[-1] <= hop * (len(starts) - 1)


@given(lengths, sizes, hops)
def test_no_sound_is_left_out_unless_the_hop_leaves_it_out(length, samples, hop):
    heard = {float(x) for one in windows([counting(length)], samples, min(hop, samples)) for x in one.samples}
    assert heard == set(counting(length).tolist())


@given(lengths, sizes, hops)
def test_the_last_ends_with_the_recording(length, samples, hop):
    last = windows([counting(length)], samples, min(hop, samples))[-1]
    assert last.end_s == length / RATE_HZ


def test_windows_far_apart_leave_a_gap_and_still_hear_the_end_of_what_has_begun():
    assert [one[:2] for one in windows([counting(115)], 20, 50)] == [(0.0, 0.2), (0.5, 0.7), (0.95, 1.15)]
    assert [one[:2] for one in windows([counting(100)], 20, 50)] == [(0.0, 0.2), (0.5, 0.7)]
    assert [one[:2] for one in windows([counting(90)], 20, 50)] == [(0.0, 0.2), (0.5, 0.7)]


def test_a_recording_as_long_as_windows_has_no_window_too_many():
    assert [one.start_s for one in windows([counting(60)])] == [0.0, 0.2, 0.4]


def test_one_too_short_is_filled_up():
    (repeated,), (padded,) = windows([counting(8)]), windows([counting(8)], padding="silence")
    assert repeated[:2] == padded[:2] == (0.0, 0.08)
    np.testing.assert_array_equal(repeated.samples, np.resize(counting(8), 20))
    np.testing.assert_array_equal(padded.samples, [*counting(8), *[0.0] * 12])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(bad):
    sound = counting(50)
    sound[33] = bad
    with pytest.raises(AudioError, match="not finite") as refused:
        windows([sound[:30], sound[30:]])
    assert refused.value.problem == "not_finite"


@pytest.mark.parametrize("blocks", [[], [np.empty(0, np.float32)]])
def test_nothing_is_refused(blocks):
    with pytest.raises(AudioError, match="is empty"):
        windows(blocks)


def test_what_is_kept_does_not_grow_with_the_recording():
    block = np.zeros(10_000, np.float32)
    tracemalloc.start()
    assert sum(1 for _ in windows_of((block for _ in range(500)), RATE_HZ, 200, 700, "repeat")) == 7_143
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * block.nbytes
