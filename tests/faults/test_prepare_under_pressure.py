"""``birdclf prepare`` beside another one, on a disk that is full, and without permission."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_runs import Command, Outcome, write_recordings

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
from birdclf.cli import main
main(sys.argv[1:])
"""


def words(recordings: Path, store_dir: Path, run: str) -> list[str]:
    return [
        *("prepare", "data=folder", f"data.root={recordings}", "store.workers=0"),
        *(f"store.dir={store_dir}", f"hydra.run.dir={run}"),
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def begin(cwd: Path, recordings: Path, run: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "birdclf", *words(recordings, cwd / "store", run)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_of_two_commands_one_builds_and_the_other_waits(tmp_path: Path):
    """The builder is stopped until the other one has found it at work."""
    recordings = write_recordings(tmp_path / "recordings", {"Apus apus": 150, "Pica pica": 150}, seconds=(1, 2))
    builder = begin(tmp_path, recordings, "one")
    while not list((tmp_path / "store").glob(".*.building/frames.f16")):
        assert builder.poll() is None
        time.sleep(0.005)
    builder.send_signal(signal.SIGSTOP)
    try:
        waiter = begin(tmp_path, recordings, "two")
        said = waiter.stdout.readline()
        assert said.startswith("another process is building") and waiter.poll() is None
    finally:
        builder.send_signal(signal.SIGCONT)
    for process in (builder, waiter):
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        assert "300 recordings" in out and "another process" not in out
    assert sum(path.is_dir() for path in (tmp_path / "store").iterdir()) == 1
    assert (tmp_path / "one" / "audit.csv").read_bytes() == (tmp_path / "two" / "audit.csv").read_bytes()


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_sentence_and_a_second_start_finishes(
    birdclf: Command, python: Command, recordings: Path, tmp_path: Path
):
    store = tmp_path / "store"
    full = python("-c", LIMITED, *words(recordings, store, "full"), cwd=tmp_path)
    assert full.status == 1
    assert str(store) in full.mistake and "File too large" in full.mistake and "store.dir=" in full.mistake
    assert not (tmp_path / "full" / "audit.csv").exists()
    (building,) = store.glob(".*.building")
    assert max(map(len, contents(building).values())) <= 150_000
    for place in (store, tmp_path / "other"):
        done = birdclf(*words(recordings, place, f"into {place.name}"), cwd=tmp_path)
        assert done.status == 0, done.err
    assert contents(store) == contents(tmp_path / "other")
    assert "frames.f16" in {Path(name).name for name in contents(store)}


@pytest.fixture
def ordinary(tmp_path: Path) -> Command:
    """``ordinary(*words)`` as a user whom permissions bind; root gives up its power to pass over them."""
    before: list[str] = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("permissions do not bind root, and there is no setpriv")
        before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]

    def run(*some: object) -> Outcome:
        command = [*before, sys.executable, "-m", "birdclf", *map(str, some)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.mark.slow
def test_a_store_that_may_not_be_written_is_refused(ordinary: Command, own_recordings: Path, tmp_path: Path):
    store = tmp_path / "store"
    store.mkdir(mode=0o555)
    refused = ordinary(*words(own_recordings, store, "run"))
    assert refused.status == 1
    assert str(store) in refused.mistake and "Permission denied" in refused.mistake and "store.dir=" in refused.mistake
    assert not list(store.iterdir())


@pytest.mark.slow
def test_a_finished_store_need_only_be_read(birdclf: Command, ordinary: Command, own_recordings: Path, tmp_path: Path):
    store = tmp_path / "store"
    assert birdclf(*words(own_recordings, store, "one"), cwd=tmp_path).status == 0
    folders = [path for path in (store, *store.iterdir()) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    done = ordinary(*words(own_recordings, store, "two"))
    for folder in folders:
        folder.chmod(0o755)  # so that it can be cleared away
    assert done.status == 0, done.err
    assert (tmp_path / "one" / "audit.csv").read_bytes() == (tmp_path / "two" / "audit.csv").read_bytes()


@pytest.mark.slow
def test_what_may_not_be_read_is_skipped_or_set_aside(ordinary: Command, own_recordings: Path, tmp_path: Path):
    hidden, unreadable = own_recordings / "Pica pica" / "00.wav", own_recordings / "Apus apus"
    hidden.chmod(0)
    unreadable.chmod(0)
    done = ordinary(*words(own_recordings, tmp_path / "store", "run"))
    unreadable.chmod(0o755)
    assert done.status == 0, done.err
    assert str(unreadable) in done.out + done.err
    assert "8 recordings" in done.out and "set aside: 1, the first Pica pica/00.wav cannot be decoded" in done.out
