"""``birdclf prepare`` by several workers, one of them killed outright, makes the store of one process."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import Command, write_recordings

from birdclf.store.build import CLIPS_A_TASK

SHARDS = 3
LONGEST_RUN_S = 240.0
KILLED_IN_A_PIECE = """
import os, signal, sys
from birdclf.cli import main
from birdclf.store.plan import Journal

pieces, kept = int(sys.argv.pop(1)), sys.argv.pop(1) == "True"
add = Journal.add

def last(journal, rows, files):
    global pieces
    add(journal, rows, files)
    pieces -= 1
    if not pieces:
        if kept:
            journal.keep(files)
        os.kill(os.getpid(), signal.SIGKILL)

Journal.add = last
main()
"""
"""A worker whose last act is to note a piece of its frames: a test that kills one from outside may come too late."""


def words(recordings: Path, store_dir: Path, *more: str) -> list[str]:
    return ["prepare", "data=folder", f"data.root={recordings}", f"store.dir={store_dir}", "store.workers=0", *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def alone(birdclf: Command, recordings: Path, cwd: Path) -> dict[str, bytes]:
    """Let one process build the store; return all that is in its folder of stores."""
    done = birdclf(*words(recordings, cwd / "alone", "hydra.run.dir=alone_run"), cwd=cwd)
    assert done.status == 0, done.err
    return contents(cwd / "alone")


def test_a_multirun_builds_the_store_of_one_process(birdclf: Command, own_recordings: Path, tmp_path: Path):
    (own_recordings / "Pica pica" / "broken.wav").write_text("not sound")
    files = alone(birdclf, own_recordings, tmp_path)
    several = ("-m", "store.shards=3", "store.shard=0,1,2", "hydra.sweep.dir=several")
    done = birdclf(*words(own_recordings, tmp_path / "store", *several), cwd=tmp_path)
    assert done.status == 0, done.err
    assert "not yet: 1,2." in done.out and "not yet: 2." in done.out and "not finished" not in done.out  # no table
    assert contents(tmp_path / "store") == files
    assert [path.parent.name for path in tmp_path.glob("several/*/audit.*")] == ["2_store.shard-2"] * 2
    audits = [pd.read_csv(tmp_path / run / "audit.csv") for run in ("alone_run", "several/2_store.shard-2")]
    pd.testing.assert_frame_equal(*audits)


def test_workers_have_run_folders_of_their_own(birdclf: Command, own_recordings: Path, tmp_path: Path):
    done = birdclf(*words(own_recordings, tmp_path / "store", "store.shards=3", "store.shard=1"), cwd=tmp_path)
    assert done.status == 0 and "shard 1 of 3 is finished" in done.out, done.err
    (log,) = (tmp_path / "outputs" / "prepare").glob("*_shard-1/prepare.log")
    assert "this one writes neither" in log.read_text() and not list(log.parent.glob("audit.*"))


@pytest.mark.parametrize("shard", [(), ("store.shard=3",), ("store.shard=-1",)])
def test_a_shard_that_is_none_is_refused_before_sound_is_read(birdclf: Command, tmp_path: Path, shard: tuple[str, ...]):
    mistake = birdclf(*words(tmp_path / "nowhere", tmp_path / "store", "store.shards=3", *shard), cwd=tmp_path).mistake
    assert "store.shards=3" in mistake and "0 to 2" in mistake and not (tmp_path / "store").exists()


def test_training_has_no_shards(birdclf: Command, tmp_path: Path):
    assert "no setting 'store.shards'" in birdclf("train", "store.shards=3", cwd=tmp_path).mistake


@contextmanager
def worker(
    number: int, recordings: Path, cwd: Path, run: str, program: Sequence[str] = ("-m", "birdclf")
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a worker as a process, which is killed at the end of the block if it has not ended."""
    shard = (f"store.shards={SHARDS}", f"store.shard={number}", f"hydra.run.dir={run}")
    command = [sys.executable, *program, *words(recordings, cwd / "store", *shard)]
    with open(cwd / f"{run}.txt", "wb") as said:
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # three processes on few cores
        process = subprocess.Popen(command, cwd=cwd, stdout=said, stderr=said, env=one_thread)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.slow
def test_three_workers_of_which_one_is_killed_make_the_store_of_one(birdclf: Command, tmp_path: Path):
    rng = random.Random()
    recordings = write_recordings(tmp_path / "recordings", {"Alauda arvensis": 6, "Bubo bubo": 6}, seconds=(3, 8))
    for sound in list(recordings.rglob("*.wav")):
        for copy in range(1, 12):
            os.link(sound, sound.with_stem(f"{sound.stem}-{copy}"))
    files = alone(birdclf, recordings, tmp_path)
    clips = sum(1 for _ in recordings.rglob("*.wav")) // SHARDS
    victim, piece, kept = rng.randrange(SHARDS), rng.randint(1, clips // CLIPS_A_TASK), rng.random() < 0.5
    print(f"shard {victim} is killed with {piece} pieces of frames written, in its journal: {kept}")
    others = [number for number in range(SHARDS) if number != victim]
    with (
        worker(others[0], recordings, tmp_path, "one") as one,
        worker(others[1], recordings, tmp_path, "two") as two,
        worker(victim, recordings, tmp_path, "killed", ("-c", KILLED_IN_A_PIECE, str(piece), str(kept))) as killed,
    ):
        assert [process.wait(LONGEST_RUN_S) for process in (one, two, killed)] == [0, 0, -signal.SIGKILL]
    assert list(tmp_path.glob("*/audit.csv")) == [tmp_path / "alone_run" / "audit.csv"]  # nobody was the last
    assert f"not yet: {victim}." in (tmp_path / "one.txt").read_text() + (tmp_path / "two.txt").read_text()
    with worker(victim, recordings, tmp_path, "again") as again:
        assert again.wait(LONGEST_RUN_S) == 0, (tmp_path / "again.txt").read_text()
    assert contents(tmp_path / "store") == files
    audits = [(tmp_path / run / "audit.csv").read_bytes() for run in ("alone_run", "again")]
    assert audits[0] == audits[1]
