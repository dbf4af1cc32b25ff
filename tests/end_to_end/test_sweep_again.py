"""A sweep that is launched again: finished jobs are skipped, stopped ones go on, failed ones are run anew."""

import shutil
import time
from pathlib import Path

import pytest
from filelock import FileLock
from stopping import SWEEP, Killed, on_sweep, stamps, statuses, stop_in
from tiny_runs import Command, Outcome

from birdclf.sweep.callbacks import Folders
from birdclf.sweep.table import sweep_table
from birdclf.training import train as training
from birdclf.training.callbacks.snapshot import Snapshot


@pytest.fixture(scope="module")
def finished(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of a finished sweep over two seeds. Tests copy it."""
    cwd = tmp_path_factory.mktemp("finished")
    assert birdclf(*on_sweep(recordings, "seed=1,2", SWEEP), cwd=cwd).status == 0
    return cwd


@pytest.fixture
def again(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "work")


def test_finished_jobs_are_skipped(birdclf, recordings, again):
    before = stamps(again / "sweep")
    done = birdclf(*on_sweep(recordings, "seed=1,2", SWEEP), cwd=again)
    assert done.status == 0 and done.out.count("is finished: val/macro_f1") == 2 and "resuming in sweep" in done.out
    assert stamps(again / "sweep") == before and statuses(again / "sweep") == ["finished"] * 2


@pytest.mark.slow
def test_a_stopped_sweep_is_found_by_its_command(birdclf, recordings, tmp_path):
    words = on_sweep(recordings, "seed=1,2")
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", 15)
        with pytest.raises(Killed):
            birdclf(*words, cwd=tmp_path)
    (folder,) = (tmp_path / "outputs" / "sweep").iterdir()
    before = stamps(folder)
    assert len(before) == 1
    other = run_with_bad_luck(birdclf, on_sweep(recordings, "seed=4,5"), tmp_path, 4, 5)
    assert "2 jobs failed" in other.err and "resuming" not in other.out
    done = birdclf(*words, cwd=tmp_path)
    assert done.status == 0 and f"resuming in outputs/sweep/{folder.name}" in done.out
    assert statuses(folder) == ["finished"] * 2 and before.items() <= stamps(folder).items()
    log = (folder / "1_seed-2" / "train.log").read_text()
    assert "resuming after epoch" in log and log.count("epoch 2:") == 1
    anew = run_with_bad_luck(birdclf, [*words, "resume=false"], tmp_path, 1, 2)
    assert "2 jobs failed" in anew.err and len(list((tmp_path / "outputs" / "sweep").iterdir())) == 3


@pytest.mark.slow
def test_one_stopped_before_its_first_job_began_is_resumed(birdclf, recordings, tmp_path, monkeypatch):
    def killed(cfg):
        raise Killed

    words = on_sweep(recordings, "seed=1,2", "trainer.max_epochs=1")
    with monkeypatch.context() as patch:
        patch.setattr(training, "build_data", killed)
        with pytest.raises(Killed):
            birdclf(*words, cwd=tmp_path)
    time.sleep(1.1)  # folders are named by the second
    assert birdclf(*words, cwd=tmp_path).status == 0
    (folder,) = (tmp_path / "outputs" / "sweep").iterdir()
    again = birdclf(*words, cwd=tmp_path)
    assert again.status == 0 and again.out.count("is finished") == 2 and len(stamps(folder)) == 2


@pytest.mark.slow
def test_more_values_are_added_when_asked_for(birdclf, recordings, again):
    grown = on_sweep(recordings, "seed=3,1,2", SWEEP)
    refused = birdclf(*grown, cwd=again)
    assert refused.status == 1 and "add to what is there with resume=true" in refused.mistake
    before = stamps(again / "sweep")
    done = birdclf(*grown, "resume=true", cwd=again)
    assert done.status == 0 and done.out.count("is finished") == 2
    assert before.items() <= stamps(again / "sweep").items()
    table = sweep_table(again / "sweep")
    assert table.status.tolist() == ["finished"] * 3 and len(set(table.overrides)) == 3


def test_a_job_of_other_settings_is_told_apart(birdclf, recordings, again):
    before = stamps(again / "sweep")
    words = on_sweep(recordings, "seed=1,2", SWEEP, "resume=true", "optimizer.lr=0.5")
    done = birdclf(*words, cwd=again)
    assert done.status == 1 and done.err.count("optimizer.lr was 0.001 and is 0.5 now") == 2
    assert stamps(again / "sweep") == before


def fail_for(patch: pytest.MonkeyPatch, *seeds: int) -> None:
    usual = training.build_data

    def build(cfg):
        if cfg.seed in seeds:
            raise RuntimeError(f"seed {cfg.seed} has bad luck")
        return usual(cfg)

    patch.setattr(training, "build_data", build)


def run_with_bad_luck(birdclf: Command, words: list[str], cwd: Path, *seeds: int) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        fail_for(patch, *seeds)
        return birdclf(*words, cwd=cwd)


@pytest.mark.slow
def test_failed_jobs_are_listed_and_run_again(birdclf, recordings, tmp_path):
    words = on_sweep(recordings, "seed=1,2,3", SWEEP, "trainer.max_epochs=1")
    done = run_with_bad_luck(birdclf, words, tmp_path, 1, 3)
    assert done.status == 1
    lines = done.err.splitlines()
    assert lines[0] == "birdclf: 2 jobs failed:" and lines[1:3] == [
        f"  {job}: RuntimeError: seed {seed} has bad luck" for job, seed in (("0_seed-1", 1), ("2_seed-3", 3))
    ]
    assert sorted(statuses(tmp_path / "sweep")) == ["failed", "failed", "finished"]
    assert "Traceback" in (tmp_path / "sweep" / "0_seed-1" / "failed.json").read_text()
    before = stamps(tmp_path / "sweep")
    again = birdclf(*words, cwd=tmp_path)
    assert again.status == 0 and statuses(tmp_path / "sweep") == ["finished"] * 3
    assert before.items() <= stamps(tmp_path / "sweep").items()


def launched_twice(patch: pytest.MonkeyPatch) -> None:
    """Launch the sweep once more while its second job is being prepared; only as far as its first job."""
    usual_start, usual_build, kept = Folders.on_multirun_start, training.build_data, []

    def start(self, config, **named):
        kept.append(config.copy())
        usual_start(self, config, **named)

    def build(cfg):
        if cfg.seed == 2:
            usual_start(Folders(), kept[0])
        return usual_build(cfg)

    patch.setattr(Folders, "on_multirun_start", start)
    patch.setattr(training, "build_data", build)


def test_a_second_launch_takes_no_failure_from_the_first(birdclf, recordings, tmp_path):
    words = on_sweep(recordings, "seed=1,2", SWEEP, "trainer.max_epochs=1")
    with pytest.MonkeyPatch.context() as patch:
        launched_twice(patch)
        done = run_with_bad_luck(birdclf, words, tmp_path, 1)
    assert done.status == 1 and "birdclf: 1 job failed:\n  0_seed-1: RuntimeError: seed 1 has bad luck" in done.err
    assert statuses(tmp_path / "sweep") == ["finished", "failed"]


@pytest.mark.slow
def test_fail_fast_ignores_a_failure_of_an_earlier_launch(birdclf, recordings, tmp_path):
    words = on_sweep(recordings, "seed=1,2", SWEEP, "trainer.max_epochs=1")
    assert run_with_bad_luck(birdclf, words, tmp_path, 1, 2).err.startswith("birdclf: 2 jobs failed")
    assert birdclf(*words, "fail_fast=true", cwd=tmp_path).status == 0


def test_fail_fast_stops_at_the_first(birdclf, recordings, tmp_path):
    words = on_sweep(recordings, "seed=1,2,3", SWEEP, "fail_fast=true")
    done = run_with_bad_luck(birdclf, words, tmp_path, 1)
    assert done.status == 1 and "1 job failed" in done.err and not stamps(tmp_path / "sweep")
    assert sorted(statuses(tmp_path / "sweep")) == ["failed", "not finished", "not finished"]


def test_a_job_that_another_process_trains_is_left_to_it(birdclf, recordings, again):
    (again / "sweep" / "1_seed-2" / "done.json").unlink()
    with FileLock(again / "sweep" / "1_seed-2" / "run.lock"):
        done = birdclf(*on_sweep(recordings, "seed=1,2", SWEEP), cwd=again)
    assert done.status == 0 and "is being trained by another process" in done.out
    assert statuses(again / "sweep") == ["finished", "not finished"]
