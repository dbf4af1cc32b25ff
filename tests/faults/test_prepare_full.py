"""The disk really fills up while a store or its audit is written: what is done is kept, and the end is the same."""

from pathlib import Path

import pytest
from disks import small_disk, when
from test_prepare_under_pressure import contents, words
from tiny_runs import Command

from birdclf.store import plan, prepare
from birdclf.store.extraction import Extraction
from birdclf.store.plan import Journal

MOMENTS = {
    "frames": (Extraction, "write", 3),
    "journal": (Journal, "keep", 1),
    "index": (plan, "index_of", 1),
    "description": (plan.json, "dumps", 33),
}


@pytest.fixture(scope="module")
def undisturbed(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    cwd = tmp_path_factory.mktemp("undisturbed")
    assert birdclf(*words(recordings, cwd / "store", "run"), cwd=cwd).status == 0
    return contents(cwd / "store")


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_store_is_finished_by_a_second_start(birdclf, recordings, tmp_path, undisturbed, moment):
    with small_disk(tmp_path / "disk") as disk:
        store = disk.folder / "store"
        with pytest.MonkeyPatch.context() as patch:
            when(patch, *MOMENTS[moment], disk.fill)
            said = birdclf(*words(recordings, store, "full"), cwd=tmp_path).mistake
        assert said.startswith(f"The feature store {store}") and disk.full in said
        assert not [path for path in store.glob("*/meta.json") if not path.parent.name.startswith(".")]
        disk.free()
        assert birdclf(*words(recordings, store, "again"), cwd=tmp_path).status == 0
        assert contents(store) == undisturbed


def test_the_audit_is_written_by_a_second_start(birdclf, recordings, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        run, command = disk.folder / "run", words(recordings, tmp_path / "store", str(disk.folder / "run"))
        with pytest.MonkeyPatch.context() as patch:
            when(patch, prepare, "write_page", 1, disk.fill)
            said = birdclf(*command, cwd=tmp_path).mistake
        assert said.startswith(f"{run} cannot be written to: {disk.full}.") and not list(run.glob("*audit*"))
        disk.free()
        assert birdclf(*command, cwd=tmp_path).status == 0
        assert (run / "audit.csv").is_file() and (run / "audit.html").is_file()
