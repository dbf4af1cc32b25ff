import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from birdclf.audio.clip import Clip
from birdclf.audio.files import FileReader
from birdclf.catalog.folder import folder_catalog
from birdclf.data.windows import EVAL_POLICIES, TRAIN_POLICIES, RandomWindows, WindowPolicy, window_starts
from birdclf.errors import UserError
from birdclf.features.mfcc import MFCCStack
from birdclf.features.store import open_store

FRAMES = 500
ROWS = np.arange(3)


def test_policies():
    assert WindowPolicy() == WindowPolicy(train="random", eval="center")
    for train in TRAIN_POLICIES:
        for evaluation in EVAL_POLICIES:
            WindowPolicy(train, evaluation)


@pytest.mark.parametrize("wrong", [{"train": "all"}, {"train": "middle"}, {"eval": "random"}, {"eval": ""}])
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
    sound = FileReader().read(Clip("a", str(path)), 32_000).copy()
    t = np.arange(32_000) / 32_000
    ramp = np.sin(np.pi * t)  # a hard edge would click in every band
    sound[8 * 32_000 : 9 * 32_000] += (0.8 * ramp * np.sin(2 * np.pi * hz * t)).astype(np.float32)
    sound[:32_000] += (0.02 * ramp * np.sin(2 * np.pi * 4000 * t)).astype(np.float32)  # a faint song at the beginning
    soundfile.write(path, sound, 32_000, subtype="FLOAT")
    store = open_store(folder_catalog(str(tmp_path)), MFCCStack(), tmp_path / "stores", workers=0)
    start, _ = window_starts("loudest", store, np.array([0]), FRAMES)
    assert (start[0] <= 800 and start[0] + FRAMES >= 900) == found
    assert (start[0] < 100) == (not found)


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
