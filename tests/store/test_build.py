import errno
import json
import multiprocessing
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from noise_catalog import NoiseReader, Sums, contents, noise_catalog

from birdclf.audio.clip import Clip
from birdclf.audio.mixing import Mix
from birdclf.cores import usable_cores
from birdclf.errors import UserError
from birdclf.features.mfcc import MFCCStack
from birdclf.store import build as building
from birdclf.store import plan as journal
from birdclf.store.build import CLIPS_A_TASK, build
from birdclf.store.extraction import Extraction
from birdclf.store.open import open_store
from birdclf.store.plan import JOURNAL, Journal, index_of

DATA = ("frames.f16", "level.f16")
BYTES_A_FRAME = (4, 2)
SHORT = 0.5  # seconds of the first recording
N = 5
KEPT = 3  # recordings that are in the journal when the build ends early
HELD = (50, 0, 150)  # frames of each of them; the second one is refused


def build_in(folder: Path, n: int = N, workers: int | None = 0, **reader) -> dict[str, bytes]:
    """Build a small store, or finish doing so, and return name and bytes of each file but the journal."""
    made = noise_catalog(n, seconds=SHORT, bad=("r001",), **reader)
    scratch = folder.with_name("scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    rows = build(made.clips(), Extraction(made.reader, Mix(), Sums()), folder, scratch, "", workers)
    index_of(rows).to_parquet(folder / "index.parquet")
    return {name: data for name, data in contents(folder).items() if name != JOURNAL}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of a build that nothing disturbed."""
    return build_in(tmp_path_factory.mktemp("whole") / "building")


@pytest.fixture(scope="module")
def ended_early(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of a build that ended after ``KEPT`` recordings, all of them in its journal."""
    folder = tmp_path_factory.mktemp("early") / "building"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(journal, "KEEP_EVERY_S", -1.0)
        build_in(folder, deadly=f"r{KEPT:03d}")
    return contents(folder)


def put(folder: Path, files: dict[str, bytes]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_a_build_that_ended_early_holds_what_its_journal_lists(whole, ended_early):
    rows = [json.loads(line) for line in ended_early[JOURNAL].splitlines()]
    assert [row["recording_id"] for row in rows] == ["r000", "r001", "r002"]
    assert tuple(row["frames"] for row in rows) == HELD
    for name, size in zip(DATA, BYTES_A_FRAME, strict=True):
        assert ended_early[name] == whole[name][: sum(HELD) * size]


def test_a_journal_cut_anywhere_is_read_up_to_its_last_whole_line(tmp_path, ended_early):
    clips = noise_catalog(N).clips()
    lines = ended_early[JOURNAL].splitlines(keepends=True)
    ends = np.cumsum([len(line) for line in lines])
    folder = put(tmp_path / "building", ended_early)
    for length in range(len(ended_early[JOURNAL]) + 1):
        put(folder, {**ended_early, JOURNAL: ended_early[JOURNAL][:length]})
        with (
            Journal(folder / JOURNAL) as journal,
            open(folder / DATA[0], "ab") as frames,
            open(folder / DATA[1], "ab") as level,
        ):
            journal.recover(dict(zip((frames, level), BYTES_A_FRAME, strict=True)), clips)
        done = int((ends <= length).sum())
        assert [row["recording_id"] for row in journal.rows] == [clip.recording_id for clip in clips[:done]]
        assert (folder / JOURNAL).read_bytes() == b"".join(lines[:done])
        for name, size in zip(DATA, BYTES_A_FRAME, strict=True):
            assert (folder / name).read_bytes() == ended_early[name][: sum(HELD[:done]) * size]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.binary(max_size=9))
@example(1, 1, 1, b"")
@example(1, 0, 1, b"")
@example(1, 1, 0.5, b"")
@example(0.9, 1, 1, b"\x00" * 9)
def test_a_cut_build_is_finished_to_the_same_bytes(tmp_path, whole, ended_early, journal, frames, level, garbage):
    """Each file is cut at a share of its length, and garbage follows."""
    shares = dict(zip((JOURNAL, *DATA), (journal, frames, level), strict=True))
    cut = {name: data[: round(shares[name] * len(data))] for name, data in ended_early.items()}
    log = tmp_path / "log"
    log.write_bytes(b"")
    folder = put(tmp_path / "building", {name: data + garbage for name, data in cut.items()})
    assert build_in(folder, log=str(log)) == whole
    lines = cut[JOURNAL].count(b"\n")
    there = min(len(cut[name] + garbage) // size for name, size in zip(DATA, BYTES_A_FRAME, strict=True))
    read = log.read_text().split()
    assert read == [f"r{i:03d}" for i in range(N - len(read), N)]
    done = N - len(read)
    assert done <= KEPT and sum(HELD[:done]) <= there
    if done < min(lines, KEPT):
        assert sum(HELD[: done + 1]) > there  # the next line's frames are not all there


def test_a_finished_build_that_was_not_put_in_its_place_reads_nothing_again(tmp_path, whole):
    folder, log = tmp_path / "building", tmp_path / "log"
    build_in(folder)
    assert build_in(folder, log=str(log)) == whole
    assert not log.exists()


@pytest.mark.parametrize(
    "journal",
    [b"", b"\n\n", b"\x00" * 4096, b"not json\n", b'{"recording_id": "r000", "frames": 50', b"\xff\xfe\n"],
    ids=["empty", "empty lines", "zeros", "words", "half a line", "no text"],
)
def test_a_journal_that_cannot_be_read_is_started_again(tmp_path, whole, ended_early, journal):
    assert build_in(put(tmp_path / "building", {**ended_early, JOURNAL: journal})) == whole


def test_a_journal_of_another_catalog_is_ignored(tmp_path, whole, ended_early):
    renamed = ended_early[JOURNAL].replace(b'"r0', b'"q0')
    log = tmp_path / "log"
    assert build_in(put(tmp_path / "building", {**ended_early, JOURNAL: renamed}), log=str(log)) == whole
    assert len(log.read_text().split()) == N


def test_a_journal_that_is_longer_than_the_catalog_is_cut(tmp_path, ended_early):
    two = build_in(tmp_path / "two", n=2)
    assert build_in(put(tmp_path / "building", ended_early), n=2) == two


def test_a_recording_that_breaks_in_the_middle_leaves_no_frames(tmp_path):
    made = noise_catalog(4, torn=("r001",))
    torn = open_store(made, Sums(), tmp_path / "torn", workers=0)
    good = open_store(noise_catalog(4), Sums(), tmp_path / "good", workers=0)
    assert torn.index.frames.tolist() == [400, 0, 500, 550]
    assert torn.index.reason.tolist() == ["", "ends in the middle of a block", "", ""]
    assert torn.index.duration_s[1] == 2.0 and torn.index.header_duration_s[1] == 4.5
    keep = np.r_[:400, 850:1900]
    np.testing.assert_array_equal(torn.frames, good.frames[keep])
    np.testing.assert_array_equal(torn.level_db, good.level_db[keep])


def test_a_broken_recording_is_cut_out_of_the_task_that_holds_it(tmp_path):
    reader = NoiseReader(torn=("r001",))
    clips = [Clip(f"r{i:03d}") for i in range(3)]
    rows = Extraction(reader, Mix(), Sums()).write(clips, tmp_path / "0")
    assert [row["frames"] for row in rows] == [400, 0, 500]
    assert (tmp_path / "0.frames").stat().st_size == 900 * 4 and (tmp_path / "0.level").stat().st_size == 900 * 2


@pytest.mark.parametrize(
    ("workers", "kept"), [(0, 9), pytest.param(2, 3, marks=pytest.mark.slow)]
)  # three tasks, of three recordings or of one
def test_a_disk_that_fills_up_is_named_and_the_next_start_resumes(tmp_path, monkeypatch, workers, kept):
    log = tmp_path / "log"
    made, stores = noise_catalog(12, log=str(log)), tmp_path / "stores"
    real, copied = shutil.copyfileobj, []

    def copy(source, target, length):
        copied.append(source)
        if len(copied) > 6:
            target.write(b"some")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target, length)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "KEEP_EVERY_S", -1.0)
        patch.setattr(shutil, "copyfileobj", copy)
        with pytest.raises(UserError) as full:
            open_store(made, Sums(), stores, workers)
        assert not multiprocessing.active_children()  # while the error is still being looked at
    (folder,) = (path for path in stores.iterdir() if path.suffix == ".building")
    name = folder.name.removeprefix(".").removesuffix(".building")
    assert str(full.value).startswith(f"The feature store {stores / name} cannot be written: No space left on device.")
    assert "Free some space" in str(full.value) and "store.dir=" in str(full.value)
    assert sorted(path.name for path in stores.iterdir()) == sorted([folder.name, f"{name}.lock"])
    log.unlink()
    store = open_store(made, Sums(), stores, workers=0)
    assert log.read_text().split() == [f"r{i:03d}" for i in range(kept, 12)]
    undisturbed = open_store(noise_catalog(12), Sums(), tmp_path / "other", workers=0)
    assert contents(store.folder) == contents(undisturbed.folder)


@pytest.mark.slow
def test_workers_give_the_same_bytes(tmp_path):
    made = noise_catalog(3 * CLIPS_A_TASK + 3, bad=("r005", "r020"), torn=("r006",))
    alone = open_store(made, MFCCStack(), tmp_path / "0", workers=0)
    together = open_store(made, MFCCStack(), tmp_path / "2", workers=2)
    assert contents(alone.folder) == contents(together.folder)
    assert (alone.index.error != "").sum() == 3


@pytest.mark.parametrize(
    ("clips", "processes", "sizes"),
    [
        (0, 0, []),
        (1, 0, [1]),
        (3, 2, [1, 1, 1]),
        (20, 2, [2] * 10),
        (2 * CLIPS_A_TASK, 0, [CLIPS_A_TASK // 2] * 4),
        (40 * CLIPS_A_TASK + 3, 2, [CLIPS_A_TASK] * 40 + [3]),
    ],
)
def test_every_process_gets_some_tasks_of_a_bounded_size(clips, processes, sizes):
    names = [Clip(str(i)) for i in range(clips)]
    tasks = building._tasks(names, processes)
    assert [len(task) for task in tasks] == sizes
    assert [clip for task in tasks for clip in task] == names


def test_few_short_recordings_need_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "usable_cores", lambda: 4)
    sparse = tmp_path / "long.wav"
    with open(sparse, "wb") as file:
        file.truncate(building.WORTH_A_PROCESS_BYTES + 1)
    short = tmp_path / "short.wav"
    short.write_bytes(b"sound")
    few = [Clip("a", str(short)), Clip("b"), Clip("c", str(tmp_path / "gone.wav"))]
    stretches = [Clip(str(i), str(sparse), i, i + 1.0) for i in range(3)]
    many = [Clip(str(i)) for i in range(building.WORTH_A_PROCESS)]
    assert building._processes(few, None) == 0
    assert building._processes(many[1:], None) == 0
    assert building._processes(many, None) == 4
    assert building._processes([*few, *stretches], None) == 4  # few, but long
    assert building._processes([*few[:2], stretches[0]], None) == 3  # no more than recordings
    assert building._processes(stretches[:1], None) == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are given to processes on Linux")
def test_a_process_takes_the_cores_that_it_was_given():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert building._processes([Clip(str(i)) for i in range(building.WORTH_A_PROCESS)], None) == 0
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores() <= len(before)


def test_stretches_of_one_file_count_its_size_once(tmp_path):
    half = tmp_path / "half.wav"
    with open(half, "wb") as file:
        file.truncate(building.WORTH_A_PROCESS_BYTES // 2 + 1)
    assert building._processes([Clip(str(i), str(half), i, i + 1.0) for i in range(9)], None) == 0


@pytest.mark.parametrize(("asked", "processes"), [(0, 0), (1, 0), (2, 2), (8, 8)])
def test_the_number_of_workers_may_be_chosen(asked, processes):
    assert building._processes([Clip("a"), Clip("b")], asked) == processes


@dataclass(frozen=True)
class Opened(Sums):
    """Features that note each process that they arrive in, as a frozen network is opened there."""

    log: str = ""

    def __setstate__(self, state):
        self.__dict__.update(state)
        with open(self.log, "a") as file:
            file.write("arrived\n")


@pytest.mark.slow
def test_a_worker_is_sent_the_features_once_whatever_the_number_of_tasks(tmp_path):
    log = tmp_path / "log"
    open_store(noise_catalog(12), Opened(log=str(log)), tmp_path / "store", workers=2)
    assert 1 <= len(log.read_text().splitlines()) <= 2
