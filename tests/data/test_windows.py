import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from birdclf.audio.clip import Clip
from birdclf.audio.files import FileReader
from birdclf.audio.resampling import read_waveform
from birdclf.data.sources.folder import folder_catalog
from birdclf.data.windows import EVAL_POLICIES, SILENT_DB, TRAIN_POLICIES, RandomWindows, WindowPolicy, window_starts
from birdclf.errors import UserError
from birdclf.features.mfcc import MFCCStack
from birdclf.store.open import open_store

FRAMES = 500
ROWS = np.arange(3)


def test_policies():
    assert WindowPolicy() == WindowPolicy(train="random", eval="center")
    for train in TRAIN_POLICIES:
        for evaluation in EVAL_POLICIES:
            WindowPolicy(train, evaluation)


@pytest.mark.parametrize("wrong", [{"train": "last"}, {"train": "middle"}, {"eval": "random"}, {"eval": ""}])
def test_unknown_policies_are_refused(wrong):
    with pytest.raises(UserError, match=rf"window\.{next(iter(wrong))} is .*; it must be one of"):
        WindowPolicy(**wrong)


def test_first_and_center(numbered_store):
    store = numbered_store([500, 901, 1200])
    for policy, starts in {"first": [0, 500, 1401], "center": [0, 700, 1751]}.items():
        start, owner = window_starts(policy, store, ROWS, FRAMES)
        assert start.tolist() == starts and owner.tolist() == [0, 1, 2]


def test_a_part_of_the_store_in_its_own_order(numbered_store):
    start, owner = window_starts("first", numbered_store([500, 901, 1200]), np.array([2, 0]), FRAMES)
    assert start.tolist() == [1401, 0] and owner.tolist() == [0, 1]


@pytest.mark.parametrize("lengths", [[500, 501, 999], [1000, 1001, 1500], [2750, 500, 612]])
def test_all_covers_every_frame_and_stays_within(numbered_store, lengths):
    store = numbered_store(lengths)
    start, owner = window_starts("all", store, ROWS, FRAMES)
    assert (np.diff(owner) >= 0).all()
    for k, (offset, length) in enumerate(zip(store.index.offset, lengths, strict=True)):
        mine = start[owner == k] - offset
        assert mine.min() == 0 and mine.max() == length - FRAMES
        assert len(mine) == -(-length // FRAMES)
        covered = np.unique((mine[:, None] + np.arange(FRAMES)).ravel())
        np.testing.assert_array_equal(covered, np.arange(length))


def test_loudest_has_the_most_energy(numbered_store):
    level = np.full(2000, -60.0)
    level[1300:1320] = -10.0  # a short loud burst against ...
    level[100:500] = -25.0  # ... a long one with less energy
    start, owner = window_starts("loudest", numbered_store([2000], level), np.array([0]), FRAMES)
    assert owner.tolist() == [0]
    assert start[0] <= 1300 and start[0] + FRAMES >= 1320


def test_loudest_stays_within_its_own_recording(numbered_store):
    level = np.full(2201, -60.0)
    level[500:520] = 0.0  # the second recording's beginning is the loudest of all
    store = numbered_store([500, 501, 1200], level)
    start, _ = window_starts("loudest", store, ROWS, FRAMES)
    assert start[0] == 0 and start[1] == 500 and 1001 <= start[2] <= 1701


@pytest.mark.parametrize(("hz", "found"), [(2500.0, True), (9000.0, True), (200.0, False), (14_000.0, False)])
def test_loudest_finds_a_burst_of_bird_song(tmp_path, tone, hz, found):
    """A burst at 8 to 9 s of 12 s counts between 1 and 10 kHz; wind below and hiss above do not."""
    path = tone(tmp_path / "robin" / "a.wav", seconds=12.0, hz=hz, level=0.0, noise=0.001)
    sound = read_waveform(FileReader(), Clip("a", str(path)), 32_000)
    t = np.arange(32_000) / 32_000
    ramp = np.sin(np.pi * t)  # a hard edge would click in every band
    sound[8 * 32_000 : 9 * 32_000] += (0.8 * ramp * np.sin(2 * np.pi * hz * t)).astype(np.float32)
    sound[:32_000] += (0.02 * ramp * np.sin(2 * np.pi * 4000 * t)).astype(np.float32)  # a faint song at the beginning
    soundfile.write(path, sound, 32_000, subtype="FLOAT")
    store = open_store(folder_catalog(str(tmp_path)), MFCCStack(), tmp_path / "stores", workers=0)
    start, _ = window_starts("loudest", store, np.array([0]), FRAMES)
    assert (start[0] <= 800 and start[0] + FRAMES >= 900) == found
    assert (start[0] < 100) == (not found)


SILENCE_DB = -100.0


@pytest.mark.parametrize(("heard", "passed_over"), [(250, True), (249, False)])
def test_loudest_skips_windows_that_are_more_than_half_silent(numbered_store, heard, passed_over):
    level = np.full(2000, SILENCE_DB)
    level[200:300] = 0.0  # loud, but silence on both sides
    level[1000 : 1000 + heard] = -60.0
    start, _ = window_starts("loudest", numbered_store([2000], level), np.array([0]), FRAMES)
    expected = range(1000 + heard - FRAMES, 1001) if passed_over else range(201)  # where nothing else is, the burst
    assert start[0] in expected


def test_silence_in_another_recording_does_not_count(numbered_store):
    level = np.full(1500, SILENCE_DB)
    level[500:1000] = -60.0
    start, _ = window_starts("loudest", numbered_store([500, 500, 500], level), ROWS, FRAMES)
    assert start.tolist() == [0, 500, 1000]


def test_loudest_of_a_silent_recording_stays_within_it(numbered_store):
    start, _ = window_starts("loudest", numbered_store([500, 1200], np.full(1700, SILENCE_DB)), ROWS[:2], FRAMES)
    assert start[0] == 0 and 500 <= start[1] <= 1200


@pytest.mark.parametrize("burst", [0, 730, 1190])
def test_loudest_finds_one_burst_in_silence(numbered_store, burst):
    level = np.full(1200, SILENCE_DB)
    level[burst : burst + 10] = -30.0
    start, _ = window_starts("loudest", numbered_store([1200], level), np.array([0]), FRAMES)
    assert start[0] <= burst and start[0] + FRAMES >= burst + 10


def test_loudest_skips_the_digital_silence_of_a_file(tmp_path):
    """A beep at 1 s in 8 s of zeros, then 4 s of faint noise."""
    sound = np.zeros(12 * 32_000, np.float32)
    sound[32_000:38_400] = 0.5 * np.sin(2 * np.pi * 3000 * np.arange(6400) / 32_000)
    sound[8 * 32_000 :] = 1e-4 * np.random.default_rng(1).standard_normal(4 * 32_000)
    (tmp_path / "robin").mkdir()
    soundfile.write(tmp_path / "robin" / "a.wav", sound, 32_000, subtype="FLOAT")
    store = open_store(folder_catalog(str(tmp_path)), MFCCStack(), tmp_path / "stores", workers=0)
    assert (store.level_db[200:700] < SILENT_DB).all() and (store.level_db[802:] > SILENT_DB + 20).all()
    start, _ = window_starts("loudest", store, np.array([0]), FRAMES)
    assert 540 <= start[0] <= 700


def test_random_windows_stay_within(numbered_store):
    store = numbered_store([500, 501, 1200])
    draws = np.arange(3 * 4000)
    start = RandomWindows(store, ROWS, FRAMES, seed=1).starts(draws).reshape(-1, 3)
    assert (start[:, 0] == 0).all()
    assert set(start[:, 1]) == {500, 501}
    assert start[:, 2].min() == 1001 and start[:, 2].max() == 1701  # both ends are reached
    counts = np.bincount(start[:, 2] - 1001, minlength=701)
    assert counts.max() < 30  # 5.7 on average


def test_epochs_and_seeds_differ(numbered_store):
    store = numbered_store([3000, 3000, 3000])
    windows = RandomWindows(store, ROWS, FRAMES, seed=1)
    epochs = [tuple(windows.starts(ROWS + 3 * epoch)) for epoch in range(5)]
    assert len(set(epochs)) == 5
    assert tuple(RandomWindows(store, ROWS, FRAMES, seed=2).starts(ROWS)) != epochs[0]
    assert tuple(RandomWindows(store, ROWS, FRAMES, seed=1).starts(ROWS)) == epochs[0]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50))
def test_a_draw_does_not_depend_on_its_company(store, draws):
    windows = RandomWindows(store, np.arange(len(store.index)), FRAMES, seed=3)
    together = windows.starts(np.array(draws))
    assert together.tolist() == [int(windows.starts(np.array([d]))[0]) for d in draws]
    spans = store.index.iloc[np.array(draws) % len(store.index)]
    assert (together >= spans.offset).all() and (together + FRAMES <= spans.offset + spans.frames).all()
