import layouts
import numpy as np
import pytest

from birdclf.audio.resampling import read_waveform
from birdclf.data.sources.kaggle_extended import kaggle_extended_catalog, leading_number
from birdclf.errors import UserError


@pytest.mark.parametrize("apart", [False, True])
def test_both_halves_with_repeats_dropped(tmp_path, apart):
    made = kaggle_extended_catalog(str(layouts.kaggle_extended(tmp_path, apart=apart)))
    assert made.classes == ("Alder Flycatcher", "Red Crossbill", "Wood Duck") and len(made) == 18
    row = made.table.set_index("recording_id").loc["XC0"]
    assert row.channels == 2 and row.sample_rate_hz == 16_000 and row.duration_s == 2
    assert row.group == "recordist 0" and row.license == "CC BY-NC 4.0" and np.isnan(row.quality)
    assert row.ebird_code == "aldfly" and row.scientific_name == "Empidonax alnorum"
    assert row.secondary_labels == "Loxia curvirostra_Red Crossbill"
    assert set(made.table.sample_rate_hz) == {16_000, 44_100} and set(made.table.quality.dropna()) == {4.5}
    assert all(len(read_waveform(made.reader, clip, 16_000)) for clip in made.clips())
    made.table.to_parquet(tmp_path / "table.parquet")


@pytest.mark.parametrize(("half", "classes"), [("A-M", {"Alder Flycatcher"}), ("N-Z", {"Red Crossbill", "Wood Duck"})])
@pytest.mark.parametrize("apart", [False, True])
def test_one_half_alone(tmp_path, half, classes, apart, caplog):
    with caplog.at_level("INFO"):
        made = kaggle_extended_catalog(str(layouts.kaggle_extended(tmp_path, (half,), apart)))
    assert set(made.classes) == classes
    said = f"of 18 rows, 0 repeat a recording and {18 - len(made)} are of a half that is not here"
    assert caplog.messages[0] == f"Kaggle extended: {said}"
    dropped = "1 secondary species are no species of this source and are dropped: Loxia curvirostra_Red Crossbill"
    assert (dropped in caplog.text) == (half == "A-M")


def test_a_missing_file_stays_in_the_table(tmp_path):
    layouts.kaggle_extended(tmp_path)
    (tmp_path / "A-M" / "aldfly" / "XC3.mp3").unlink()
    made = kaggle_extended_catalog(str(tmp_path))
    assert len(made) == 18 and made.table.set_index("recording_id").stamp["XC3"] == "absent"


@pytest.mark.parametrize("code", ["../..", "/etc", "aldfly/../.."])
def test_no_path_climbs_out(tmp_path, code):
    layouts.kaggle_extended(tmp_path, ("A-M",))
    path = tmp_path / "A-M train_extended.csv"
    path.write_text(path.read_text().replace(",aldfly,", f",{code},", 1))
    with pytest.raises(UserError, match="line 2 names .* not a file below"):
        kaggle_extended_catalog(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "number"), [("44100 (Hz)", 44_100), ("2 (stereo)", 2), ("1", 1), ("", 0), ("mono", 0)]
)
def test_numbers_with_their_units(text, number):
    assert leading_number(text) == number


@pytest.mark.parametrize("name", ["", "A-M"])
def test_a_folder_that_cannot_be_read_is_named(tmp_path, forbid, name):
    layouts.kaggle_extended(tmp_path, ("A-M",))
    forbid(tmp_path / name)
    with pytest.raises(UserError, match=f"^{tmp_path / name} cannot be read: Permission denied"):
        kaggle_extended_catalog(str(tmp_path))


def test_spoilt_downloads_are_refused(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        kaggle_extended_catalog(str(tmp_path / "none"))
    with pytest.raises(UserError, match="no folder A-M or N-Z"):
        kaggle_extended_catalog(str(tmp_path))
    layouts.kaggle_extended(tmp_path, ("A-M",))
    path = tmp_path / "A-M train_extended.csv"
    text = path.read_text()
    path.write_text("\ufeff" + text, encoding="utf-8")
    assert len(kaggle_extended_catalog(str(tmp_path))) == 6
    path.write_text(text.replace("recordist 0", "Jürgen"), encoding="latin-1")
    with pytest.raises(UserError, match="line 2 is not UTF-8"):
        kaggle_extended_catalog(str(tmp_path))
    path.write_text(text.replace("playback_used", "rating"))
    with pytest.raises(UserError, match="2 columns named 'rating'"):
        kaggle_extended_catalog(str(tmp_path))
    path.unlink()
    with pytest.raises(UserError, match="no CSV with the columns xc_id, ebird_code"):
        kaggle_extended_catalog(str(tmp_path))


def test_secondary_labels_by_either_name(tmp_path):
    made = kaggle_extended_catalog(str(layouts.kaggle_extended(tmp_path))).table.set_index("recording_id")
    assert made.labels["XC0"] == ("Alder Flycatcher", "Red Crossbill") and made.labels["XC1"] == ("Alder Flycatcher",)
    assert made.labels["XC100"] == ("Red Crossbill",)
    only = kaggle_extended_catalog(str(tmp_path), secondary="mask").table.set_index("recording_id")
    assert only.labels["XC0"] == ("Alder Flycatcher",) and only.masked["XC0"] == ("Red Crossbill",)
