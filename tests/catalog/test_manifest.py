import pandas as pd
import pytest

from birdclf.catalog.manifest import manifest_catalog
from birdclf.errors import UserError


@pytest.fixture
def write(tmp_path, tone):
    """Return a writer of a manifest beside three recordings of 2 s: ``audio/{a,b,c}.wav``."""
    for name in "abc":
        tone(tmp_path / "audio" / f"{name}.wav", seconds=2.0, rate=16_000)

    def writer(kind: str = "csv", **columns) -> str:
        table = pd.DataFrame(
            {"path": [f"audio/{n}.wav" for n in "abc"], "species": ["wren", "robin", "wren"]} | columns
        )
        path = tmp_path / f"list.{kind}"
        table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
        return str(path)

    return writer


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_paths_are_relative_to_the_table(write, kind, tmp_path, monkeypatch):
    path = write(kind)
    monkeypatch.chdir("/")
    made = manifest_catalog(path)
    assert list(made.table.recording_id) == ["audio/a.wav", "audio/b.wav", "audio/c.wav"]
    assert list(made.table.path) == [str(tmp_path / "audio" / f"{n}.wav") for n in "abc"]
    assert made.classes == ("robin", "wren")
    assert made.table.duration_s.tolist() == [2.0] * 3 and (made.table.sample_rate_hz == 16_000).all()
    assert [len(made.reader.read(clip, 16_000)) for clip in made.clips()] == [32_000] * 3


def test_absolute_paths_work(write, tmp_path):
    made = manifest_catalog(write(path=[str(tmp_path / "audio" / f"{n}.wav") for n in "abc"]))
    assert [len(made.reader.read(clip, 16_000)) for clip in made.clips()] == [32_000] * 3


def test_optional_columns(write):
    made = manifest_catalog(
        write(
            recording_id=["z", "y", "x"],
            group=["ann", None, "bob"],
            start_s=[0.5, None, None],
            end_s=[1.5, None, 99.0],
            split=["train", "val", None],
            remark=["p", "q", "r"],
        )
    )
    table = made.table.set_index("recording_id")
    assert list(table.index) == ["x", "y", "z"]
    assert list(table.group) == ["bob", "", "ann"]
    assert list(table.start_s) == [0, 0, 0.5] and list(table.end_s) == [99.0, float("inf"), 1.5]
    assert list(table.duration_s) == [2.0, 2.0, 1.0]
    assert list(table.remark) == ["r", "q", "p"]
    assert table.split.isna().tolist() == [True, False, False]
    assert {clip.recording_id: len(made.reader.read(clip, 16_000)) for clip in made.clips()}["z"] == 16_000


def test_stretches_of_one_file_get_ids_of_their_own(write):
    made = manifest_catalog(write(path=["audio/a.wav"] * 3, start_s=[0.0, 0.5, 1.0], end_s=[float("inf"), 1.0, 1.5]))
    assert list(made.table.recording_id) == ["audio/a.wav", "audio/a.wav#0.5-1", "audio/a.wav#1-1.5"]


def test_the_same_stretch_twice_is_refused(write):
    with pytest.raises(UserError, match="occurs more than once"):
        manifest_catalog(write(path=["audio/a.wav", "audio/a.wav", "audio/b.wav"]))


def test_numbers_with_leading_zeros_stay_names(write):
    made = manifest_catalog(write(recording_id=["001", "002", "003"], species=["07", "08", "07"]))
    assert list(made.table.recording_id) == ["001", "002", "003"]
    assert made.classes == ("07", "08")


def test_a_row_without_an_id_is_refused_by_its_number(write):
    with pytest.raises(UserError, match="row 2 has no recording_id"):
        manifest_catalog(write(recording_id=["x", None, "z"]))


@pytest.mark.parametrize("column", ["path", "species"])
def test_a_missing_column_is_named_with_those_there_are(tmp_path, column):
    table = pd.DataFrame({"path": ["a.wav"], "species": ["x"], "colour": ["red"]}).drop(columns=column)
    table.to_csv(tmp_path / "list.csv", index=False)
    with pytest.raises(UserError, match=rf"lacks the column\(s\) {column};.*colour"):
        manifest_catalog(str(tmp_path / "list.csv"))


def test_an_empty_cell_is_named_by_its_row(write):
    with pytest.raises(UserError, match="row 2 has no species"):
        manifest_catalog(write(species=["wren", None, "wren"]))


def test_a_path_that_does_not_exist_is_named(write):
    with pytest.raises(UserError, match=r"1 of 3 rows .*'audio/gone\.wav'"):
        manifest_catalog(write(path=["audio/a.wav", "audio/gone.wav", "audio/c.wav"]))


@pytest.mark.parametrize("stretch", [(1.0, 1.0), (1.5, 1.0), (-0.5, 1.0)])
def test_a_backward_stretch_is_refused(write, stretch):
    with pytest.raises(UserError, match="start_s < end_s"):
        manifest_catalog(write(start_s=[stretch[0], 0, 0], end_s=[stretch[1], 1, 1]))


def test_words_for_seconds_are_refused(write):
    with pytest.raises(UserError, match="start_s must hold seconds"):
        manifest_catalog(write(start_s=["0:05", "0", "0"]))


def test_a_missing_or_foreign_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        manifest_catalog(str(tmp_path / "list.csv"))
    (tmp_path / "list.xlsx").write_text("x")
    with pytest.raises(UserError, match=r"\.csv or a \.parquet"):
        manifest_catalog(str(tmp_path / "list.xlsx"))


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_a_broken_table_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        manifest_catalog(str(tmp_path / name))


def test_a_table_without_rows_is_refused(tmp_path):
    (tmp_path / "list.csv").write_text("path,species\n")
    with pytest.raises(UserError, match="no recording"):
        manifest_catalog(str(tmp_path / "list.csv"))


def test_the_hash_follows_sound_and_not_order(write, tmp_path, tone):
    before = manifest_catalog(write()).content_hash
    backwards = write(path=[f"audio/{n}.wav" for n in "cba"], species=["wren", "robin", "wren"])
    assert manifest_catalog(backwards).content_hash == before
    assert manifest_catalog(write(), min_duration_s=0.5).content_hash != before
    assert manifest_catalog(write(end_s=[1.0, None, None])).content_hash != before
    tone(tmp_path / "audio" / "a.wav", seconds=2.1, rate=16_000)
    assert manifest_catalog(write()).content_hash != before
