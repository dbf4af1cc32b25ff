"""Cores that a process may use, and the sentence on other programs that keep them busy."""

import os
import time
from types import SimpleNamespace

import joblib
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from birdclf import cores
from birdclf.audio.files import FileReader
from birdclf.audio.mixing import Mix
from birdclf.cores import Neighbours, Usage, usable_cores
from birdclf.features.mfcc import MFCCStack
from birdclf.store.extraction import Extraction, begin_worker

JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
ONE_AFTER_THE_OTHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


@pytest.mark.parametrize(
    ("mode", "launcher", "threads", "usable"),
    [
        (RunMode.MULTIRUN, JOBLIB, "2", 2),
        (RunMode.MULTIRUN, JOBLIB, "64", 8),
        (RunMode.MULTIRUN, JOBLIB, "abc", 8),
        (RunMode.MULTIRUN, ONE_AFTER_THE_OTHER, "2", 8),
        (RunMode.RUN, JOBLIB, "2", 8),
        (None, "", "2", 8),
    ],
)
def test_a_job_of_a_launcher_builds_its_store_with_its_share_of_the_cores(
    monkeypatch, mode, launcher, threads, usable
) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    hydra = SimpleNamespace(mode=mode, launcher=SimpleNamespace(_target_=launcher))
    monkeypatch.setattr(HydraConfig, "initialized", staticmethod(lambda: mode is not None))
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: hydra))
    assert usable_cores() == usable


def test_no_more_cores_than_joblib_counts(monkeypatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert usable_cores() == 1


def test_a_process_that_decodes_has_one_thread(monkeypatch, tmp_path) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("birdclf.store.extraction._of_worker", None)
    monkeypatch.setattr("birdclf.store.extraction.threadpool_limits", limits := [].append)
    torch.set_num_threads(2)
    try:
        begin_worker(tmp_path, Extraction(FileReader(), Mix(), MFCCStack()))
        assert torch.get_num_threads() == 1 and limits.__self__ == [1]
    finally:
        torch.set_num_threads(before)


def asked(monkeypatch, busy: float, threads: int, seconds: float = 10.0, own: float = 8.0) -> str | None:
    """Return what is said of 4 cores, on which others use so many and this process one for most of the time."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    moments = iter([Usage(5.0, 100.0, 1.0), Usage(5.0 + seconds, 100.0 + own + busy * seconds, 1.0 + own)])
    monkeypatch.setattr(cores, "usage", lambda: next(moments))
    return Neighbours().remedy(threads)


@pytest.mark.parametrize(("busy", "threads", "free"), [(1.0, 4, 3), (2.8, 4, 1), (9.0, 4, 1), (2.0, 3, 2)])
def test_threads_that_must_wait_are_told_of(monkeypatch, busy, threads, free) -> None:
    said = asked(monkeypatch, busy, threads)
    assert said is not None
    assert f"keep {busy:.1f} of 4 cores busy" in said and f"OMP_NUM_THREADS={free} birdclf" in said


@pytest.mark.parametrize(
    ("busy", "threads"),
    [(0.0, 4), (0.6, 4), (2.0, 2), (4.0, 1)],  # the third is a job of joblib beside another
)
def test_nothing_is_said_where_the_threads_have_their_cores(monkeypatch, busy, threads) -> None:
    assert asked(monkeypatch, busy, threads) is None


def test_a_short_moment_says_nothing(monkeypatch) -> None:
    assert asked(monkeypatch, busy=4.0, threads=4, seconds=0.1) is None


def test_nothing_is_said_without_proc(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(cores, "STAT", tmp_path / "stat")
    assert cores.usage() is None and Neighbours().remedy(64) is None


def test_busy_time_is_that_of_usable_cores_without_idling_and_own_work_is_known_apart(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2}, raising=False)
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    monkeypatch.setattr(cores, "STAT", tmp_path / "stat")
    # user nice system idle iowait irq softirq steal
    lines = ["cpu 9 9 9 9 9 9 9 9", "cpu0 100 10 50 8000 70 4 6 3", "cpu1 5000 0 0 0 0 0 0 0", "cpu2 30 0 0 1 1 0 0 0"]
    cores.STAT.write_text("\n".join([*lines, "intr 1 2 3"]))
    before = cores.usage()
    began = time.process_time()
    while time.process_time() - began < 0.2:
        pass
    now = cores.usage()
    assert before.all == now.all == pytest.approx(2.0)
    assert now.own - before.own >= 0.15
