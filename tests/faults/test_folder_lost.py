"""The output folder goes away under a run: a sentence, nothing is begun in its place, and its state is kept."""

from pathlib import Path

import pytest
from disks import lose, network_folder, when
from stopping import assert_same_end, on_sweep, stamps, words
from tiny_runs import Command

from birdclf.sweep.task import Task
from birdclf.training.callbacks.snapshot import Snapshot


@pytest.fixture(scope="module")
def undisturbed(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert birdclf(*words(recordings, run), cwd=run.parent).status == 0
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [(Snapshot, "_write", 9), pytest.param((Snapshot, "on_train_end", 1), marks=pytest.mark.slow)],
    ids=["within", "at its end"],
)
def test_renamed_away(birdclf, recordings, tmp_path, undisturbed, moment):
    run, away = tmp_path / "outputs" / "run", tmp_path / "away"
    with pytest.MonkeyPatch.context() as patch:
        when(patch, *moment, lambda: run.parent.rename(away))
        said = birdclf(*words(recordings, run), cwd=tmp_path).mistake
    assert said.startswith(f"{run} cannot be written to: No such file or directory.") and "resume=true" in said
    assert not run.parent.exists(), "a folder was made in place of the lost one"
    away.rename(run.parent)
    assert birdclf(*words(recordings, run, "resume=true"), cwd=tmp_path).status == 0
    assert_same_end(run, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("below", ["run", "."], ids=["above", "the mount point itself"])
def test_unmounted(birdclf, recordings, tmp_path, undisturbed, below):
    server, mounted = tmp_path / "server", tmp_path / "network"
    server.mkdir()
    run = mounted / below
    with network_folder(server, mounted), pytest.MonkeyPatch.context() as patch:
        when(patch, Snapshot, "_write", 9, lambda: lose(mounted))
        said = birdclf(*words(recordings, run), cwd=tmp_path).mistake
    assert said.startswith(f"{run} cannot be written to: No such file or directory.")
    assert list(mounted.iterdir()) == [], "something was written below the mount point"
    mounted.rmdir()
    with network_folder(server, mounted):
        assert birdclf(*words(recordings, run, "resume=true"), cwd=tmp_path).status == 0
    assert_same_end(server / below, undisturbed)


@pytest.mark.slow
def test_a_sweep_trains_nothing_in_another_place(birdclf, recordings, tmp_path):
    sweep, away = tmp_path / "sweep", tmp_path / "away"
    command = on_sweep(recordings, "seed=1,2", f"hydra.sweep.dir={sweep}", "trainer.max_epochs=1")
    with pytest.MonkeyPatch.context() as patch:
        when(patch, Task, "_job", 2, lambda: (sweep.rename(away), (sweep / "1_seed-2").mkdir(parents=True)))
        said = birdclf(*command, cwd=tmp_path).mistake
    assert said.startswith(f"{sweep} was lost while its jobs ran.")
    assert not list(sweep.rglob("run.lock")) and len(stamps(away)) == 1
    (sweep / "1_seed-2").rmdir()
    sweep.rmdir()
    away.rename(sweep)
    assert birdclf(*command, cwd=tmp_path).status == 0 and len(stamps(sweep)) == 2
