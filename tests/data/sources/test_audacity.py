import layouts
import numpy as np
import pytest

from birdclf.audio.resampling import read_waveform
from birdclf.data.sources.audacity import audacity_catalog
from birdclf.errors import UserError


@pytest.fixture
def track(tmp_path):
    """Return a writer of the label track of ``a.wav``, 6 s long."""
    layouts.sound(tmp_path / "a.wav", 1000.0, 6.0)

    def write(text, name="a.txt", encoding="utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return str(tmp_path)

    return write


def test_each_label_is_a_clip_of_its_recording(tmp_path):
    made = audacity_catalog(str(layouts.audacity(tmp_path)))
    assert made.classes == ("Alauda arvensis", "Grünspecht") and len(made) == 12
    first = made.table.set_index("recording_id").loc["site 0/plain0.wav#0.5-2"]
    assert (first.low_hz, first.high_hz, first.duration_s) == (1000, 4000, 1.5)
    assert np.isnan(made.table.set_index("recording_id").low_hz["site 0/plain0.wav#2.5-4"])
    assert made.table.group.nunique() == 6
    assert all(len(read_waveform(made.reader, clip, layouts.RATE_HZ)) == 24_000 for clip in made.clips())
    made.table.to_parquet(tmp_path / "table.parquet")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(track, newline, mark):
    made = audacity_catalog(track(mark + newline.join(["0\t1\twren", "\\\t-1\t900", "", "2,5\t3.5\t robin "])))
    assert list(made.table.recording_id) == ["a.wav#0-1", "a.wav#2.5-3.5"]
    assert list(made.table.species) == ["wren", "robin"]
    assert np.isnan(made.table.low_hz[0]) and made.table.high_hz[0] == 900


def test_repeats_and_stretches_of_two_species(track):
    made = audacity_catalog(track("0\t1\twren\n0\t1\twren\n0\t1\trobin\n5\t9\twren\n"))
    assert list(made.table.recording_id) == ["a.wav#0-1", "a.wav#0-1#2", "a.wav#5-9"]
    assert list(made.table.duration_s) == [1, 1, 4]


def test_points_blanks_and_notes_are_skipped(track, caplog):
    track("not labels at all", name="notes.txt")
    made = audacity_catalog(track("0\t1\twren\n2\t2\tpoint\n3\t4\t\n4\t5\n"))
    assert len(made) == 1
    assert "skipped annotations without text or length: 3" in caplog.text
    assert "1 .txt files have no recording" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0\t1\twren\nhello\n", "line 2 is 'hello'; an Audacity label is start<TAB>end<TAB>label"),
        ("\\\t100\t200\n0\t1\twren\n", "line 1 is a frequency range without a label"),
        ("0\t1\twren\n\\\t100\n", "line 2 is a frequency range"),
        ("Selection\tView\tChannel\n", "line 1 has 'Selection' instead of a number"),
        ("2\t1\twren\n", "line 1 runs from 2 to 1 s"),
        ("inf\tinf\twren\n", "line 1 has 'inf'"),
    ],
)
def test_a_spoilt_line_is_refused_with_file_and_line(track, text, message):
    with pytest.raises(UserError, match=rf"a\.txt: {message}"):
        audacity_catalog(track(text))


def test_latin_1_is_refused_with_the_remedy(track):
    with pytest.raises(UserError, match=r"a\.txt: line 2 is not UTF-8 \(byte 0xFC\).*iconv"):
        audacity_catalog(track("0\t1\twren\n1\t2\tGrünspecht\n", encoding="latin-1"))


def test_nothing_to_be_found_is_refused(track, tmp_path):
    with pytest.raises(UserError, match="holds no annotation: expected <name>.txt .* Skipped: nothing"):
        audacity_catalog(str(tmp_path))
    with pytest.raises(UserError, match=r"Skipped: tables without a row: 1, first .*a\.txt\.$"):
        audacity_catalog(track(""))
    with pytest.raises(UserError, match="Skipped: annotations without text or length: 2"):
        audacity_catalog(track("0\t1\n1\t1\twren\n"))
    with pytest.raises(UserError, match="is not a folder"):
        audacity_catalog("/no/such/folder")
