import os

import pytest

from birdclf.audio.resampling import read_waveform
from birdclf.data.sources.folder import folder_catalog
from birdclf.errors import UserError


def test_a_folder_a_species_at_any_depth(tmp_path, tone):
    tone(tmp_path / "robin" / "a.wav", seconds=1.5, rate=44_100)
    tone(tmp_path / "robin" / "2024" / "may" / "b.FLAC")
    tone(tmp_path / "song thrush" / "c.ogg")
    tone(tmp_path / "song thrush" / "d.mp3")
    (tmp_path / "song thrush" / "notes.txt").write_text("no sound")
    made = folder_catalog(str(tmp_path))
    assert list(made.table.recording_id) == [
        "robin/2024/may/b.FLAC",
        "robin/a.wav",
        "song thrush/c.ogg",
        "song thrush/d.mp3",
    ]
    assert made.classes == ("robin", "song thrush")
    assert made.table.duration_s.isna().all() and (made.table.sample_rate_hz == 0).all()  # no file is opened
    for clip in made.clips():
        assert os.path.isabs(clip.path)
        assert len(read_waveform(made.reader, clip, 32_000)) >= 30_000


def test_ids_do_not_depend_on_where_the_folder_lies(tmp_path, tone, monkeypatch):
    tone(tmp_path / "here" / "robin" / "a.wav")
    monkeypatch.chdir(tmp_path)
    ids = [list(folder_catalog(root).table.recording_id) for root in ("here", "./here/", str(tmp_path / "here"))]
    assert ids == [["robin/a.wav"]] * 3


def test_hidden_files_and_folders_are_skipped(tmp_path, tone):
    tone(tmp_path / "robin" / "a.wav")
    tone(tmp_path / "robin" / "._a.wav")
    tone(tmp_path / ".trash" / "b.wav")
    tone(tmp_path / "robin" / ".old" / "c.wav")
    assert list(folder_catalog(str(tmp_path)).table.recording_id) == ["robin/a.wav"]


def test_files_beside_the_species_are_skipped(tmp_path, tone):
    tone(tmp_path / "loose.wav")
    with pytest.raises(UserError, match="holds no recording"):
        folder_catalog(str(tmp_path))
    tone(tmp_path / "robin" / "a.wav")
    assert list(folder_catalog(str(tmp_path)).table.recording_id) == ["robin/a.wav"]


def test_what_cannot_be_decoded_stays_in_the_catalog(tmp_path, tone):
    tone(tmp_path / "robin" / "a.wav")
    (tmp_path / "robin" / "b.wav").write_text("no sound")
    assert list(folder_catalog(str(tmp_path)).table.recording_id) == ["robin/a.wav", "robin/b.wav"]


def test_links_without_an_end_stay_in_the_catalog(tmp_path, tone):
    tone(tmp_path / "robin" / "a.wav")
    (tmp_path / "robin" / "b.wav").symlink_to(tmp_path / "unplugged" / "b.wav")
    (tmp_path / "robin" / "c.wav").symlink_to("c.wav")
    table = folder_catalog(str(tmp_path)).table
    assert list(table.recording_id) == ["robin/a.wav", "robin/b.wav", "robin/c.wav"]
    assert list(table.stamp == "absent") == [False, True, True]


def test_links_are_followed_but_in_circles(tmp_path, tone, caplog):
    sound = tone(tmp_path / "elsewhere" / "a.wav")
    root = tmp_path / "root"
    (root / "robin").mkdir(parents=True)
    (root / "robin" / "b.wav").symlink_to(sound)
    (root / "robin" / "up").symlink_to(root)
    (root / "wren").symlink_to(tmp_path / "elsewhere")
    table = folder_catalog(str(root)).table
    assert list(table.recording_id) == ["robin/b.wav", "wren/a.wav"] and list(table.path) == 2 * [str(sound)]
    assert "skipped 1 link to a folder that is listed already or above" in caplog.text
    (root / "wren again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "in a circle").symlink_to(root / "robin")
    (tmp_path / "elsewhere" / "above").symlink_to(tmp_path)
    table = folder_catalog(str(root)).table
    assert list(table.recording_id) == ["robin/b.wav", "wren/a.wav"]
    assert "skipped 4 links to folders that are listed already or above" in caplog.text


def test_a_folder_that_cannot_be_read_is_named_and_skipped(tmp_path, tone, forbid, caplog):
    tone(tmp_path / "robin" / "a.wav")
    tone(tmp_path / "wren" / "b.wav")
    forbid(tmp_path / "wren")
    assert list(folder_catalog(str(tmp_path)).table.recording_id) == ["robin/a.wav"]
    assert f"{tmp_path / 'wren'} cannot be read (Permission denied)" in caplog.text
    forbid(tmp_path)
    with pytest.raises(UserError, match=rf"^{tmp_path} cannot be read: Permission denied. Check its permissions"):
        folder_catalog(str(tmp_path))


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match="gone is not a folder"):
        folder_catalog(str(tmp_path / "gone"))


def test_an_empty_folder_is_refused_with_the_layout(tmp_path):
    with pytest.raises(UserError, match="<species>/<name>"):
        folder_catalog(str(tmp_path))


def test_a_rewritten_file_changes_the_hash(tmp_path, tone):
    path = tone(tmp_path / "robin" / "a.wav")
    tone(tmp_path / "robin" / "b.wav")
    before = folder_catalog(str(tmp_path)).content_hash
    assert folder_catalog(str(tmp_path)).content_hash == before
    old = path.stat()
    tone(path, hz=4000.0)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1_000_000))
    assert path.stat().st_size == old.st_size
    assert folder_catalog(str(tmp_path)).content_hash != before
