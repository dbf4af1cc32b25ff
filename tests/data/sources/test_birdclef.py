import layouts
import numpy as np
import pytest

from birdclf.audio.resampling import read_waveform
from birdclf.data.sources.birdclef import birdclef_catalog
from birdclf.errors import UserError


def rewrite(path, old, new):
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("year", [2021, 2022, 2025])
def test_the_year_is_recognised_by_what_is_there(tmp_path, year):
    made = birdclef_catalog(str(layouts.birdclef(tmp_path, year)))
    assert made.classes == ("aldfly", "redcro", "wooduc") and set(made.class_counts) == {layouts.EACH}
    row = made.table.set_index("recording_id").loc["aldfly/XC0.ogg"]
    assert row.secondary_labels == "redcro;houspa" and row.type == "call;song"
    assert row.scientific_name == "Empidonax alnorum" and row.common_name == "Alder Flycatcher"
    assert row.group == "Zoë Müller, 0" and row.license.startswith("Creative Commons")
    assert row.latitude == 47.5 and row.longitude == -8.25
    assert np.isnan(row.quality) and made.table.quality.dropna().unique().tolist() == [3.5]
    assert (made.table.secondary_labels[1:6] == "").all()
    assert ("class_name" in made.table) == (year == 2025)
    assert all(len(read_waveform(made.reader, clip, layouts.RATE_HZ)) == 24_000 for clip in made.clips())
    made.table.to_parquet(tmp_path / "table.parquet")


def test_labels_stay_text(tmp_path):
    made = birdclef_catalog(str(layouts.birdclef(tmp_path, 2025, labels={"007": "a", "1139490": "b", "NA": "c"})))
    assert made.classes == ("007", "1139490", "NA")
    assert made.table.recording_id.str.startswith(("007/", "1139490/", "NA/")).all()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_changes_nothing(tmp_path, encoding):
    assert len(birdclef_catalog(str(layouts.birdclef(tmp_path, 2022, encoding)))) == 18


def test_latin_1_is_refused_with_the_line_and_the_remedy(tmp_path):
    layouts.birdclef(tmp_path, 2022, "latin-1")
    with pytest.raises(UserError, match=r"train_metadata\.csv: line 2 is not UTF-8 \(byte 0xEB\).*iconv"):
        birdclef_catalog(str(tmp_path))


def test_awkward_file_names(tmp_path):
    layouts.birdclef(tmp_path, 2022)
    names = ["a b.ogg", "a,b.ogg", "a=b.ogg", "a\"b'.ogg", "äöü.ogg", "a\nb.ogg"]
    rows = [{"primary_label": "aldfly", "filename": f"aldfly/{name}"} for name in names]
    for name in names:
        layouts.sound(tmp_path / "train_audio" / "aldfly" / name, 900.0)
    layouts.write_csv(tmp_path / "train_metadata.csv", "primary_label filename", rows)
    made = birdclef_catalog(str(tmp_path))
    assert sorted(made.table.recording_id) == sorted(f"aldfly/{name}" for name in names)
    assert all(len(read_waveform(made.reader, clip, 16_000)) for clip in made.clips())
    assert (made.table.group == "").all() and made.table.quality.isna().all()


def test_a_missing_file_stays_in_the_table(tmp_path):
    layouts.birdclef(tmp_path, 2022)
    (tmp_path / "train_audio" / "aldfly" / "XC0.ogg").unlink()
    made = birdclef_catalog(str(tmp_path))
    row = made.table.set_index("recording_id").loc["aldfly/XC0.ogg"]
    assert len(made) == 18 and row.stamp == "absent"


def test_nothing_unpacked_is_refused(tmp_path):
    layouts.birdclef(tmp_path, 2022)
    for file in tmp_path.rglob("*.ogg"):
        file.unlink()
    with pytest.raises(UserError, match="none of its 18 recordings"):
        birdclef_catalog(str(tmp_path))


@pytest.mark.parametrize("name", ["../train_metadata.csv", "/etc/passwd", "aldfly/../../x.ogg", "aldfly/a\0.ogg"])
def test_no_path_climbs_out(tmp_path, name):
    layouts.birdclef(tmp_path, 2022)
    rewrite(tmp_path / "train_metadata.csv", "aldfly/XC3.ogg", name)
    with pytest.raises(UserError, match="line 5 names .* not a file below"):
        birdclef_catalog(str(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scientific_name", "author", "2 columns named 'author'"),
        ("primary_label", "label", r"lacks the column\(s\) primary_label; it has label"),
        ("aldfly/XC0.ogg", "", "line 2 has no filename"),
        ("aldfly/XC0.ogg", "x,y", "line 2 has 14 values for 13 columns"),
        ("\"['redcro', 'houspa']\"", "\"['redcro', 'houspa'\"", "line 2 has secondary_labels .* not a list"),
        ("aldfly/XC1.ogg", "aldfly/XC0.ogg", "'aldfly/XC0.ogg' occurs more than once"),
    ],
)
def test_a_spoilt_table_is_refused_with_file_and_line(tmp_path, old, new, message):
    layouts.birdclef(tmp_path, 2022)
    rewrite(tmp_path / "train_metadata.csv", old, new)
    with pytest.raises(UserError, match=message):
        birdclef_catalog(str(tmp_path))


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        birdclef_catalog(str(tmp_path / "none"))
    with pytest.raises(UserError, match="not a BirdCLEF download: expected train_metadata.csv"):
        birdclef_catalog(str(tmp_path))
    layouts.birdclef(tmp_path, 2021)
    layouts.birdclef(tmp_path, 2025)
    with pytest.raises(UserError, match="BirdCLEF downloads at once"):
        birdclef_catalog(str(tmp_path))


def test_columns_without_a_name_are_dropped(tmp_path):
    layouts.birdclef(tmp_path, 2022)
    plain = birdclef_catalog(str(tmp_path)).table
    table = tmp_path / "train_metadata.csv"
    table.write_text("".join(f"{line},,\n" for line in table.read_text(encoding="utf-8").splitlines()))
    assert birdclef_catalog(str(tmp_path)).table.equals(plain)


def test_an_empty_table_is_refused(tmp_path):
    layouts.birdclef(tmp_path, 2025)
    (tmp_path / "train.csv").write_bytes(b"")
    with pytest.raises(UserError, match="it has none"):
        birdclef_catalog(str(tmp_path))
    layouts.write_csv(tmp_path / "train.csv", layouts.BIRDCLEF[2025], [])
    with pytest.raises(UserError, match="no recording"):
        birdclef_catalog(str(tmp_path))


@pytest.mark.parametrize("year", [2021, 2022, 2025])
def test_secondary_labels_that_are_a_species_of_the_source(tmp_path, year, caplog):
    with caplog.at_level("INFO"):
        made = birdclef_catalog(str(layouts.birdclef(tmp_path, year))).table.set_index("recording_id")
    assert made.labels["aldfly/XC0.ogg"] == ("aldfly", "redcro") and made.labels["aldfly/XC1.ogg"] == ("aldfly",)
    assert made.labels["redcro/XC1000.ogg"] == ("redcro",)
    assert "1 secondary species are no species of this source and are dropped: houspa" in caplog.text
