"""A run that is stopped wherever it stands goes on to the very end that an undisturbed one has."""

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from stopping import Killed, assert_same_end, history_of, stop_in, words
from tiny_runs import Command

from birdclf.training import train as training
from birdclf.training.callbacks.history import History
from birdclf.training.callbacks.snapshot import Snapshot

PLATEAU = ("scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.01")


@pytest.fixture(scope="module")
def undisturbed(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert birdclf(*words(recordings, run), cwd=run.parent).status == 0
    return run


@pytest.mark.parametrize(
    "owner, hook, call",
    [
        pytest.param(Snapshot, "on_train_batch_end", 1, marks=pytest.mark.slow),
        (Snapshot, "on_train_batch_end", 8),
        pytest.param(Snapshot, "on_train_batch_end", 12, marks=pytest.mark.slow),
        pytest.param(Snapshot, "on_validation_batch_end", 2, marks=pytest.mark.slow),
        pytest.param(Snapshot, "on_train_batch_start", 13, marks=pytest.mark.slow),
        pytest.param(History, "on_train_epoch_start", 3, marks=pytest.mark.slow),
        pytest.param(Snapshot, "on_train_end", 1, marks=pytest.mark.slow),
    ],
)
def test_it_ends_as_if_nothing_had_happened(birdclf, recordings, tmp_path, undisturbed, owner, hook, call):
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, owner, hook, call)
        with pytest.raises(Killed):
            birdclf(*words(recordings, run), cwd=tmp_path)
    assert not (run / "done.json").exists()
    done = birdclf(*words(recordings, run, "resume=true"), cwd=tmp_path)
    assert done.status == 0, done.err
    assert_same_end(run, undisturbed)


@pytest.mark.slow
def test_a_schedule_on_a_plateau_and_early_stopping_resume(birdclf, recordings, tmp_path):
    more = (*PLATEAU, "callbacks.early_stopping.patience=2", "trainer.max_epochs=6")
    assert birdclf(*words(recordings, tmp_path / "whole", *more), cwd=tmp_path).status == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", 14)
        with pytest.raises(Killed):
            birdclf(*words(recordings, tmp_path / "run", *more), cwd=tmp_path)
    assert birdclf(*words(recordings, tmp_path / "run", *more, "resume=true"), cwd=tmp_path).status == 0
    assert_same_end(tmp_path / "run", tmp_path / "whole")
    rates = [row["lr"] for row in history_of(tmp_path / "run")]
    assert len(set(rates)) > 1, "the schedule did nothing here, so the test shows nothing"


@pytest.mark.slow
def test_stopped_while_it_writes_its_results(birdclf, recordings, tmp_path, undisturbed, monkeypatch):
    def killed(*arguments, **named):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_results", killed)
        with pytest.raises(Killed):
            birdclf(*words(recordings, tmp_path / "run"), cwd=tmp_path)
    monkeypatch.setattr(training, "fit", killed)  # what was trained is not trained again
    assert birdclf(*words(recordings, tmp_path / "run", "resume=true"), cwd=tmp_path).status == 0
    assert_same_end(tmp_path / "run", undisturbed)


@pytest.fixture(scope="module")
def ended(birdclf, recordings, tmp_path_factory) -> Path:
    """A run that ended in its third epoch, under outputs/run, and a copy of all outputs beside them."""
    run = tmp_path_factory.mktemp("ended") / "outputs" / "run" / "earlier"
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", 14)
        with pytest.raises(Killed):
            birdclf(*words(recordings, run), cwd=run.parents[2])
    shutil.copytree(run.parents[1], run.parents[2] / "kept")
    return run


@pytest.fixture
def stopped(ended: Path) -> Path:
    """That run as it ended, in the folder that it began in, which its checkpoints name."""
    work = ended.parents[2]
    shutil.rmtree(work / "outputs")
    shutil.copytree(work / "kept", work / "outputs")
    return ended


def without_folder(words: list[str]) -> list[str]:
    return [word for word in words if not word.startswith("hydra.run.dir")]


@pytest.mark.slow
def test_the_folder_is_found_by_its_settings(birdclf, recordings, stopped, undisturbed):
    other = birdclf(
        *without_folder(words(recordings, stopped, "resume=true", "trainer.max_epochs=1")), cwd=stopped.parents[2]
    )
    assert other.status == 0 and "no unfinished run of these settings" in other.out
    done = birdclf(*without_folder(words(recordings, stopped, "resume=true")), cwd=stopped.parents[2])
    assert done.status == 0 and "resuming in outputs/run/earlier" in done.out
    assert_same_end(stopped, undisturbed)


def test_it_is_never_resumed_unasked_or_by_other_settings(birdclf, recordings, stopped):
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*") if path.is_file()}
    assert "holds results already" in birdclf(*words(recordings, stopped), cwd=stopped.parents[2]).mistake
    said = birdclf(*words(recordings, stopped, "resume=true", "optimizer.lr=0.5"), cwd=stopped.parents[2]).mistake
    assert "optimizer.lr was 0.001 and is 0.5 now" in said
    after = {path: path.stat().st_mtime_ns for path in stopped.rglob("*") if path.is_file()}
    ours = {path for path in before if path.parent.name != ".hydra" and path.suffix != ".log"}
    assert all(before[path] == after[path] for path in ours)


def test_other_recordings_are_refused(birdclf, own_recordings, tmp_path):
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", 2)
        with pytest.raises(Killed):
            birdclf(*words(own_recordings, run), cwd=tmp_path)
    next(own_recordings.rglob("*.wav")).unlink()
    said = birdclf(*words(own_recordings, run, "resume=true"), cwd=tmp_path).mistake
    assert "began with other recordings" in said


def test_a_damaged_snapshot_falls_back_to_the_one_before(birdclf, recordings, stopped, undisturbed):
    last = stopped / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    done = birdclf(*words(recordings, stopped, "resume=true"), cwd=stopped.parents[2])
    assert done.status == 0 and "resuming from before_last.ckpt" in done.out
    assert_same_end(stopped, undisturbed)


def test_with_both_snapshots_damaged_it_says_so(birdclf, recordings, stopped):
    for path in (stopped / "checkpoints").glob("*last.ckpt"):
        path.write_bytes(b"no checkpoint")
    said = birdclf(*words(recordings, stopped, "resume=true"), cwd=stopped.parents[2]).mistake
    assert "last.ckpt cannot be read" in said


def test_a_finished_run_is_only_said_to_be(birdclf, recordings, tmp_path, undisturbed):
    run = shutil.copytree(undisturbed, tmp_path / "run")
    config = OmegaConf.load(run / "config.yaml")
    assert config.resume is None
    done = birdclf(*words(recordings, run, "resume=true"), cwd=tmp_path)
    assert done.status == 0 and "is finished: val/macro_f1" in done.out
    assert_same_end(run, undisturbed)
