"""The disk really fills up, whatever a run is writing: a sentence, and the same end once there is space again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import Disk, small_disk, when
from lightning.pytorch.callbacks import ModelCheckpoint
from stopping import assert_same_end, on_sweep, statuses, words
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import Command

from birdclf.metrics.predictions import Predictions
from birdclf.runs import results
from birdclf.sweep import task
from birdclf.sweep.table import SweepTable
from birdclf.training import results as outcome
from birdclf.training import train as training
from birdclf.training.callbacks.history import History
from birdclf.training.callbacks.snapshot import Snapshot, latest
from birdclf.training.loggers import TensorBoard


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture(scope="module")
def undisturbed(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert birdclf(*in_store(recordings, run, run.parent), cwd=run.parent).status == 0
    return run


def in_store(recordings: Path, run: Path, cwd: Path) -> list[str]:
    return words(recordings, run, f"store.dir={cwd / 'store'}")


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows; a final figure that was written before the disk was full is there twice."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {
        tag: list(dict.fromkeys((e.step, e.value) for e in events.Scalars(tag))) for tag in events.Tags()["scalars"]
    }


MOMENTS = {
    "at its very beginning": (training, "write_beginning", 1),
    "settings in TensorBoard": (TensorBoard, "log_hyperparams", 1),
    "first snapshot": (Snapshot, "_write", 1),
    "a later snapshot": (Snapshot, "_write", 9),
    "best.ckpt": (ModelCheckpoint, "_save_checkpoint", 1),
    "events": (TensorBoard, "log_metrics", 5),
    "history.json": (History, "_write", 3),
    "last snapshot": (Snapshot, "on_train_end", 1),
    "temperature": (outcome, "keep_calibration", 1),
    "metrics.json": (results, "figures_of", 1),
    "predictions.parquet": (Predictions, "table", 1),
    "tables": (results, "per_class_table", 1),
    "pictures": (results, "reliability_figure", 2),
    "figures in TensorBoard": (TensorBoard, "log_picture", 1),
    "projector": (TensorBoard, "project", 1),
    "done.json": (training, "mark_done", 1),
}
FAST = ("a later snapshot",)


@pytest.mark.parametrize("moment", [pytest.param(m, marks=[] if m in FAST else pytest.mark.slow) for m in MOMENTS])
def test_a_run_ends_as_if_nothing_had_happened(birdclf, recordings, tmp_path, undisturbed, disk, moment):
    run = disk.folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        when(patch, *MOMENTS[moment], disk.fill)
        said = birdclf(*in_store(recordings, run, tmp_path), cwd=tmp_path).mistake
    assert said.startswith(f"{run} cannot be written to: {disk.full}.") and "resume=true" in said
    assert not list(run.rglob("*.tmp")) and not (run / "done.json").exists()
    latest(run / "checkpoints")  # what is there can be read
    disk.free()
    done = birdclf(*in_store(recordings, run, tmp_path), "resume=true", cwd=tmp_path)
    assert done.status == 0, done.err
    assert_same_end(run, undisturbed)
    assert curves(run) == curves(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["a later snapshot", "figures in TensorBoard"])
def test_the_same_by_a_limit_that_takes_no_privilege(birdclf, recordings, tmp_path, undisturbed, moment):
    with small_disk(tmp_path / "limited", real=False) as disk:
        test_a_run_ends_as_if_nothing_had_happened(birdclf, recordings, tmp_path, undisturbed, disk, moment)


@pytest.mark.parametrize("command", ["train", "prepare"])
def test_full_before_it_begins(birdclf, recordings, tmp_path, disk, command):
    disk.fill()
    run, store = disk.folder / "run", tmp_path / "store"
    words = [command, "data=folder", f"data.root={recordings}", f"store.dir={store}", f"hydra.run.dir={run}"]
    said = birdclf(*words, cwd=tmp_path).mistake
    assert said.startswith(f"{run} cannot be written to: {disk.full}. Nothing was begun.")
    assert not store.exists()


@pytest.mark.slow
@pytest.mark.parametrize("noted", [True, False], ids=["which is noted", "which cannot be noted"])
def test_a_sweep_continues_after_a_job(birdclf, recordings, tmp_path, disk, noted):
    sweep = disk.folder / "sweep"
    words = on_sweep(recordings, "seed=1,2,3", f"hydra.sweep.dir={sweep}", f"store.dir={tmp_path / 'store'}")
    usual = task.run_folder.write_failure

    def note(*arguments):
        if noted:
            disk.free()
        try:
            usual(*arguments)
        finally:
            disk.free()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task.run_folder, "write_failure", note)
        when(patch, Snapshot, "_write", 14, disk.fill)
        done = birdclf(*words, cwd=tmp_path)
    assert done.status == 1 and f"{sweep / '1_seed-2'} cannot be written to: {disk.full}" in done.err
    assert "Traceback" not in done.err + done.out
    assert ("1 job failed" in done.err) is noted
    assert sorted(statuses(sweep)) == [
        "failed" if noted else "finished",
        "finished",
        "finished" if noted else "not finished",
    ]
    assert birdclf(*words, cwd=tmp_path).status == 0
    whole = tmp_path / "whole"
    assert birdclf(*words, f"hydra.sweep.dir={whole}", cwd=tmp_path).status == 0
    assert (sweep / "1_seed-2" / "metrics.json").read_bytes() == (whole / "1_seed-2" / "metrics.json").read_bytes()


@pytest.mark.slow
def test_a_sweep_stops_where_no_job_can_begin(birdclf, recordings, tmp_path, disk):
    sweep = disk.folder / "sweep"
    words = on_sweep(recordings, "seed=1,2", f"hydra.sweep.dir={sweep}", f"store.dir={tmp_path / 'store'}")
    with pytest.MonkeyPatch.context() as patch:
        when(patch, Snapshot, "_write", 3, disk.fill)
        said = birdclf(*words, cwd=tmp_path).mistake
    assert said.startswith(f"{sweep / '0_seed-1'} cannot be written to: {disk.full}.")
    disk.free()
    assert birdclf(*words, cwd=tmp_path).status == 0


@pytest.mark.slow
def test_a_sweep_says_that_its_table_could_not_be_written(birdclf, recordings, tmp_path, disk):
    sweep = disk.folder / "sweep"
    words = on_sweep(recordings, "seed=1,2", f"hydra.sweep.dir={sweep}", f"store.dir={tmp_path / 'store'}")
    with pytest.MonkeyPatch.context() as patch:
        when(patch, SweepTable, "on_multirun_end", 1, disk.fill)
        said = birdclf(*words, cwd=tmp_path).mistake
    assert said.startswith(f"{sweep} cannot be written to: {disk.full}.")
    disk.free()
    assert birdclf(*words, cwd=tmp_path).status == 0 and statuses(sweep) == ["finished"] * 2


def test_full_before_a_sweep_begins(birdclf, recordings, tmp_path, disk):
    disk.fill()
    sweep = disk.folder / "sweep"
    said = birdclf(*on_sweep(recordings, "seed=1,2", f"hydra.sweep.dir={sweep}"), cwd=tmp_path).mistake
    assert said.startswith(f"{sweep} cannot be written to: {disk.full}. Nothing was begun.")
