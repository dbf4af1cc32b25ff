"""A spectrogram of any length in the memory of a picture."""

import numpy as np
import pytest

from birdclf.detection.timeline import COLUMNS, FLOOR_DB, ROWS, STEP_S, Overview

RATE_HZ = 8_000


def tone(hz, seconds=1.0):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ).astype(np.float32)


def test_a_tone_is_loud_in_its_row():
    one = Overview(RATE_HZ)
    one.add(0.0, tone(1_000))
    picture = one.picture()
    assert picture.shape == (ROWS, len(range(0, RATE_HZ - 1_024 + 1, round(STEP_S * RATE_HZ))))
    assert (picture.argmax(axis=0) == 1_000 * ROWS // (RATE_HZ // 2)).all()


def test_what_comes_again_changes_nothing():
    once, twice = Overview(RATE_HZ), Overview(RATE_HZ)
    for one in (once, twice, twice):
        one.add(0.0, tone(500))
        one.add(1.0, tone(2_000))
    np.testing.assert_array_equal(once.picture(), twice.picture())


def test_an_hour_takes_the_memory_of_a_minute():
    one, sound = Overview(RATE_HZ), np.zeros(RATE_HZ, np.float32)
    for second in [*range(0, 3_599, 10), 3_599]:
        one.add(float(second), tone(1_000) if second == 1_800 else sound)
    picture = one.picture()
    assert picture.shape[1] <= COLUMNS and picture.dtype == np.float32
    assert picture.shape[1] * one.column_s == pytest.approx(3_600, abs=2 * one.column_s)
    loud = np.flatnonzero(picture.max(axis=0) > FLOOR_DB) * one.column_s
    assert loud.min() == pytest.approx(1_800, abs=2 * one.column_s) and loud.max() < 1_801 + one.column_s


def test_times_at_the_edge_of_a_column_stay_inside():
    for first in range(40_900, 41_000):
        one = Overview(RATE_HZ)
        one.add(first / 800, tone(1_000, 0.5))
        assert one.picture().shape[1] <= COLUMNS


def test_silence_and_the_shortest_sound_have_a_picture():
    one = Overview(RATE_HZ)
    assert one.picture().shape == (ROWS, 1)
    one.add(0.0, np.zeros(1, np.float32))
    assert (one.picture() == FLOOR_DB).all()
