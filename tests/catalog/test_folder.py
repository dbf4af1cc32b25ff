import os

import pytest

from birdclf.catalog.folder import folder_catalog
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
    row = made.table.set_index("recording_id").loc["robin/a.wav"]
    assert row.duration_s == pytest.approx(1.5) and row.sample_rate_hz == 44_100
    for clip in made.clips():
        assert os.path.isabs(clip.path)
        assert len(made.reader.read(clip, 32_000)) >= 30_000


def test_ids_do_not_depend_on_where_the_folder_lies(tmp_path, tone, monkeypatch):
    tone(tmp_path / "here" / "robin" / "a.wav")
    monkeypatch.chdir(tmp_path)
    ids = [list(folder_catalog(root).table.recording_id) for root in ("here", "./here/", str(tmp_path / "here"))]
    assert ids == [["robin/a.wav"]] * 3


def test_hidden_files_and_folders_are_passed_over(tmp_path, tone):
    tone(tmp_path / "robin" / "a.wav")
    tone(tmp_path / "robin" / "._a.wav")
    tone(tmp_path / ".trash" / "b.wav")
    tone(tmp_path / "robin" / ".old" / "c.wav")
    assert list(folder_catalog(str(tmp_path)).table.recording_id) == ["robin/a.wav"]


def test_files_beside_the_species_are_passed_over(tmp_path, tone):
    tone(tmp_path / "loose.wav")
    with pytest.raises(UserError, match="holds no recording"):
        folder_catalog(str(tmp_path))
    tone(tmp_path / "robin" / "a.wav")
    assert list(folder_catalog(str(tmp_path)).table.recording_id) == ["robin/a.wav"]


def test_an_undecodable_file_stays_in_the_catalog(tmp_path, tone):
    tone(tmp_path / "robin" / "a.wav")
    (tmp_path / "robin" / "b.wav").write_text("no sound")
    row = folder_catalog(str(tmp_path)).table.set_index("recording_id").loc["robin/b.wav"]
    assert row.sample_rate_hz == 0 and row.duration_s != row.duration_s  # the store sets it aside with its reason


def test_a_dangling_link_does_not_stop_the_job(tmp_path, tone):
    tone(tmp_path / "robin" / "a.wav")
    (tmp_path / "robin" / "b.wav").symlink_to(tmp_path / "unplugged" / "b.wav")
    assert "robin/a.wav" in list(folder_catalog(str(tmp_path)).table.recording_id)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match="gone is not a folder"):
        folder_catalog(str(tmp_path / "gone"))


def test_an_empty_folder_is_refused_with_the_layout(tmp_path):
    with pytest.raises(UserError, match="<species>/<name>"):
        folder_catalog(str(tmp_path))


def test_a_file_written_anew_changes_the_hash(tmp_path, tone):
    path = tone(tmp_path / "robin" / "a.wav")
    tone(tmp_path / "robin" / "b.wav")
    before = folder_catalog(str(tmp_path)).content_hash
    assert folder_catalog(str(tmp_path)).content_hash == before
    old = path.stat()
    tone(path, hz=4000.0)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1_000_000))
    assert path.stat().st_size == old.st_size
    assert folder_catalog(str(tmp_path)).content_hash != before


def test_the_minimum_duration_reaches_the_reader_and_the_hash(tmp_path, tone):
    tone(tmp_path / "robin" / "a.wav")
    made = folder_catalog(str(tmp_path), min_duration_s=0.7)
    assert made.reader.min_duration_s == 0.7
    assert made.content_hash != folder_catalog(str(tmp_path)).content_hash
