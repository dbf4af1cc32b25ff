import layouts
import pytest

from birdclf.audio.resampling import read_waveform
from birdclf.data.sources.soundscape import soundscape_catalog
from birdclf.errors import UserError


def test_segments_of_all_recordings_with_their_sets_of_labels(tmp_path, caplog):
    with caplog.at_level("INFO"):
        made = soundscape_catalog(str(layouts.soundscape(tmp_path)), segment_s=2.0)
    table = made.table
    assert len(table) == 30 and table.group.nunique() == 6
    one = table[table.recording == "site 0/a,b2.wav"]
    assert one.recording_id.tolist() == [f"site 0/a,b2.wav#{span}" for span in ("0-2", "2-4", "4-6", "6-8", "8-10")]
    assert one.labels.tolist() == [("Alauda arvensis", "Bubo bubo"), ("Bubo bubo",), (), (), ()]
    assert one.species.tolist() == ["Alauda arvensis", "Bubo bubo", "none", "none", "none"]
    assert "30 segments of 6 recordings, 18 of them empty, 6 with several species; least overlap 0.25 s" in caplog.text
    assert all(len(read_waveform(made.reader, clip, layouts.RATE_HZ)) == 32_000 for clip in made.clips())
    table.to_parquet(tmp_path / "table.parquet")


def test_one_table_with_columns_of_its_own(tmp_path):
    layouts.sound(tmp_path / "field" / "a.wav", 900.0, 6.0)
    table = tmp_path / "all.csv"
    table.write_text("wav,von,bis,vogel\na.wav,1,2,wren\n")
    columns = {"file": "wav", "start_s": "von", "end_s": "bis", "label": "vogel"}
    made = soundscape_catalog(str(tmp_path / "field"), str(table), columns)
    assert made.table.labels.tolist() == [("wren",)]


@pytest.mark.parametrize(
    ("site", "groups"),
    [(None, 6), ("folder", 2), ("^site ([01])", 2), ("site", 1), (r"\d(?=\.wav)", 6)],
)
def test_sites_are_groups(tmp_path, site, groups):
    made = soundscape_catalog(str(layouts.soundscape(tmp_path)), site=site)
    assert made.table.group.nunique() == groups


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"site": "station (.*)"}, r"data\.site=station \(\.\*\) is not found in site 0/"),
        ({"site": "("}, r"data\.site is '\(', which is no regular expression"),
        ({"columns": {"file": "wav"}}, r"has no column 'wav' \(columns\.file\)"),
        ({"annotations": "no.csv"}, r"data\.annotations=no\.csv does not exist"),
        ({"segment_s": -1}, "segment_s is -1; it must be a number above 0"),
        ({"unannotated": "what"}, "unannotated is 'what'; it must be one of refuse"),
        ({"segment_s": 25.0}, "No segment is left of 6 recordings: recordings shorter than half a segment"),
        ({"species": ["wren"]}, "data.species names 'wren', which is not a class"),
    ],
)
def test_wrong_settings(tmp_path, settings, said):
    with pytest.raises(UserError, match=said):
        soundscape_catalog(str(layouts.soundscape(tmp_path)), **settings)


def test_recordings_without_annotation_and_what_is_left_out_are_told(tmp_path, caplog):
    root = layouts.soundscape(tmp_path)
    layouts.sound(root / "new.wav", 900.0, 6.0)
    (root / "broken.wav").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"2 of 8 recordings have no annotation, first broken\.wav, new\.wav"):
        soundscape_catalog(str(root))
    made = soundscape_catalog(str(root), unannotated="empty")
    assert made.table[made.table.recording == "new.wav"].species.tolist() == ["none"]
    assert "recordings without an annotation, taken as empty: 2" in caplog.text
    assert "recordings that cannot be read, left out: 1" in caplog.text
    assert "new.wav" not in set(soundscape_catalog(str(root), unannotated="skip").table.recording)


def test_species_heard_only_beside_others_can_be_chosen(tmp_path):
    made = soundscape_catalog(str(layouts.soundscape(tmp_path)), exclude=["Alauda arvensis"])
    assert {name for labels in made.table.labels for name in labels} == {"Bubo bubo"}
