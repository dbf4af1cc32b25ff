"""The clock is set back, or shows one second twice: nothing is overwritten, and a stopped run ends the same."""

import os
import time
from datetime import datetime
from pathlib import Path

import hydra.core.utils
import pytest
from stopping import LONG, Killed, assert_same_end, stop_in
from test_disk_full import curves
from tiny_runs import TINY, Command

from birdclf.training.callbacks.snapshot import Snapshot

EARLIER_S = 7200.0


class Stopped(datetime):
    """A clock that stands still, for the names of folders."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 3, 29, 2, 30)


@pytest.fixture
def one_second(monkeypatch):
    monkeypatch.setattr(hydra.core.utils, "datetime", Stopped)


def set_back(patch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let what is there lie in the future, as it does once the clock was set back."""
    usual, later = time.time, time.time() + EARLIER_S
    patch.setattr(time, "time", lambda: usual() - EARLIER_S)
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            os.utime(path, (later, later))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def words(recordings: Path, *more: str) -> list[str]:
    return ["train", "data=folder", f"data.root={recordings}", *TINY, *more]


@pytest.mark.parametrize(
    "resume", [pytest.param((), marks=pytest.mark.slow), ("resume=true",)], ids=["new", "resume=true"]
)
def test_two_runs_of_one_second_get_a_folder_each(birdclf: Command, recordings, tmp_path, one_second, resume):
    first = tmp_path / "outputs" / "run" / "2026-03-29_02-30-00"
    assert birdclf(*words(recordings), cwd=tmp_path).status == 0
    before = contents(first)
    done = birdclf(*words(recordings, "seed=2", *resume), cwd=tmp_path)
    assert done.status == 0, done.err
    assert contents(first) == before and (first.with_name(f"{first.name}_2") / "done.json").is_file()


def test_two_audits_of_one_second_get_a_folder_each(birdclf: Command, recordings, tmp_path, one_second):
    for _ in range(2):
        command = ["prepare", "data=folder", f"data.root={recordings}", "store.workers=0"]
        assert birdclf(*command, cwd=tmp_path).status == 0
    assert len(list((tmp_path / "outputs" / "prepare").glob("*/audit.csv"))) == 2


@pytest.mark.slow
def test_two_sweeps_of_one_second_get_a_folder_each(birdclf: Command, recordings, tmp_path, one_second):
    parent = tmp_path / "outputs" / "sweep"
    for seeds in ("1,2", "3,4"):
        assert birdclf(*words(recordings, "-m", f"seed={seeds}"), cwd=tmp_path).status == 0
    assert [len(list(sweep.glob("*/done.json"))) for sweep in parent.iterdir()] == [2, 2]
    again = birdclf(*words(recordings, "-m", "seed=1,2"), cwd=tmp_path)
    assert again.status == 0 and again.out.count("is finished") == 2
    anew = birdclf(*words(recordings, "-m", "seed=1,2", "resume=false"), cwd=tmp_path)
    assert anew.status == 0 and len(list(parent.iterdir())) == 3


@pytest.mark.slow
def test_a_stopped_run_is_found_and_ends_the_same(birdclf: Command, recordings, tmp_path, monkeypatch):
    command = words(recordings, *LONG)
    undisturbed = tmp_path / "whole"
    assert birdclf(*command, f"hydra.run.dir={undisturbed}", cwd=tmp_path).status == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", 15)
        with pytest.raises(Killed):
            birdclf(*command, cwd=tmp_path)
    (run,) = (tmp_path / "outputs" / "run").iterdir()
    set_back(monkeypatch, tmp_path / "outputs")
    done = birdclf(*command, "resume=true", cwd=tmp_path)
    assert done.status == 0 and f"resuming in outputs/run/{run.name}" in done.out
    assert_same_end(run, undisturbed)
    assert curves(run) == curves(undisturbed)


@pytest.mark.slow
def test_the_sweep_launched_last_is_resumed(birdclf: Command, recordings, tmp_path, monkeypatch):
    command = words(recordings, "-m", "seed=1,2")
    parent = tmp_path / "outputs" / "sweep"
    assert birdclf(*command, cwd=tmp_path).status == 0
    (first,) = parent.iterdir()
    set_back(monkeypatch, first)
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_end", 1)
        with pytest.raises(Killed):
            birdclf(*command, "resume=false", cwd=tmp_path)
    (second,) = [sweep for sweep in parent.iterdir() if sweep != first]
    done = birdclf(*command, cwd=tmp_path)
    assert done.status == 0 and f"resuming in outputs/sweep/{second.name}" in done.out
    assert len(list(second.glob("*/done.json"))) == 2
