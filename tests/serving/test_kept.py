"""The folder of a page."""

import json
from pathlib import Path

import pytest

from birdclf.commands.serve import folder_of
from birdclf.errors import UserError
from birdclf.serving.session import KeptFolder


def test_a_new_folder_and_the_same_again(tmp_path: Path):
    for _ in range(2):
        with KeptFolder(tmp_path / "a" / "b").lock():
            pass
    assert json.loads((tmp_path / "a" / "b" / "serve.json").read_text()) == {"format": 1}


def test_a_folder_that_holds_something_else(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no uploads of birdclf serve"):
        KeptFolder(tmp_path)
    with pytest.raises(UserError, match="holds no uploads"):
        KeptFolder(tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("content", "words"), [("", "cannot be read"), ("[]", "cannot be read"), ('{"format": 2}', "format 2")]
)
def test_a_mark_that_is_damaged_or_newer(tmp_path: Path, content: str, words: str):
    (tmp_path / "serve.json").write_text(content)
    with pytest.raises(UserError, match=words):
        KeptFolder(tmp_path)


def test_a_link_out_of_the_folder(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    KeptFolder(tmp_path / "kept").recordings.rmdir()
    (tmp_path / "kept" / "recordings").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link to another folder"):
        KeptFolder(tmp_path / "kept")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_two_servers_cannot_share_it(tmp_path: Path):
    with (
        KeptFolder(tmp_path / "kept").lock(),
        pytest.raises(UserError, match="is used by another birdclf serve"),
        KeptFolder(tmp_path / "kept").lock(),
    ):
        pass


def test_what_a_kill_left_is_cleared_away(tmp_path: Path):
    folder = KeptFolder(tmp_path / "kept")
    folder.temporary().write_bytes(b"half")
    (folder.recordings / "0123_song.wav").write_bytes(b"whole")
    with folder.lock():
        assert [path.name for path in folder.recordings.iterdir()] == ["0123_song.wav"]


def test_where_it_is_unless_given(tmp_path: Path):
    assert folder_of(tmp_path, None) == tmp_path / "serve"
    assert folder_of(tmp_path / "model.onnx", None) == tmp_path / "model_serve"
    assert folder_of(tmp_path, Path("~/birds")) == Path.home() / "birds"
