import os

import pytest

from birdclf.data.tree import folders_in, real_paths, stamp_of, walk
from birdclf.errors import UserError


def test_real_paths_are_those_of_the_standard_library(tmp_path):
    (tmp_path / "here" / "deep").mkdir(parents=True)
    (tmp_path / "there").symlink_to("here")
    (tmp_path / "here" / "a").write_text("a")
    (tmp_path / "here" / "b").symlink_to("deep/../a")
    (tmp_path / "here" / "loop").symlink_to("loop")
    names = ["here/a", "there/a", "there/b", "there/deep/../a", "there/gone", "there/loop", "there/", "there/.", ".."]
    files = [os.path.join(tmp_path, name) for name in names]
    assert real_paths(files) == [os.path.realpath(file) for file in files]
    assert real_paths(files)[2] == str(tmp_path / "here" / "a")


def test_relative_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert real_paths(["a", "b/c"]) == [str(tmp_path / "a"), str(tmp_path / "b" / "c")]


def test_each_folder_is_resolved_once(tmp_path, monkeypatch):
    asked = []
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: asked.append(path) or real(path))
    real_paths([f"{tmp_path}/{folder}/{name}" for folder in "xy" for name in "abc"])
    assert asked == [f"{tmp_path}/x", f"{tmp_path}/y"]


def test_stamps(tmp_path, forbid):
    file = tmp_path / "a.wav"
    file.write_text("1")
    os.utime(file, ns=(0, 5))
    assert stamp_of(file) == "1-5" == stamp_of(str(file))
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    gone = [tmp_path / "gone.wav", tmp_path / "loop.wav", tmp_path, f"{tmp_path}/\0.wav", file / "b.wav"]
    assert {stamp_of(path) for path in gone} == {"absent"}
    forbid(file)
    assert stamp_of(file) == "unreadable"


def test_a_file_in_a_closed_folder_is_unreadable(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", closed)
        stamp = stamp_of(tmp_path / "a.wav")
    assert stamp == "unreadable"


def test_a_name_that_is_not_utf_8_is_skipped_and_named(tmp_path, caplog):
    (tmp_path / "a.wav").write_text("a")
    try:
        os.close(os.open(os.fsencode(tmp_path) + b"/gr\xfcn.wav", os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert list(walk(tmp_path)) == [(str(tmp_path), ["a.wav"])]
    assert f"{tmp_path} holds a name that is not UTF-8, 'gr\\udcfcn.wav'" in caplog.text


def test_folders_are_listed_with_links_and_without_hidden_ones(tmp_path, forbid):
    for name in ("b", "a", ".git"):
        (tmp_path / name).mkdir()
    (tmp_path / "c").symlink_to("a")
    (tmp_path / "file").write_text("")
    assert [path.name for path in folders_in(tmp_path)] == ["a", "b", "c"]
    forbid(tmp_path)
    with pytest.raises(UserError, match=rf"^{tmp_path} cannot be read: Permission denied"):
        folders_in(tmp_path)
