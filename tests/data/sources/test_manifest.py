from datetime import time
from decimal import Decimal
from pathlib import Path

import layouts
import pandas as pd
import pyarrow.parquet
import pytest

from birdclf.audio.resampling import read_waveform
from birdclf.data.sources.manifest import manifest_catalog
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
    assert made.table.duration_s.isna().all() and (made.table.sample_rate_hz == 0).all()  # no file is opened
    assert [len(read_waveform(made.reader, clip, 16_000)) for clip in made.clips()] == [32_000] * 3


def test_absolute_paths_work(write, tmp_path):
    made = manifest_catalog(write(path=[str(tmp_path / "audio" / f"{n}.wav") for n in "abc"]))
    assert [len(read_waveform(made.reader, clip, 16_000)) for clip in made.clips()] == [32_000] * 3


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
    assert list(table.remark) == ["r", "q", "p"]
    assert table.split.isna().tolist() == [True, False, False]
    assert {clip.recording_id: len(read_waveform(made.reader, clip, 16_000)) for clip in made.clips()}["z"] == 16_000


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
    with pytest.raises(UserError, match="column start_s must hold numbers.*0:05"):
        manifest_catalog(write(start_s=["0:05", "0", "0"]))


def test_a_missing_or_foreign_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        manifest_catalog(str(tmp_path / "list.csv"))
    (tmp_path / "list.xlsx").write_text("x")
    with pytest.raises(UserError, match=r"\.csv or a \.parquet"):
        manifest_catalog(str(tmp_path / "list.xlsx"))


@pytest.mark.parametrize(("name", "words"), [("list.csv", "it has none"), ("list.parquet", "cannot be read")])
def test_an_empty_file_is_refused(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=rf"data\.path={tmp_path / name} .*{words}"):
        manifest_catalog(str(tmp_path / name))


def test_a_table_without_rows_is_refused(tmp_path):
    (tmp_path / "list.csv").write_text("path,species\n")
    with pytest.raises(UserError, match="no recording"):
        manifest_catalog(str(tmp_path / "list.csv"))


def test_the_hash_follows_sound_and_not_order(write, tmp_path, tone):
    before = manifest_catalog(write()).content_hash
    backwards = write(path=[f"audio/{n}.wav" for n in "cba"], species=["wren", "robin", "wren"])
    assert manifest_catalog(backwards).content_hash == before
    assert manifest_catalog(write(end_s=[1.0, None, None])).content_hash != before
    tone(tmp_path / "audio" / "a.wav", seconds=2.1, rate=16_000)
    assert manifest_catalog(write()).content_hash != before


def test_figures_that_the_table_knows(write):
    table = manifest_catalog(write(duration_s=[2.0, None, 1.5], sample_rate_hz=[16_000, None, 8_000])).table
    assert table.duration_s.fillna(-1).tolist() == [2.0, -1, 1.5] and table.sample_rate_hz.tolist() == [
        16_000,
        0,
        8_000,
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_quality_is_compared_as_a_number(write, kind):
    path = write(kind, quality=[10, 4, 2], remark=["007", "NA", "nan"])
    assert list(manifest_catalog(path, min_quality=4).table.remark) == ["007", "NA"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_changes_nothing(write, encoding):
    path = Path(write(species=["Grünspecht", "NA", "007"]))
    path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    assert manifest_catalog(str(path)).classes == ("007", "Grünspecht", "NA")


def test_latin_1_is_refused_with_the_line_and_the_remedy(write):
    path = Path(write(species=["wren", "Grünspecht", "wren"]))
    path.write_text(path.read_text(encoding="utf-8"), encoding="latin-1")
    with pytest.raises(UserError, match=r"list\.csv: line 3 is not UTF-8 \(byte 0xFC\).*iconv"):
        manifest_catalog(str(path))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_two_columns_of_one_name_are_refused(write, kind):
    path = Path(write(kind, group=["x", "y", "z"]))
    if kind == "csv":
        path.write_text(path.read_text().replace("group", "species"))
    else:
        table = pyarrow.parquet.read_table(path)
        pyarrow.parquet.write_table(table.rename_columns(["path", "species", "species"]), path)
    with pytest.raises(UserError, match=rf"list\.{kind} has 2 columns named 'species'"):
        manifest_catalog(str(path))


def test_a_line_of_another_length_is_refused(write):
    path = Path(write())
    path.write_text(path.read_text() + "audio/a,b.wav,wren\n")
    with pytest.raises(UserError, match=r"list\.csv: line 5 has 3 values for 2 columns. Quote"):
        manifest_catalog(str(path))


def test_stretches_that_differ_by_a_millisecond_have_ids_of_their_own(write):
    made = manifest_catalog(write(path=["audio/a.wav"] * 3, start_s=[3600.001, 3600.002, 0], end_s=[4000, 4000, 1.5]))
    assert set(made.table.recording_id) == {
        "audio/a.wav#3600.001-4000",
        "audio/a.wav#3600.002-4000",
        "audio/a.wav#0-1.5",
    }


@pytest.fixture(params=["climbs", "absolute", "link to a file", "chain of links to a folder"])
def outside(request, tmp_path, tone):
    """Return a manifest with one row that leads out of its folder, and that row's path."""
    sound = tone(tmp_path / "elsewhere" / "b.wav")
    home = tmp_path / "home"
    tone(home / "a.wav")
    (home / "b.wav").symlink_to(sound)
    (home / "second").symlink_to(tmp_path / "elsewhere")
    (home / "first").symlink_to("second")
    name = {
        "climbs": "../elsewhere/b.wav",
        "absolute": str(sound),
        "link to a file": "b.wav",
        "chain of links to a folder": "first/b.wav",
    }[request.param]
    (home / "list.csv").write_text(f"path,species\na.wav,wren\n{name},robin\n")
    return home / "list.csv", name


def test_a_file_outside_the_folder_is_refused_without_leave(outside, tmp_path):
    path, name = outside
    with pytest.raises(UserError, match=rf"1 of 2 rows name a file outside .*{name!r}.*data\.allow_outside=true"):
        manifest_catalog(str(path))
    table = manifest_catalog(str(path), allow_outside=True).table.set_index("species")
    assert table.path["robin"] == str(tmp_path / "elsewhere" / "b.wav")


def test_a_folder_of_the_same_beginning_is_outside(tmp_path, tone):
    tone(tmp_path / "home2" / "a.wav")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "list.csv").write_text("path,species\n../home2/a.wav,wren\n")
    with pytest.raises(UserError, match="outside"):
        manifest_catalog(str(tmp_path / "home" / "list.csv"))


def test_links_that_stay_inside_and_a_manifest_behind_a_link_are_fine(write, tmp_path):
    path = Path(write(path=["audio/a.wav", "link/b.wav", "link/../c.wav"]))
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to("audio")
    (tmp_path / "c.wav").symlink_to("audio/c.wav")
    inner = [str(tmp_path / "audio" / f"{name}.wav") for name in "abc"]
    (tmp_path / "door").symlink_to(tmp_path)
    for manifest in (path, tmp_path / "door" / path.name):
        assert sorted(manifest_catalog(str(manifest)).table.path) == inner


def test_a_link_that_loops_counts_as_absent(write, tmp_path):
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    with pytest.raises(UserError, match=r"1 of 3 rows name a file that does not exist, first 'loop\.wav'"):
        manifest_catalog(write(path=["audio/a.wav", "loop.wav", "audio/c.wav"]))


def test_some_files_may_be_gone_with_leave_but_not_all(write):
    gone = ["audio/a.wav", "gone.wav", "audio/c.wav"]
    with pytest.raises(UserError, match=r"1 of 3 rows name a file that does not exist, first 'gone\.wav'"):
        manifest_catalog(write(path=gone))
    assert list(manifest_catalog(write(path=gone), allow_absent=True).table.stamp == "absent") == [False, False, True]
    with pytest.raises(UserError, match="3 of 3 rows"):
        manifest_catalog(write(path=["x.wav", "y.wav", "z.wav"]), allow_absent=True)


def test_a_file_without_permission_stays_in_the_catalog(write, tmp_path, forbid):
    path = write()
    before = manifest_catalog(path).content_hash
    forbid(tmp_path / "audio" / "b.wav")
    made = manifest_catalog(path)
    assert list(made.table.stamp == "unreadable") == [False, True, False] and made.content_hash != before


def test_durations_in_parquet_are_seconds(write):
    times = {"start_s": pd.to_timedelta([1, 0, None], "s"), "end_s": pd.to_timedelta([1500, 2000, None], "ms")}
    table = manifest_catalog(write("parquet", **times)).table
    assert table.start_s.tolist() == [1, 0, 0] and table.end_s.tolist() == [1.5, 2, float("inf")]


@pytest.mark.parametrize(
    "ends",
    [
        pd.array([1, 2, None], dtype="Int64"),
        pd.array([1.0, 2.0, None], dtype="Float32"),
        [Decimal("1"), Decimal("2.0"), None],
        ["1", "2e0", None],
        pd.Categorical(["1", "2", None]),
    ],
)
def test_numbers_in_parquet_are_read_whatever_holds_them(write, ends):
    if isinstance(ends, pd.Categorical):
        with pytest.raises(UserError, match="column end_s holds values of the type categorical"):
            manifest_catalog(write("parquet", end_s=ends))
    else:
        assert manifest_catalog(write("parquet", end_s=ends)).table.end_s.tolist() == [1, 2, float("inf")]


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("start_s", pd.to_datetime(["2020-01-01"] * 3), "datetime"),
        ("start_s", [time(0, 0, 1)] * 3, "time"),
        ("start_s", [True, False, True], "boolean"),
        ("end_s", [True, None, True], "boolean"),
        ("end_s", [b"1", b"2", b"3"], "bytes"),
        ("duration_s", [[1], [2], [3]], "mixed"),
        ("sample_rate_hz", pd.to_timedelta([1, 2, 3], "s"), "timedelta"),
        ("species", [b"wren", b"robin", b"wren"], "bytes"),
        ("species", [1.0, 2.0, 3.5], "floating"),
        ("recording_id", [True, False, None], "boolean"),
    ],
)
def test_other_types_in_parquet_are_refused_by_name(write, column, values, kind):
    with pytest.raises(UserError, match=rf"list\.parquet: column {column} holds values of the type {kind}"):
        manifest_catalog(write("parquet", **{column: values}))


def test_whole_numbers_may_be_names(write):
    assert manifest_catalog(write("parquet", species=[7, 12, 7])).classes == ("12", "7")


@pytest.mark.parametrize("cell", ["nan", "NA", "0,5", "True", "1 s"])
def test_a_cell_that_is_no_number_is_refused(write, cell):
    with pytest.raises(UserError, match="column start_s must hold numbers, with a point before decimals"):
        manifest_catalog(write("csv", start_s=["0", cell, "0"]))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_pointer_of_git_lfs_is_called_that(write, kind):
    path = Path(write(kind))
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UserError, match=rf"list\.{kind} is a Git LFS pointer, not the file itself.*git lfs pull"):
        manifest_catalog(str(path))


@pytest.mark.parametrize(
    ("cell", "labels"),
    [("", ("a",)), ("b;a", ("a", "b")), ("['b', 'c']", ("a", "b", "c")), ('"[""b""]"', ("a", "b")), ("b", ("a", "b"))],
)
def test_a_column_of_labels(tmp_path, cell, labels):
    layouts.sound(tmp_path / "a.wav", 900.0)
    quoted = f'"{cell}"' if "," in cell else cell
    (tmp_path / "m.csv").write_text(f"recording_id,path,species,labels\n1,a.wav,a,{quoted}\n2,a.wav,none,\n")
    made = manifest_catalog(str(tmp_path / "m.csv")).table
    assert made.labels.tolist() == [labels, ()]


def test_lists_of_labels_in_parquet(tmp_path):
    layouts.sound(tmp_path / "a.wav", 900.0)
    rows = {"recording_id": ["1", "2", "3"], "path": "a.wav", "species": ["a", "b", "none"]}
    pd.DataFrame(rows | {"labels": [["c", "a"], None, []]}).to_parquet(tmp_path / "m.parquet")
    assert manifest_catalog(str(tmp_path / "m.parquet")).table.labels.tolist() == [("a", "c"), ("b",), ()]


@pytest.mark.parametrize(("cell", "said"), [("none,b", "has the labels 'b'"), ("a,[b", "which is not a list such as")])
def test_labels_that_cannot_be(tmp_path, cell, said):
    layouts.sound(tmp_path / "a.wav", 900.0)
    (tmp_path / "m.csv").write_text(f"path,species,labels\na.wav,{cell}\n")
    with pytest.raises(UserError, match=said):
        manifest_catalog(str(tmp_path / "m.csv"))
