from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import example, given
from hypothesis import strategies as st

from birdclf.errors import UserError
from birdclf.store.shard import (
    Shard,
    clear_shards,
    describe_shards,
    shard_numbers,
    shard_overrides,
    shards_beside,
    unbuilt_shards,
)


@given(st.integers(0, 5000), st.integers(1, 400))
@example(0, 3)
@example(2, 3)
@example(10**8, 7)
def test_every_recording_is_in_exactly_one_shard(recordings, count):
    ranges = [shard.range(recordings) for shard in Shard(0, count).all()]
    assert ranges[0].start == 0 and ranges[-1].stop == recordings
    assert all(one.stop == other.start for one, other in zip(ranges, ranges[1:], strict=False))
    sizes = [len(span) for span in ranges]
    assert sum(sizes) == recordings and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("number", "count", "said"),
    [
        (None, 3, r"store\.shards=3 needs a store\.shard.*store\.shard=0 to 2.*-m 'store\.shard=range\(3\)'"),
        (3, 3, r"store\.shard=3 is out of range.*store\.shards=3 it is 0 to 2\. Choose"),
        (-1, 3, r"store\.shard=-1 is out of range.*0 to 2\. Choose"),
        (1, 1, r"store\.shard=1 is out of range.*0 alone\. Choose.*change store\.shards"),
        (None, 0, r"store\.shards=0 is not.*1 or more"),
        (0, -2, r"store\.shards=-2 is not.*1 or more"),
    ],
)
def test_a_shard_that_is_none_is_refused(number, count, said):
    with pytest.raises(UserError, match=said):
        Shard.chosen(number, count)


def test_one_shard_is_an_ordinary_build():
    assert Shard.chosen(None, 1) is Shard.chosen(0, 1) is None
    assert Shard.chosen(0, 2) == Shard(0, 2)


def begin(shard: Shard, store: Path, done: bool) -> None:
    shard.folder(store).mkdir()
    shard.lock(store).touch()
    if done:
        shard.mark(store).touch()


def test_shards_of_another_number_or_store_are_others(tmp_path):
    store, other = tmp_path / "abc", tmp_path / "abd"
    three, four = Shard(1, 3), Shard(1, 4)
    begin(three, store, done=True)
    assert (
        unbuilt_shards([three], store) == []
        and unbuilt_shards([four], store) == [four]
        and unbuilt_shards([three], other) == [three]
    )
    assert shards_beside(store) == [three] and shards_beside(other) == []


def test_a_remark_says_what_is_there_and_what_to_run(tmp_path):
    store = tmp_path / "abc"
    assert describe_shards(store) == ""
    begin(Shard(0, 3), store, done=True)
    begin(Shard(1, 3), store, done=False)
    assert "finished or not: 0,1 of 3" in describe_shards(store) and describe_shards(store).endswith(
        "-m store.shards=3 store.shard=1,2"
    )
    begin(Shard(2, 3), store, done=True)
    assert describe_shards(store).endswith("and store.shards=3 store.shard=1")
    Shard(1, 3).mark(store).touch()  # all are finished, and nobody has put them together
    assert describe_shards(store).endswith("and store.shards=3 store.shard=0")
    begin(Shard(3, 4), store, done=True)
    assert len(describe_shards(store).splitlines()) == 2


def test_of_many_shards_a_message_names_a_few():
    assert shard_numbers(Shard(0, 100).all()) == "0,1,2,3,4,5,6,7,… (100 in all)"
    assert shard_overrides([Shard(5, 6)]) == "store.shards=6 store.shard=5"


def test_shards_are_removed_but_not_while_in_use(tmp_path):
    store = tmp_path / "abc"
    for shard in (Shard(0, 2), Shard(1, 2), Shard(5, 9)):
        begin(shard, store, done=True)
        (shard.folder(store) / "frames.f16").write_bytes(b"some")
    begin(Shard(0, 2), tmp_path / "abd", done=True)
    with FileLock(Shard(1, 2).lock(store)):
        clear_shards(store)
        assert shards_beside(store) == [Shard(1, 2)] and Shard(1, 2).mark(store).exists()
    clear_shards(store)
    left = [".abd.shard-0-of-2", ".abd.shard-0-of-2.finished", "abd.shard-0-of-2.lock"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
