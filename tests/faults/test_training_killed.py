"""``birdclf train``, killed outright in the middle and started again; every kill is a real one."""

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from stopping import SWEEP, assert_same_end, on_sweep, stamps, training, words
from tiny_runs import Command

LONGEST_S = 240.0


def wait_for(path: Path, process) -> None:
    ends = time.monotonic() + LONGEST_S
    while not path.exists():
        assert process.poll() is None and time.monotonic() < ends, f"{path} never came"
        time.sleep(0.01)


def moments(words: list[str], cwd: Path, said: str) -> list[float]:
    """Run ``birdclf WORDS`` to its end; return when it printed each line with some words in it, in seconds."""
    command = [sys.executable, "-u", "-m", "birdclf", *words]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return [time.monotonic() for line in process.stdout if said in line]


@pytest.mark.slow
def test_a_signal_leaves_a_snapshot_of_the_step_at_hand(birdclf: Command, recordings: Path, tmp_path: Path):
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        run = tmp_path / number.name
        # A snapshot of its own accord is an hour away.
        settings = words(recordings, run, "callbacks.snapshot.every_s=3600", "trainer.max_epochs=200")
        with training(settings, tmp_path, tmp_path / "said.txt") as process:
            wait_for(run / "history.json", process)
            process.send_signal(number)
            assert process.wait(LONGEST_S) == status
        assert (run / "checkpoints" / "last.ckpt").is_file() and not (run / "done.json").exists()
        assert "Traceback" not in (tmp_path / "said.txt").read_text()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_killed_at_twenty_moments_it_ends_the_same(birdclf: Command, recordings: Path, tmp_path: Path):
    rng = random.Random(5)
    whole = tmp_path / "whole"
    with training(words(recordings, whole), tmp_path, tmp_path / "whole.txt") as process:
        wait_for(whole / "config.yaml", process)
        began = time.monotonic()
        assert process.wait(LONGEST_S) == 0
        spent = time.monotonic() - began
    for number in range(20):
        run = tmp_path / f"run{number}"
        with training(words(recordings, run), tmp_path, tmp_path / f"{number}.txt") as process:
            wait_for(run / "config.yaml", process)
            time.sleep(rng.uniform(0, spent))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        assert birdclf(*words(recordings, run, "resume=true"), cwd=tmp_path).status == 0
        assert_same_end(run, whole)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_sweep_killed_twice_runs_no_job_twice(birdclf: Command, recordings: Path, tmp_path: Path):
    settings = on_sweep(recordings, "seed=1,2,3,4,5,6,7,8,9,10,11,12", SWEEP)
    finished: dict[str, int] = {}
    for enough in (4, 8):
        with training(settings, tmp_path, tmp_path / "said.txt") as process:
            ends = time.monotonic() + LONGEST_S
            while len(stamps(tmp_path / "sweep")) < enough:
                assert process.poll() is None and time.monotonic() < ends
                time.sleep(0.01)
            time.sleep(random.Random(enough).uniform(0, 1))
            os.killpg(process.pid, signal.SIGKILL)
        assert finished.items() <= stamps(tmp_path / "sweep").items(), "a finished job was run again"
        finished = stamps(tmp_path / "sweep")
    assert birdclf(*settings, cwd=tmp_path).status == 0
    assert finished.items() <= stamps(tmp_path / "sweep").items()
    skipped = moments(settings, tmp_path, "is finished")
    assert len(skipped) == 12
    # The median, for other programs may take a moment of any one of them.
    assert statistics.median(after - before for before, after in pairwise(skipped)) < 1, "skipping takes too long"
    table = pd.read_csv(tmp_path / "sweep" / "sweep.csv")
    assert table.status.tolist() == ["finished"] * 12 and len(set(table.job)) == 12


@pytest.mark.slow
@pytest.mark.parametrize("folder", [(SWEEP,), ()], ids=["named", "found"])
def test_two_identical_sweeps_at_once_share_the_jobs(recordings: Path, tmp_path: Path, folder: tuple[str, ...]):
    settings = on_sweep(recordings, "seed=1,2,3,4", *folder)
    with (
        training(settings, tmp_path, tmp_path / "a.txt") as one,
        training(settings, tmp_path, tmp_path / "b.txt") as two,
    ):
        assert one.wait(LONGEST_S) == 0 and two.wait(LONGEST_S) == 0
    (sweep,) = [path.parent for path in tmp_path.rglob("sweep.json")]
    for job in sweep.glob("*/train.log"):
        assert job.read_text().count("epoch 1:") == 1, "a job was trained twice"
    assert len(stamps(sweep)) == 4


@pytest.mark.slow
def test_two_identical_sweeps_at_once_both_list_what_failed(recordings: Path, tmp_path: Path):
    settings = on_sweep(recordings, "model.dropout=0.1,7,0.2", SWEEP)
    said = tmp_path / "a.txt", tmp_path / "b.txt"
    with training(settings, tmp_path, said[0]) as one, training(settings, tmp_path, said[1]) as two:
        assert one.wait(LONGEST_S) == 1 and two.wait(LONGEST_S) == 1
    for text in (file.read_text() for file in said):
        assert "1 job failed:\n  1_model.dropout-7: " in text and "Traceback" not in text
    assert len(stamps(tmp_path / "sweep")) == 2
