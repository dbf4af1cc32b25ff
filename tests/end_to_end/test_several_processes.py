"""One run trained by several processes: the figures of one process, and the same end wherever it is stopped."""

import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from stopping import Killed, assert_same_end, history_of, stop_in, weights_of
from tiny_runs import Command, on_folder

from birdclf.training import workers as worker_processes
from birdclf.training.callbacks.snapshot import Snapshot

# A batch of 6 leaves 3 of the 21 train recordings for the last, shared by two processes as 2 and 1.
SHARED = ("loader.batch_size=6", "model.dropout=0", "trainer.max_epochs=3", "loss=cross_entropy_sqrt")
DDP = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.precision=32-true")


def words(recordings: Path, run: Path, *more: str) -> list[str]:
    named = on_folder(recordings, run, *SHARED)
    return [*named, *(word for word in more if word not in named)]


@pytest.fixture(scope="module")
def alone(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    assert birdclf(*words(recordings, run), cwd=run.parent).status == 0
    return run


@pytest.fixture(scope="module")
def together(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("together") / "run"
    done = birdclf(*words(recordings, run, *DDP), cwd=run.parent)
    assert done.status == 0, done.err
    return run


@pytest.mark.slow
def test_two_processes_learn_what_one_does(alone: Path, together: Path):
    for ours, theirs in zip(history_of(together), history_of(alone), strict=True):
        assert ours == pytest.approx(
            theirs, rel=2e-3, abs=1e-4
        )  # a loss with class weights divides by the whole batch's
    table, expected = (pd.read_parquet(run / "predictions.parquet") for run in (together, alone))
    pd.testing.assert_frame_equal(
        table[["recording_id", "split", "target"]], expected[["recording_id", "split", "target"]]
    )
    numbers = expected.select_dtypes("floating").columns
    np.testing.assert_allclose(table[numbers], expected[numbers], atol=2e-3)
    ours, theirs = (weights_of(run, "last.ckpt") for run in (together, alone))
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name].float(), weight.float(), rtol=1e-2, atol=2e-3, msg=name)


def test_every_recording_counts_once(together: Path):
    """The confusion of an epoch over all processes holds every recording; so does the saved one of the test split."""
    split = pd.read_csv(together / "split.csv").split.value_counts()
    table = pd.read_parquet(together / "predictions.parquet")
    assert not table.recording_id.duplicated().any()
    assert table.split.value_counts().to_dict() == {stage: split[stage] for stage in ("val", "test")}
    accuracies = {round(row["val/accuracy"] * split["val"], 3) for row in history_of(together)}
    assert accuracies <= set(range(split["val"] + 1))


@pytest.mark.slow
@pytest.mark.parametrize("call", [3, 6])
def test_a_run_of_two_processes_goes_on_to_the_same_end(birdclf, recordings, tmp_path, together, call):
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", call)
        with pytest.raises(Killed):
            birdclf(*words(recordings, run, *DDP, "callbacks.snapshot.every_s=0"), cwd=tmp_path)
    assert not (run / "done.json").exists()
    done = birdclf(*words(recordings, run, *DDP, "callbacks.snapshot.every_s=0", "resume=true"), cwd=tmp_path)
    assert done.status == 0, done.err
    assert_same_end(run, together)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_with_a_sentence(birdclf, recordings, tmp_path, monkeypatch):
    started = []
    start = worker_processes._start
    monkeypatch.setattr(worker_processes, "_start", lambda *given: started.append(start(*given)) or started[-1])
    seen = []

    def kill_it(self, *_):
        seen.append(1)
        if len(seen) == 2:
            started[0].send_signal(signal.SIGKILL)

    monkeypatch.setattr(Snapshot, "on_train_batch_start", kill_it)
    lost = birdclf(*words(recordings, tmp_path / "run", *DDP), cwd=tmp_path)
    assert "process 1 of the training ended before its time" in lost.mistake
    assert "LOCAL_RANK" not in os.environ and not torch.distributed.is_initialized()


def test_a_process_that_cannot_start_says_why(birdclf, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_processes.sys, "executable", "/bin/false")
    lost = birdclf(*words(recordings, tmp_path / "run", *DDP), cwd=tmp_path)
    assert "process 1 of the training ended before its time: exit status 1" in lost.mistake


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("loader.batch_size=7", "multiple of 2"),
        ("trainer.strategy=fsdp", "auto (one device) or ddp"),
        ("trainer.strategy=auto", "trainer=ddp"),
        ("trainer.devices=0", "number from 1"),
        ("+trainer.num_nodes=2", "one machine"),
        ("trainer.compile=nonsense", "trainer.compile"),
    ],
)
def test_what_does_not_go_together_is_refused(birdclf, recordings, tmp_path, setting, said):
    assert said in birdclf(*words(recordings, tmp_path / "run", *DDP, setting), cwd=tmp_path).mistake
    assert not (tmp_path / "run" / "split.csv").exists()


def test_more_processes_than_validation_recordings_are_refused(birdclf, recordings, tmp_path):
    words_of_nine = words(recordings, tmp_path / "run", *DDP, "loader.batch_size=9", "trainer.devices=9")
    assert "the val split has" in birdclf(*words_of_nine, cwd=tmp_path).mistake


def test_one_process_evaluates_such_a_run(birdclf: Command, together: Path):
    done = birdclf("evaluate", together, cwd=together)
    assert done.status == 0 and "equal to" in done.out, done.out + done.err
