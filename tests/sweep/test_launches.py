"""Which sweep was launched last is no matter of the clock, and a name is given to one command only."""

import os

import pytest

from birdclf.files import new_run
from birdclf.sweep.launches import launch_of, launched_before, new_sweep, note_launch, words_of

WORDS = ["seed=1,2"]


def test_the_one_launched_last_is_found_though_the_clock_was_set_back(tmp_path):
    for name, mtime in (("first", 2e9), ("second", 1e9)):
        note_launch(tmp_path / name, WORDS)
        os.utime(tmp_path / name / "sweep.json", (mtime, mtime))
    note_launch(tmp_path / "other", ["seed=3"])
    assert launched_before(tmp_path, WORDS) == tmp_path / "second"
    note_launch(tmp_path / "first", WORDS)  # it was gone on with
    assert launched_before(tmp_path, WORDS) == tmp_path / "first" and launch_of(tmp_path / "first") == 4
    assert launched_before(tmp_path, ["seed=4"]) is None


def test_an_older_or_damaged_sweep_file_is_no_obstacle(tmp_path):
    for name, text in (("old", '{"words": ["seed=1,2"]}'), ("empty", ""), ("list", "[1]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sweep.json").write_text(text)
    assert words_of(tmp_path / "empty") is None and words_of(tmp_path / "list") is None
    assert launched_before(tmp_path, WORDS) == tmp_path / "old" and launch_of(tmp_path / "old") == 0


def test_a_run_gets_the_next_free_name(tmp_path):
    names = [new_run(tmp_path / "run" / "12-00-00").name for _ in range(3)]
    assert names == ["12-00-00", "12-00-00_2", "12-00-00_3"]
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        new_run(tmp_path / "file" / "12-00-00")


def test_a_sweep_shares_a_name_only_with_itself(tmp_path):
    wanted = tmp_path / "sweep" / "12-00-00"
    assert new_sweep(wanted, WORDS, share=True) == wanted and words_of(wanted) == WORDS
    assert new_sweep(wanted, WORDS, share=True) == wanted
    assert new_sweep(wanted, ["seed=3"], share=True).name == "12-00-00_2"
    assert new_sweep(wanted, WORDS, share=False).name == "12-00-00_3"
    assert len(list(wanted.parent.iterdir())) == 3
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        new_sweep(tmp_path / "file" / "12-00-00", WORDS, share=True)
