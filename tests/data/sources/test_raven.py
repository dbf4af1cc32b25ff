import layouts
import pytest

from birdclf.audio.resampling import read_waveform
from birdclf.data.sources.raven import raven_catalog
from birdclf.errors import UserError


def row(start, end, *more, number=1, view="Spectrogram 1"):
    return (number, view, 1, start, end, 500, 8000, *more)


@pytest.fixture
def site(tmp_path):
    """Return a folder with two recordings of 6 s, ``a.wav`` and ``sub/b.wav``."""
    layouts.sound(tmp_path / "a.wav", 1000.0, 6.0)
    layouts.sound(tmp_path / "sub" / "b.wav", 2000.0, 6.0)
    return tmp_path


def stretches(made):
    return list(zip(made.table.group, made.table.start_s, made.table.end_s, made.table.species, strict=True))


def test_each_selection_is_a_clip_of_its_recording(tmp_path):
    made = raven_catalog(str(layouts.raven(tmp_path)))
    assert made.classes == ("Alauda arvensis", "Bubo bubo") and len(made) == 12
    assert "site 1/a,b.wav#0.5-2" not in set(made.table.recording_id)
    first = made.table.set_index("recording_id").loc["site 0/plain0.wav#0.5-2"]
    assert first.group == "site 0/plain0.wav" and (first.low_hz, first.high_hz) == (1000, 4000)
    assert made.table.group.nunique() == 6 and (made.table.duration_s == 1.5).all()
    assert all(len(read_waveform(made.reader, clip, layouts.RATE_HZ)) == 24_000 for clip in made.clips())
    made.table.to_parquet(tmp_path / "table.parquet")


@pytest.mark.parametrize(
    "name",
    ["a.txt", "a.wav.txt", "a.selections.txt", "a.Table.1.selections.txt", "a.BirdNET.selection.table.txt", "a.TXT"],
)
def test_names_that_belong_to_a_recording(site, name):
    layouts.selections(site / name, [row(1, 2, "wren")], "Species")
    assert stretches(raven_catalog(str(site))) == [("a.wav", 1, 2, "wren")]


@pytest.mark.parametrize("column", ["Species", "species", "Common Name", "Annotation", "Species Code"])
def test_the_usual_columns_are_found(site, column):
    layouts.selections(site / "a.txt", [row(1, 2, "x", "wren")], "Remark", column)
    assert raven_catalog(str(site)).classes == ("wren",)


def test_another_column_by_name(site):
    layouts.selections(site / "a.txt", [row(1, 2, "wren", "robin")], "Species", "Second opinion")
    assert raven_catalog(str(site), annotation="second opinion").classes == ("robin",)
    with pytest.raises(UserError, match="no column 'third'; it has Selection, .*Second opinion"):
        raven_catalog(str(site), annotation="third")


def test_cumulative_times_of_several_files(site):
    rows = [row(1, 2, "a.wav", 1, "wren"), row(7.1, 8.4, "b.wav", 1.1, "robin", number=2)]
    layouts.selections(site / "all.selections.txt", rows, "Begin File", "File Offset (s)", "Species")
    assert stretches(raven_catalog(str(site))) == [("a.wav", 1, 2, "wren"), ("sub/b.wav", 1.1, 2.4, "robin")]


def test_begin_path_of_another_computer_tells_files_of_one_name_apart(site):
    layouts.sound(site / "other" / "b.wav", 900.0, 6.0)
    rows = [row(1, 2, r"D:\field\sub\b.wav", 1, "wren"), row(7, 8, r"D:\field\other\B.WAV", 1, "robin")]
    layouts.selections(site / "all.txt", rows, "Begin Path", "File Offset (s)", "Species")
    assert stretches(raven_catalog(str(site))) == [("other/b.wav", 1, 2, "robin"), ("sub/b.wav", 1, 2, "wren")]


def test_a_name_that_fits_several_files_is_refused(site):
    layouts.sound(site / "other" / "b.wav", 900.0, 6.0)
    layouts.selections(site / "all.txt", [row(1, 2, "b.wav", "wren")], "Begin File", "Species")
    with pytest.raises(UserError, match=r"line 2 names 'b\.wav', which may be any of .*other"):
        raven_catalog(str(site))


def test_several_files_without_an_offset_are_refused(site):
    rows = [row(1, 2, "a.wav", "wren"), row(7, 8, "b.wav", "wren")]
    layouts.selections(site / "all.txt", rows, "Begin File", "Species")
    with pytest.raises(UserError, match=r"all\.txt belongs to several recordings and lacks 'File Offset"):
        raven_catalog(str(site))


def test_a_missing_recording_stays_in_the_table_and_none_climbs_out(site):
    rows = [row(1, 2, "a.wav", 1, "wren"), row(7, 8, "../../../etc/passwd", 1, "wren")]
    layouts.selections(site / "all.txt", rows, "Begin File", "File Offset (s)", "Species")
    layouts.selections(site / "gone.Table.1.selections.txt", [row(1, 2, "wren")], "Species")
    made = raven_catalog(str(site))
    assert sorted(made.table.group) == ["a.wav", "gone.wav", "passwd"]
    assert all(path.startswith(str(site.resolve())) for path in made.table.path)
    for name in ("..", "x/.."):
        layouts.selections(site / "all.txt", [row(1, 2, name, 1, "wren")], "Begin File", "File Offset (s)", "Species")
        with pytest.raises(UserError, match="line 2 names .* is not a file"):
            raven_catalog(str(site))


def test_two_species_in_one_stretch_get_ids_of_their_own(site):
    rows = [row(1, 2, "wren"), row(1, 2, "robin", number=2), row(1, 2, "wren", number=3), row(3600.1234, 3601, "wren")]
    layouts.selections(site / "a.txt", rows, "Species")
    ids = raven_catalog(str(site)).table
    assert list(ids.recording_id) == ["a.wav#1-2", "a.wav#1-2#2", "a.wav#3600.1234-3601"]
    assert list(ids.species) == ["robin", "wren", "wren"]
    assert ids.duration_s.round(6).tolist() == [1, 1, 0.8766]


def test_tables_without_rows_notes_and_unlabelled_selections_are_skipped(site, caplog):
    layouts.selections(site / "a.txt", [row(1, 2, "wren"), row(2, 3, ""), row(4, 4, "wren")], "Species")
    layouts.selections(site / "sub" / "b.selections.txt", [])
    (site / "empty.selections.txt").write_bytes(b"")
    (site / "README.txt").write_bytes("Aufnahmen im Gebüsch".encode("latin-1"))
    assert stretches(raven_catalog(str(site))) == [("a.wav", 1, 2, "wren")]
    assert "skipped annotations without text or length: 2" in caplog.text
    assert f"skipped tables without a row: 2, first {site / 'empty.selections.txt'}" in caplog.text


def test_empty_tables_alone_are_refused(site):
    layouts.selections(site / "a.txt", [])
    (site / "b.selections.txt").write_bytes(b"")
    (site / "note.txt").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds no annotation: .* Skipped: tables without a row: 2, first .*a\.txt\.$"):
        raven_catalog(str(site))


def test_a_folder_that_cannot_be_read_is_skipped(site, forbid, caplog):
    layouts.selections(site / "a.txt", [row(1, 2, "wren")], "Species")
    layouts.selections(site / "sub" / "b.txt", [row(1, 2, "robin")], "Species")
    (site / "sub" / "up").symlink_to(site)
    assert raven_catalog(str(site)).classes == ("robin", "wren")
    forbid(site / "sub")
    assert raven_catalog(str(site)).classes == ("wren",)
    assert f"{site / 'sub'} cannot be read" in caplog.text
    forbid(site)
    with pytest.raises(UserError, match=f"^{site} cannot be read"):
        raven_catalog(str(site))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\tS\t1\tone\t2\t0\t9\twren", "line 2 has 'one' instead of a number"),
        ("1\tS\t1\t3\t2\t0\t9\twren", "line 2 runs from 3 to 2 s"),
        ("1\tS\t1\t-1\t2\t0\t9\twren", "line 2 runs from -1"),
        ("1\tS\t1\tnan\t2\t0\t9\twren", "line 2 has 'nan'"),
        ("1\tS", "line 2 has '' instead of a number"),
        ("1\tS\t1\t1\t2\t0\t9\twren\tmore", "line 2 has 9 values for 8 columns"),
        ("1\tS\t1\t1\t2\tlow\t9\twren", "line 2 has 'low' instead of a number"),
    ],
)
def test_a_spoilt_line_is_refused_with_file_and_line(site, text, message):
    table = layouts.selections(site / "a.txt", [], "Species")
    table.write_text(table.read_text() + text + "\n")
    with pytest.raises(UserError, match=rf"a\.txt: {message}"):
        raven_catalog(str(site))


def test_spoilt_tables_are_refused(site):
    with pytest.raises(UserError, match="is not a folder"):
        raven_catalog(str(site / "none"))
    with pytest.raises(UserError, match="holds no annotation: expected Raven tables"):
        raven_catalog(str(site))
    table = layouts.selections(site / "a.selections.txt", [row(1, 2, "x", "y")], "Species", "Species")
    with pytest.raises(UserError, match="2 columns named 'species'"):
        raven_catalog(str(site))
    layouts.selections(table, [row(1, 2, "x")], "Remark")
    with pytest.raises(UserError, match="none of the usual columns .*data.annotation='Remark'"):
        raven_catalog(str(site))
    table.write_text("start\tend\n1\t2\n")
    with pytest.raises(UserError, match="not a Raven table"):
        raven_catalog(str(site))
    layouts.selections(table, [row(1, 2, "Grünspecht")], "Species")
    text = table.read_text(encoding="utf-8")
    table.write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    assert raven_catalog(str(site)).classes == ("Grünspecht",)
    table.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"a\.selections\.txt: line 2 is not UTF-8 \(byte 0xFC\)"):
        raven_catalog(str(site))


def test_two_recordings_of_one_name_are_refused(site):
    layouts.sound(site / "a.flac", 900.0, 6.0)
    table = layouts.selections(site / "a.txt", [row(1, 2, "wren")], "Species")
    with pytest.raises(UserError, match=r"may belong to a\.flac and a\.wav"):
        raven_catalog(str(site))
    table.rename(site / "a.wav.txt")
    assert raven_catalog(str(site)).table.group.tolist() == ["a.wav"]


@pytest.mark.parametrize("annotation", [None, "High Freq (Hz)", "view"])
def test_no_measurement_is_taken_for_a_label(site, annotation):
    layouts.selections(site / "a.txt", [row(1, 2)])
    with pytest.raises(UserError, match=r"it has Selection, .*None of these holds labels: add an annotation column"):
        raven_catalog(str(site), annotation=annotation)
    layouts.selections(
        site / "a.txt", [row(1, 2, -40, "wren", 0.9)], "Inband Power (dB FS)", "Call (type)", "Delta (ms)"
    )
    with pytest.raises(UserError, match=r"such as data\.annotation='Call \(type\)'"):
        raven_catalog(str(site), annotation=annotation)
    assert raven_catalog(str(site), annotation="call (TYPE)").classes == ("wren",)


def test_a_table_that_was_saved_with_commas_is_named(site):
    (site / "a.selections.txt").write_text("Selection,Begin Time (s),End Time (s),Species\n1,0,1,wren\n")
    with pytest.raises(UserError, match="not a Raven table, which has tabs"):
        raven_catalog(str(site))


def test_repeats_are_counted(site, caplog):
    layouts.selections(site / "a.txt", [row(1, 2, "wren", view=view) for view in ("Waveform 1", "S 1")], "Species")
    with caplog.at_level("INFO"):
        assert len(raven_catalog(str(site))) == 1
    assert any("1 annotations repeat" in text for text in caplog.messages)


def test_a_clip_has_the_labels_that_overlap_it(site):
    rows = [row(1, 2, "wren"), row(1.7, 3, "robin"), row(2.8, 4, "tit"), row(3.9, 4.1, "call"), row(5, 6, "wren")]
    layouts.selections(site / "a.txt", rows, "Species")
    layouts.selections(site / "sub" / "b.txt", [row(1, 2, "gull")], "Species")
    made = raven_catalog(str(site)).table
    assert made.labels.tolist() == [
        ("robin", "wren"),
        ("robin", "wren"),
        ("call", "tit"),  # 0.1 s of a call of 0.2 s, and less than 0.25 s of the robin
        ("call",),
        ("wren",),
        ("gull",),
    ]


def test_selections_of_frequencies_alone_are_skipped(site, caplog):
    layouts.selections(site / "a.txt", [row("", "", "wren"), row(1, 2, "robin")], "Species")
    assert raven_catalog(str(site)).classes == ("robin",)
    assert "skipped annotations without text or length: 1" in caplog.text
