"""Folders that may only be read: output there is refused in a sentence; a finished store and recordings are enough."""

from pathlib import Path

import pytest
from disks import only_to_be_read, small_disk, when
from test_prepare_under_pressure import contents
from tiny_runs import Command, on_folder

from birdclf.training.callbacks.snapshot import Snapshot


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


@pytest.mark.parametrize("mode", ["run", "sweep"])
def test_an_output_folder_that_cannot_be_is_refused(birdclf, recordings, tmp_path, mode):
    file = tmp_path / "file"
    file.touch()  # there is no folder below a file, not even for root
    more = ["-m", "seed=1,2", f"hydra.sweep.dir={file / 'sweep'}"] if mode == "sweep" else []
    said = birdclf(*on_folder(recordings, file / "run", *more), cwd=tmp_path).mistake
    assert said.startswith(f"{file / mode} cannot be written to: Not a directory. Nothing was begun.")
    assert f"hydra.{mode}.dir=" in said and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("command", ["train", "prepare"])
def test_an_output_folder_that_may_only_be_read_is_refused(birdclf, recordings, tmp_path, command):
    folder = tmp_path / "outputs"
    folder.mkdir()
    with only_to_be_read(folder):
        words = [command, "data=folder", f"data.root={recordings}", f"hydra.run.dir={folder / 'run'}"]
        said = birdclf(*words, cwd=tmp_path).mistake
    assert said.startswith(f"{folder / 'run'} cannot be written to: ") and "Nothing was begun." in said


@pytest.mark.slow
def test_a_run_that_becomes_read_only_keeps_its_state(birdclf, recordings, tmp_path):
    run = tmp_path / "outputs" / "run"
    words = on_folder(recordings, run, "callbacks.snapshot.every_s=0", "loader.batch_size=4")
    made = only_to_be_read(run.parent)
    with pytest.MonkeyPatch.context() as patch:
        when(patch, Snapshot, "_write", 3, made.__enter__)
        try:
            said = birdclf(*words, cwd=tmp_path).mistake
        finally:
            made.__exit__(None, None, None)
    assert said.startswith(f"{run} cannot be written to: ") and "resume=true" in said
    assert birdclf(*words, "resume=true", cwd=tmp_path).status == 0


def test_a_finished_store_and_recordings_need_only_be_read(birdclf: Command, own_recordings: Path, tmp_path: Path):
    store = tmp_path / "store"
    words = on_folder(own_recordings, tmp_path / "one", f"store.dir={store}")
    assert birdclf(*words, cwd=tmp_path).status == 0
    before = stamps(store) | stamps(own_recordings)
    with only_to_be_read(store), only_to_be_read(own_recordings):
        done = birdclf(*words, f"hydra.run.dir={tmp_path / 'two'}", cwd=tmp_path)
    assert done.status == 0, done.err
    assert (tmp_path / "one" / "metrics.json").read_bytes() == (tmp_path / "two" / "metrics.json").read_bytes()
    assert stamps(store) | stamps(own_recordings) == before


def test_a_store_that_is_not_finished_is_refused(birdclf: Command, own_recordings: Path, tmp_path: Path):
    store = tmp_path / "store"
    store.mkdir()
    with only_to_be_read(store):
        said = birdclf(*on_folder(own_recordings, tmp_path / "run", f"store.dir={store}"), cwd=tmp_path).mistake
    assert said.startswith(f"The feature store {store}") and "store.dir=" in said
    assert not contents(store)


def test_recordings_that_may_only_be_read_are_prepared(birdclf: Command, own_recordings: Path, tmp_path: Path):
    before = stamps(own_recordings)
    with only_to_be_read(own_recordings), small_disk(tmp_path / "disk") as disk:
        words = ["prepare", "data=folder", f"data.root={own_recordings}", f"store.dir={disk.folder / 'store'}"]
        assert birdclf(*words, "store.workers=0", cwd=tmp_path).status == 0
    assert stamps(own_recordings) == before
