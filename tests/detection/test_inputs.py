"""Which recordings a user's words name."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.detection.inputs import LONGEST_BYTES, recordings_of
from birdclf.errors import UserError
from birdclf.text import printable


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch) -> Path:
    """A folder with sound, what is none, what is hidden and links; it is the working directory."""
    for name in (
        "one.wav", "two.FLAC", "notes.txt", ".hidden.wav", "site/one.wav", "site/deep/three.mp3", ".secret/four.ogg",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "again.wav").symlink_to("one.wav")
    (tmp_path / "loop").symlink_to(".")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(*words, listed=()):
    return [one.path for one in recordings_of(words, listed)]


def test_a_folder_is_the_sound_below_it(shelf: Path):
    found = recordings_of(["."])
    assert [one.path for one in found] == ["./again.wav", "./two.FLAC", "./site/one.wav", "./site/deep/three.mp3"]
    assert [one.name for one in found] == ["again.wav", "two.FLAC", "site/one.wav", "site/deep/three.mp3"]
    assert found[0].file == str(shelf / "one.wav"), "again.wav is a link to it, and comes first"


def test_a_file_is_taken_whatever_it_is_called(shelf: Path):
    assert paths("notes.txt", ".hidden.wav") == ["notes.txt", ".hidden.wav"]


def test_what_is_skipped_is_counted(shelf: Path, tmp_path_factory, caplog):
    for name in ("a.m4a", "site/B.M4A", "c.wma", "d.AIF", "none"):
        (shelf / name).touch()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "wren.opus").touch()
    (shelf / "linked").symlink_to(elsewhere)
    found = paths(".")
    assert "./d.AIF" in found and "./linked/wren.opus" in found
    (message,) = caplog.messages
    assert message.startswith(".: skipped 5 files with other endings (.m4a 2, ")
    assert message.endswith(") and 1 link to a folder that is listed already or above")
    assert all(part in message for part in (".wma 1", ".txt 1", "none 1"))
    caplog.clear()
    assert paths("*.[mw]*") == ["again.wav"]
    assert caplog.messages[0].startswith("*.[mw]*: skipped 2 files with other endings (.m4a 1, .wma 1")


def test_patterns(shelf: Path):
    assert paths("*.wav") == ["again.wav"]  # one.wav is the same file
    assert paths("**/*.mp3") == ["site/deep/three.mp3"]
    assert paths("[ast]*") == ["again.wav", "site/one.wav", "site/deep/three.mp3", "two.FLAC"]
    assert paths("sit?") == ["site/one.wav", "site/deep/three.mp3"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(shelf: Path):
    (shelf / "song[1].wav").touch()
    assert paths("song[1].wav") == ["song[1].wav"]


def test_each_file_is_decoded_once_as_it_was_first_named(shelf: Path):
    assert paths("one.wav", "./one.wav", str(shelf / "one.wav"), "again.wav", "loop/one.wav") == ["one.wav"]


def test_a_list_stands_where_its_dash_stands(shelf: Path):
    listed = ["one.wav\r", "", "site", " spaced.wav"]
    (shelf / " spaced.wav").touch()
    expected = ["two.FLAC", "one.wav", "site/one.wav", "site/deep/three.mp3", " spaced.wav", "notes.txt"]
    assert paths("two.FLAC", "-", "notes.txt", listed=listed) == expected


def test_results_of_files_with_one_name_go_to_different_places(shelf: Path):
    (shelf / "ONE.flac").touch()
    names = [one.name for one in recordings_of(["one.wav", "site/one.wav", "ONE.flac", "site"])]
    assert names == ["one.wav", "one (2).wav", "ONE (3).flac", "deep/three.mp3"]


def test_names_given_before_are_kept_and_not_given_again(shelf: Path):
    named = {str(shelf / "site" / "one.wav"): "one.wav"}
    assert [one.name for one in recordings_of(["one.wav", "site/one.wav"], named=named)] == ["one (2).wav", "one.wav"]
    assert [one.name for one in recordings_of(["one.wav"], named=named)] == ["one (2).wav"]


@given(st.lists(st.sampled_from(["a.wav", "A.flac", "a (2).wav", "b.wav", "a\tb.ogg"]), unique=True), st.integers(0, 3))
def test_no_two_share_a_table(tmp_path_factory, names, folders):
    root = tmp_path_factory.mktemp("names")
    for folder in range(folders + 1):
        (root / str(folder)).mkdir()
        for name in [*names, "last.wav"]:
            (root / str(folder) / name).touch()
    found = recordings_of([str(root / str(folder)) for folder in range(folders + 1)])
    assert len(found) == (len(names) + 1) * (folders + 1)
    assert len({printable(os.path.splitext(one.name)[0]).casefold() for one in found}) == len(found)


@pytest.mark.parametrize("stem", ["n" * 250, "鸟" * 83, "\x1b" * 200])
def test_a_very_long_name_leaves_room_for_an_ending(shelf: Path, stem: str):
    (shelf / "long").mkdir()
    (shelf / "long" / f"{stem}.wav").touch()
    (found,) = recordings_of(["long"])
    assert len(found.name.encode()) <= LONGEST_BYTES + len(".wav") and found.name.endswith(".wav")
    assert found.file == str(shelf / "long" / f"{stem}.wav")


def test_what_is_missing_is_named(shelf: Path):
    with pytest.raises(UserError, match=r"gone\.wav does not exist"):
        recordings_of(["one.wav", "gone.wav"])
    with pytest.raises(UserError, match=r"No file fits gone\*\.wav"):
        recordings_of(["gone*.wav"])
    (shelf / "empty").mkdir()
    for words, listed in (["empty"], ()), (["-"], ()), (["-"], ["", "\r"]):
        with pytest.raises(UserError, match="There is no sound file"):
            recordings_of(words, listed)


def test_a_link_to_nothing_is_left_to_be_reported_later(shelf: Path):
    (shelf / "dangling.wav").symlink_to("nowhere.wav")
    assert paths("dangling.wav") == ["dangling.wav"]


def test_a_pattern_ends_where_links_loop(shelf: Path):
    (shelf / "site" / "up").symlink_to("..")
    assert paths("site/**/*.wav", "./**/t*.mp3") == ["site/one.wav", "./site/deep/three.mp3"]
    assert paths("**/*.*") == ["again.wav", "site/deep/three.mp3", "site/one.wav", "two.FLAC"]
    assert paths("s*/**/deep/**/*") == ["site/deep/three.mp3"]
