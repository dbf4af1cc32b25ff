"""``birdclf prepare``, killed outright and started again, ends in the store that an undisturbed run makes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from tiny_runs import Command, write_recordings

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="orphans are looked for in /proc")

ORPHANS_END_S = 10.0
LONGEST_RUN_S = 120.0


def words(recordings: Path, cwd: Path, run: str) -> list[str]:
    return ["prepare", "data=folder", f"data.root={recordings}", f"store.dir={cwd / 'store'}", f"hydra.run.dir={run}"]


def hear_interrupts() -> None:
    """A program that was started in the background may have been told to ignore them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def running(recordings: Path, cwd: Path, run: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command with two workers, in a process group of its own that is killed at the end of the block."""
    cwd.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "birdclf", *words(recordings, cwd, run), "store.workers=2"]
    with open(cwd / f"{run}.txt", "wb") as said:
        process = subprocess.Popen(
            command, cwd=cwd, stdout=said, stderr=said, start_new_session=True, preexec_fn=hear_interrupts
        )
    try:
        yield process
    finally:
        if living(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def living(group: int) -> list[int]:
    """Return the processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it ended while we looked
            continue
        if int(of_group) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.01)


def bytes_under_way(store_dir: Path, name: str, since: float = 0.0) -> int:
    """Return the size of a file of the unfinished store that was written to later than ``since``; 0 without one."""
    for file in store_dir.glob(f".*.building/{name}"):
        try:
            stat = file.stat()
        except FileNotFoundError:  # just renamed: the store is finished
            continue
        return stat.st_size if stat.st_mtime > since else 0
    return 0


def has_written(store_dir: Path, size: float, since: float) -> bool:
    return bytes_under_way(store_dir, "frames.f16", since) > size


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def linked(root: Path, copies: int) -> Path:
    """Write 12 sounds, each under so many names, and return their folder."""
    write_recordings(root, {"Alauda arvensis": 6, "Bubo bubo": 6}, seconds=(3, 8))
    for sound in list(root.rglob("*.wav")):
        for copy in range(1, copies):
            os.link(sound, sound.with_stem(f"{sound.stem}-{copy}"))
    return root


def finish(birdclf: Command, recordings: Path, cwd: Path) -> dict[str, bytes]:
    """Let a run come to its end, in this process; return what it leaves beside the lock."""
    cwd.mkdir(exist_ok=True)
    done = birdclf(*words(recordings, cwd, "last"), "store.workers=0", cwd=cwd)
    assert done.status == 0, done.err
    left = contents(cwd / "store")
    assert len(left) == 5 and sum(name.endswith(".lock") for name in left) == 1, sorted(left)
    return left


@pytest.mark.slow
def test_killed_twice_and_finished(birdclf: Command, tmp_path: Path):
    recordings, store_dir = linked(tmp_path / "recordings", 30), tmp_path / "killed" / "store"
    undisturbed = finish(birdclf, recordings, tmp_path / "undisturbed")
    with running(recordings, tmp_path / "killed", "parent") as process:
        wait_until(partial(has_written, store_dir, 0, time.time()), LONGEST_RUN_S, "frames")
        assert len(living(process.pid)) >= 3
        os.kill(process.pid, signal.SIGKILL)  # the parent alone: nobody tells its workers
        process.wait()
        wait_until(lambda: not living(process.pid), ORPHANS_END_S, "orphaned workers to end")
    with running(recordings, tmp_path / "killed", "group") as process:
        wait_until(partial(has_written, store_dir, 0, time.time()), LONGEST_RUN_S, "frames")
    assert process.returncode == -signal.SIGKILL
    assert finish(birdclf, recordings, tmp_path / "killed") == undisturbed


@pytest.mark.slow
def test_interrupted_it_ends_without_a_stack_trace(birdclf: Command, tmp_path: Path):
    recordings, store_dir = linked(tmp_path / "recordings", 60), tmp_path / "stopped" / "store"
    with running(recordings, tmp_path / "stopped", "run") as process:
        wait_until(partial(has_written, store_dir, 0, time.time()), LONGEST_RUN_S, "frames")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to workers as well
        assert process.wait(LONGEST_RUN_S) == 130
    assert "Traceback" not in (tmp_path / "stopped" / "run.txt").read_text()
    assert [path.name.endswith(".building") for path in store_dir.iterdir() if path.is_dir()] == [True]


@pytest.mark.slow
def test_a_killed_worker_is_a_sentence_and_what_is_done_is_kept(birdclf: Command, tmp_path: Path):
    recordings, store_dir = linked(tmp_path / "recordings", 60), tmp_path / "stopped" / "store"
    with running(recordings, tmp_path / "stopped", "run") as process:
        wait_until(partial(has_written, store_dir, 0, time.time()), LONGEST_RUN_S, "frames")
        worker = max(living(process.pid))
        os.kill(worker, signal.SIGKILL)
        assert process.wait(LONGEST_RUN_S) == 1
    assert "was killed, perhaps for lack of memory" in (tmp_path / "stopped" / "run.txt").read_text()
    finish(birdclf, recordings, tmp_path / "stopped")


@pytest.mark.slow
def test_killed_at_ten_moments_and_finished(birdclf: Command, tmp_path: Path):
    recordings, store_dir = linked(tmp_path / "recordings", 120), tmp_path / "killed" / "store"
    undisturbed = finish(birdclf, recordings, tmp_path / "undisturbed")
    whole = max(map(len, undisturbed.values()))
    rng, kept = random.Random(7), []
    for number in range(2):
        with running(recordings, tmp_path / "killed", f"start {number}") as process:
            time.sleep(rng.uniform(0.2, 3.0))
        assert process.returncode == -signal.SIGKILL
    for share in sorted(rng.uniform(0, 0.95) for _ in range(8)):
        with running(recordings, tmp_path / "killed", f"run {share:.3f}") as process:
            reached = partial(has_written, store_dir, share * whole, time.time())
            wait_until(reached, LONGEST_RUN_S, f"{share:.0%} of the frames")
        assert process.returncode == -signal.SIGKILL
        kept.append(bytes_under_way(store_dir, "journal.jsonl"))
    assert kept == sorted(kept) and kept[-1] > 0  # what was done is never lost
    assert finish(birdclf, recordings, tmp_path / "killed") == undisturbed
