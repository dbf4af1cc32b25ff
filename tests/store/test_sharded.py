import errno
import logging
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from noise_catalog import Sums, contents, noise_catalog

from birdclf.errors import UserError
from birdclf.store import plan as journal
from birdclf.store import prepare as merge
from birdclf.store.open import FeatureStore, open_store
from birdclf.store.plan import StorePlan
from birdclf.store.prepare import build_shard
from birdclf.store.shard import Shard

N = 7
READER = {"bad": ("r001",), "torn": ("r004",), "seconds": 0.5}


def work(root: Path, number: int, count: int = 3, n: int = N, **reader) -> FeatureStore | None:
    made = noise_catalog(n, **{**READER, **reader})
    return build_shard(made, Sums(), root, Shard(number, count), workers=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of the store that one process builds."""
    return contents(open_store(noise_catalog(N, **READER), Sums(), tmp_path_factory.mktemp("one"), workers=0).folder)


@pytest.fixture(autouse=True)
def _hear(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "birdclf")


@pytest.fixture
def keep_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note each piece of work at once, and merge recording by recording."""
    monkeypatch.setattr(journal, "KEEP_EVERY_S", -1.0)
    monkeypatch.setattr(merge, "RECORDINGS_A_PIECE", 1)


def assert_finished(root: Path, files: dict[str, bytes]) -> None:
    """Assert that a folder of stores holds this one, and nothing else but its lock."""
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    assert contents(folder) == files
    assert [path.name for path in root.iterdir() if path != folder] == [f"{folder.name}.lock"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(st.integers(1, 9), st.integers(2, 5), st.randoms(use_true_random=False))
@example(2, 5, random.Random(0))  # more shards than recordings
def test_shards_in_any_order_make_the_store_of_one_process(tmp_path, n, count, order):
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    numbers = order.sample(range(count), count)
    made = [work(tmp_path / "many", number, count, n) for number in numbers]
    assert all(store is None for store in made[:-1]) and made[-1] is not None
    alone = open_store(noise_catalog(n, **READER), Sums(), tmp_path / "one", workers=0)
    assert made[-1].folder.name == alone.folder.name and made[-1].index.equals(alone.index)
    assert_finished(tmp_path / "many", contents(alone.folder))


def test_a_worker_that_is_not_the_last_says_what_is_missing(tmp_path, caplog):
    assert work(tmp_path, 1) is None
    assert "shard 1 of 3 is finished; not yet: 0,2." in caplog.text
    assert "this one writes neither" in caplog.text and "-m store.shards=3 store.shard=0,2" in caplog.text


def test_where_the_store_is_finished_all_workers_end_at_once(tmp_path, whole, caplog):
    open_store(noise_catalog(N, **READER), Sums(), tmp_path, workers=0)
    assert work(tmp_path, 0, log=str(tmp_path / "log")) is None
    assert not (tmp_path / "log").exists() and "is finished; nothing is left to do" in caplog.text
    assert_finished(tmp_path, whole)


def test_a_worker_that_ended_early_resumes_where_it_stopped(tmp_path, whole, keep_always):
    root, log = tmp_path / "stores", tmp_path / "log"
    work(root, 0), work(root, 2)
    with pytest.raises(KeyboardInterrupt):
        work(root, 1, deadly="r003")
    assert work(root, 1, log=str(log)) is not None
    assert log.read_text().split() == ["r003"]  # of r002 and r003
    assert_finished(root, whole)


def test_a_shard_that_is_finished_is_not_built_again(tmp_path, caplog):
    work(tmp_path / "stores", 1)
    assert work(tmp_path / "stores", 1, log=str(tmp_path / "log")) is None
    assert not (tmp_path / "log").exists() and "shard 1 of 3 is finished already" in caplog.text


def test_workers_at_once_make_one_store_and_read_each_recording_once(tmp_path, whole):
    root, log = tmp_path / "stores", tmp_path / "log"
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda number: work(root, number % 3, log=str(log)), range(6)))  # each shard twice
    assert sum(store is not None for store in made) == 1
    assert sorted(log.read_text().split()) == [f"r{i:03d}" for i in range(N)]
    work(root, 0)  # clears away what was under somebody's hands
    assert_finished(root, whole)


@pytest.mark.parametrize("copies", range(0, 2 * N, 3))
def test_a_merge_that_ended_early_resumes_where_it_stopped(tmp_path, monkeypatch, whole, keep_always, copies):
    root, log, copied = tmp_path / "stores", tmp_path / "log", []
    copy = merge._copy

    def copy_some(source, target, size):
        if len(copied) == copies:
            target.write(b"half a recording"[: size // 2])
            raise KeyboardInterrupt
        copied.append(source)
        copy(source, target, size)

    work(root, 0), work(root, 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(merge, "_copy", copy_some)
        work(root, 2)
    again = []
    monkeypatch.setattr(merge, "_copy", lambda *words: again.append(words) or copy(*words))
    assert work(root, 0, log=str(log)) is not None  # any worker puts it together
    assert not log.exists() and len(again) == 2 * (N - copies // 2)
    assert_finished(root, whole)


def test_shards_stay_until_the_store_is_in_its_place(tmp_path, monkeypatch, whole):
    work(tmp_path, 0), work(tmp_path, 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        work(tmp_path, 2)
    sizes = [path.stat().st_size for path in tmp_path.glob(".*.shard-*/frames.f16")]
    assert len(sizes) == 3 and sum(sizes) == len(whole["frames.f16"])
    assert work(tmp_path, 2) is not None
    assert_finished(tmp_path, whole)


def test_one_process_and_shards_continue_each_others_work(tmp_path, monkeypatch, caplog, whole, keep_always):
    made = noise_catalog(N, **READER, deadly="r005")
    root, log = tmp_path / "stores", tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        open_store(made, Sums(), root, workers=0)
    work(root, 0), work(root, 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StorePlan, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        work(root, 2)
    caplog.clear()
    open_store(noise_catalog(N, **READER, log=str(log)), Sums(), root, workers=0)
    assert not log.exists()  # the merge had copied all of it
    assert "shards of this store, finished or not: 0,1,2 of 3" in caplog.text
    assert "store.shards=3 store.shard=0" in caplog.text
    assert_finished(root, whole)


def test_a_store_that_is_built_beside_shards_says_so_and_removes_them(tmp_path, caplog, whole):
    work(tmp_path, 1)
    open_store(noise_catalog(N, **READER), Sums(), tmp_path, workers=0)
    assert "0" not in caplog.text.split("finished or not: ")[1].split(" of 3")[0]
    assert "-m store.shards=3 store.shard=0,2" in caplog.text
    assert_finished(tmp_path, whole)


def test_shards_of_different_numbers_do_not_mix(tmp_path, whole):
    assert work(tmp_path, 0, 3) is work(tmp_path, 1, 3) is work(tmp_path, 1, 2) is None
    assert work(tmp_path, 2, 3) is not None
    assert_finished(tmp_path, whole)  # the half goes as well


@pytest.mark.parametrize("name", ["frames.f16", "level.f16", journal.JOURNAL])
def test_a_damaged_shard_is_named_and_its_worker_repairs_it(tmp_path, whole, name):
    root, log = tmp_path / "stores", tmp_path / "log"
    work(root, 0), work(root, 1)
    (damaged,) = root.glob(f".*.shard-1-of-3/{name}")
    with open(damaged, "r+b") as file:
        file.truncate(damaged.stat().st_size - 2)
    with pytest.raises(UserError, match=r"shard-1-of-3 is damaged.*store\.shards=3 store\.shard=1"):
        work(root, 2)
    assert work(root, 1, log=str(log)) is not None
    assert log.read_text().split() == ["r003"]  # what was lost, and nothing else
    assert_finished(root, whole)


def test_a_disk_that_fills_up_while_shards_are_merged_is_named(tmp_path, monkeypatch, whole):
    work(tmp_path, 0), work(tmp_path, 1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"No space left.*continues from there"):
        patch.setattr(merge, "_copy", full)
        work(tmp_path, 2)
    assert work(tmp_path, 2) is not None
    assert_finished(tmp_path, whole)
