import math

import layouts
import numpy as np
import pandas as pd
import pytest

from birdclf.data.label_names import map_labels
from birdclf.data.soundscapes import Annotations, Columns, SegmentSettings, read_annotations, segment_table
from birdclf.errors import UserError


@pytest.fixture
def site(tmp_path):
    """Return a folder with ``a.wav`` and ``sub/b.wav`` of 12 s."""
    layouts.sound(tmp_path / "a.wav", 1000.0, 12.0)
    layouts.sound(tmp_path / "sub" / "b.wav", 2000.0, 12.0)
    return tmp_path


def csv(folder, text, name="labels.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def rows(made):
    """Return the rows of annotations with bare file names."""
    names = [path.rpartition("/")[2] for path in made.table.file]
    return list(zip(names, made.table.start_s, made.table.end_s, made.table.label, strict=True))


def of(*intervals, seconds=12.0, name="/a.wav", **settings):
    """Return the segments of one recording with ``(start, end, label)`` intervals."""
    table = pd.DataFrame([(name, *one) for one in intervals], columns=["file", "start_s", "end_s", "label"])
    made = Annotations(table, [name], [], frozenset([name]))
    return segment_table(made, {name: seconds}, SegmentSettings(**settings)), made.notes


def test_tables_of_three_programs_beside_recordings(site):
    layouts.sound(site / "c.wav", 3000.0, 12.0)
    layouts.selections(site / "a.Table.1.selections.txt", [(1, "S", 1, 1.0, 2.0, 0, 9, "wren")], "Species")
    (site / "sub" / "b.txt").write_text("3\t4\trobin\n\\\t100\t900\n")
    header = "Start (s),End (s),Scientific name,Common name,Confidence"
    csv(site, f"{header}\n0.0,3.0,Turdus merula,Blackbird,0.8\n3.0,6.0,Turdus merula,Blackbird,0.4\n",
        "c.BirdNET.results.csv")  # fmt: skip
    made = read_annotations(site)
    assert rows(made) == [
        ("a.wav", 1, 2, "wren"),
        ("c.wav", 0, 3, "Turdus merula_Blackbird"),
        ("c.wav", 3, 6, "Turdus merula_Blackbird"),
        ("b.wav", 3, 4, "robin"),
    ]
    assert [path.rpartition("/")[2] for path in made.recordings] == ["a.wav", "c.wav", "b.wav"]
    assert "a confidence, which may be a program's detections (2 rows), are taken together" in made.notes[0]
    assert made.table.confidence.isna().tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    "header",
    ["file,start_s,end_s,label", "Filename,Start Time (s),End Time (s),Species", "path,onset,offset,ebird_code"],
)
def test_usual_names_of_columns(site, header):
    table = csv(site, f"{header}\nsub/b.wav,1.5,2,wren\nA.WAV,0,1,robin\n")
    assert rows(read_annotations(site)) == [("a.wav", 0, 1, "robin"), ("b.wav", 1.5, 2, "wren")]
    assert rows(read_annotations(site, table)) == rows(read_annotations(site))
    assert "confidence" not in read_annotations(site).table


def test_unusual_columns_are_named(site):
    table = csv(site, "wavfile,von,bis,vogel\na,1,2,wren\nb,1,2,wren\n")
    with pytest.raises(UserError, match=r"no column for start_s, end_s, label, file; it has wavfile, von, bis, vogel"):
        read_annotations(site, table)
    made = read_annotations(site, table, Columns("wavfile", "von", "bis", "vogel"))
    assert rows(made) == [("a.wav", 1, 2, "wren"), ("b.wav", 1, 2, "wren")]
    with pytest.raises(UserError, match=r"no column 'start' \(columns\.start_s\); it has wavfile"):
        read_annotations(site, table, Columns(start_s="start"))


def test_birdnets_combined_table_and_its_raven_table(site):
    text = "File,Start (s),End (s),Scientific name,Common name,Confidence\n"
    table = csv(site, text + "/rec/sub/b.wav,0,3,Parus major,Great Tit,0.9\n/rec/a.wav,3,6,Noise,Noise,0.5\n")
    made = read_annotations(site, table)
    assert made.table.label.tolist() == ["Noise", "Parus major_Great Tit"]
    assert made.table.confidence.tolist() == [0.5, 0.9]
    columns = ("Common Name", "Species Code", "Confidence", "Begin Path", "File Offset (s)")
    raven = layouts.selections(
        site / "BirdNET_SelectionTable.txt",
        [(1, "S", 1, 0, 3, 0, 15000, "Great Tit", "gretit1", 0.9, "/rec/sub/b.wav", 0),
         (2, "S", 1, 15, 18, 0, 15000, "Great Tit", "gretit1", 0.7, "/rec/a.wav", 3)],
        *columns,
    )  # fmt: skip
    made = read_annotations(site, raven)
    assert rows(made) == [("a.wav", 3, 6, "Great Tit"), ("b.wav", 0, 3, "Great Tit")]
    assert made.table.confidence.tolist() == [0.7, 0.9]


def test_rows_that_say_nothing_are_counted(site):
    lines = ["a,,,wren", "a,2,2,wren", "a,1,2,", "a,1,2,wren", "a,1.5,3,wren", "a,1,2,wren", "b,4,5,wren"]
    made = read_annotations(site, csv(site, "file,start_s,end_s,label\n" + "\n".join(lines)))
    assert rows(made) == [("a.wav", 1, 3, "wren"), ("b.wav", 4, 5, "wren")]
    text = "; ".join(made.notes)
    assert "annotations without times (a range of frequencies alone), left out: 1" in text
    assert "annotations without length, left out: 1" in text and "annotations without a label, left out: 1" in text
    assert "annotations merged with one of the same label that they overlap: 2" in text


def test_ranges_of_frequencies_without_times(site):
    given = [(1, "S", 1, "", "", 900, 8000, "wren"), (2, "S", 1, 1, 2, 900, 8000, "wren")]
    layouts.selections(site / "a.txt", given, "Species")
    layouts.selections(site / "sub" / "b.txt", given[1:], "Species")
    made = read_annotations(site)
    assert len(made.table) == 2 and "annotations without times" in made.notes[0]


def test_reversed_times_are_refused_with_their_line(site):
    with pytest.raises(UserError, match=r"labels\.csv: line 3 runs from 3 to 2 s"):
        read_annotations(site, csv(site, "file,start_s,end_s,label\na,1,2,x\nb,3,2,x\n"))
    with pytest.raises(UserError, match="line 2 has 'early' instead of a number"):
        read_annotations(site, csv(site, "file,start_s,end_s,label\na,early,2,x\n"))


def test_two_annotators_are_united_and_counted(site):
    text = "file,start_s,end_s,label,Annotator\na,1,2,wren,Zoe\na,1.5,2.5,wren,Max\na,6,7,robin,Max\nb,1,2,wren,Zoe\n"
    made = read_annotations(site, csv(site, text))
    assert rows(made)[:2] == [("a.wav", 1, 2.5, "wren"), ("a.wav", 6, 7, "robin")]
    assert "2 annotators (Max, Zoe): a sound counts where one of them marked it" in made.notes
    assert "annotations merged with one of the same label that they overlap: 1" in made.notes


def test_overlapping_detections_keep_their_scores(site):
    text = "file,start_s,end_s,label,confidence\na,0,3,wren,0.9\na,1.5,4.5,wren,0.2\na,0,3,wren,0.95\nb,0,3,wren,1\n"
    made = read_annotations(site, csv(site, text))
    assert made.table.confidence.tolist() == [0.95, 0.2, 1.0]


def test_names_of_other_recordings(site):
    others = "".join(f"x{i}.wav,1,2,wren\n" for i in range(7))
    table = csv(site, f"file,start_s,end_s,label\n{others}")
    both = r"name 7 files .*first x0\.wav, x1\.wav, x2\.wav, x3\.wav, x4\.wav; .*: 2, first a\.wav, b\.wav\."
    with pytest.raises(UserError, match=both):
        read_annotations(site, table)
    table = csv(site, f"file,start_s,end_s,label\n{others}a,1,2,wren\nb,1,2,wren\n")  # a part of the collection
    made = read_annotations(site, table)
    assert len(made.table) == 2 and "not among the recordings, left out: 7" in made.notes[0]


def test_a_recording_without_annotation_is_refused_empty_or_skipped(site):
    (site / "a.txt").write_text("1\t2\twren\n")
    made = read_annotations(site)
    durations = dict.fromkeys(made.recordings, 12.0)
    with pytest.raises(UserError, match=r"1 of 2 recordings have no annotation, first b\.wav\. Set unannotated to"):
        segment_table(made, durations, SegmentSettings())
    empty = segment_table(made, durations, SegmentSettings(unannotated="empty"))
    assert len(empty) == 4 and empty.labels[2:].tolist() == [(), ()]
    assert len(segment_table(made, durations, SegmentSettings(unannotated="skip"))) == 2
    assert made.notes == [
        "recordings without an annotation, taken as empty: 1",
        "recordings without an annotation, left out: 1",
    ]


@pytest.mark.parametrize("text", ["", "0\t12\tnocall\n", "0\t12\tNone\n"])
def test_a_table_that_says_nothing_was_heard_is_an_annotation(site, text):
    (site / "a.txt").write_text("1\t2\twren\n")
    (site / "sub" / "b.txt").write_text(text)
    made = read_annotations(site)
    assert made.annotated == {str(site / "sub" / "b.wav")} and len(made.table) == 1
    segments = segment_table(made, dict.fromkeys(made.recordings, 12.0), SegmentSettings())
    assert segments.species.tolist() == ["wren", "none", "none", "none"]


def test_what_cannot_be_read_is_refused(site, tmp_path):
    with pytest.raises(UserError, match=r"there is no annotation table \(NAME\.txt or NAME\.csv beside"):
        read_annotations(site)
    with pytest.raises(UserError, match=r"absent\.csv does not exist"):
        read_annotations(site, site / "absent.csv")
    (site / "notes.txt").write_text("a day in May")
    with pytest.raises(UserError, match=r"notes\.txt holds none"):
        read_annotations(site, site / "notes.txt")
    csv(site, "file,weather\na.wav,rain\n", "weather.csv")
    csv(site, "file,start_s,end_s,label\na,1,2,wren\nb,1,2,wren\n")
    skipped = site / "notes.txt"
    assert read_annotations(site).notes == [f"2 .txt or .csv without annotations are skipped, first {skipped}"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no sound file"):
        read_annotations(tmp_path / "empty")
    with pytest.raises(UserError, match="is not a folder"):
        read_annotations(tmp_path / "nowhere")


def test_segments_have_the_labels_that_overlap_them():
    made, _ = of((4.8, 5.2, "short"), (3.0, 6.0, "long"), (4.7, 5.7, "even"), (5.1, 5.15, "click"))
    assert made.columns.tolist() == ["path", "start_s", "end_s", "labels", "species"]
    assert made.labels.tolist() == [("even", "long", "short"), ("click", "even", "long", "short")]
    assert made.species.tolist() == ["long", "long"]
    assert (made.start_s.tolist(), made.end_s.tolist()) == ([0, 5], [5, 10])


@pytest.mark.parametrize(("seconds", "ends"), [(12.4, [5, 10]), (12.5, [5, 10, 12.5]), (5, [5]), (2.6, [2.6])])
def test_a_last_segment_of_less_than_half_is_dropped(seconds, ends):
    assert of((0, 1, "x"), seconds=seconds)[0].end_s.tolist() == ends


def test_annotations_beyond_the_end_are_clipped_or_left_out():
    made, notes = of((11, 30, "x"), (12, 13, "y"), (40, 41, "y"), seconds=12.6)
    assert made.labels.tolist() == [(), (), ("x", "y")] and made.species.iloc[-1] == "x"
    assert notes == [
        "annotations beyond the end of their recording, left out: 1",
        "annotations clipped at the end of their recording: 2",
    ]


def test_recordings_that_cannot_be_cut_are_counted():
    table = pd.DataFrame([("/a", 0, 1, "x"), ("/b", 0, 1, "x")], columns=["file", "start_s", "end_s", "label"])
    made = Annotations(table, ["/a", "/b", "/c"], [], frozenset({"/c"}))
    assert segment_table(made, {"/a": 5.0, "/c": 1.0}, SegmentSettings()).path.tolist() == ["/a"]
    assert made.notes == [
        "recordings that cannot be read, left out: 1, first /b",
        "recordings shorter than half a segment, left out: 1",
    ]
    with pytest.raises(UserError, match="No segment is left of 3 recordings"):
        segment_table(made, {"/c": 1.0}, SegmentSettings())


@pytest.mark.parametrize("seed", range(20))
def test_segments_tile_recordings_and_every_annotation_is_in_one(seed):
    rng = np.random.default_rng(seed)
    segment = float(rng.uniform(0.5, 6))
    hop = segment * float(rng.choice([1.0, 0.5, 0.3]))
    least = segment * float(rng.uniform(0, 0.5))
    seconds = float(rng.uniform(segment / 2, 60))
    begins = rng.uniform(0, seconds, 40)
    given = [(b, b + rng.exponential(0.6), f"s{i}") for i, b in enumerate(begins)]
    made, _ = of(*given, seconds=seconds, segment_s=segment, hop_s=hop, min_overlap_s=least)
    assert made.start_s.tolist() == pytest.approx((np.arange(len(made)) * hop).tolist())
    assert made.end_s.to_numpy() == pytest.approx(np.minimum(made.start_s + segment, seconds))
    assert (made.end_s - made.start_s >= segment / 2 - 1e-6).all() and seconds - made.end_s.max() < segment / 2 + 1e-6
    for begin, end, label in given:
        end = min(end, seconds)
        overlap = np.minimum(made.end_s, end) - np.maximum(made.start_s, begin)
        has = np.array([label in labels for labels in made.labels])
        assert (has == (overlap >= min(least, (end - begin) / 2) - 1e-6).to_numpy() & (overlap > 0).to_numpy()).all()
        covered = end <= made.end_s.max()
        assert has.any() or not covered
    for labels, species in zip(made.labels, made.species, strict=True):
        assert list(labels) == sorted(set(labels)) and (species in labels or (species, labels) == ("none", ()))


def test_settings_are_checked():
    for wrong in ({"segment_s": 0}, {"segment_s": math.nan}, {"hop_s": 6.0}, {"min_overlap_s": -1}, {"hop_s": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            SegmentSettings(**wrong)
    with pytest.raises(UserError, match="unannotated is 'maybe'; it must be one of refuse, empty, skip"):
        SegmentSettings(unannotated="maybe")


def test_labels_are_mapped_by_name():
    classes = ["Great Tit", "black-capped_chickadee", "Turdus merula_Blackbird", "house sparrow"]
    made = map_labels(
        ["great tit", "Parus major_Great Tit", "Black Capped Chickadee", "turdus merula", "Blackbird", "House Sparrow",
         "gull", "Passer domesticus", "gull"],
        classes,
    )  # fmt: skip
    assert made.of == {
        "great tit": "Great Tit",
        "Parus major_Great Tit": "Great Tit",
        "Black Capped Chickadee": "black-capped_chickadee",
        "turdus merula": "Turdus merula_Blackbird",
        "Blackbird": "Turdus merula_Blackbird",
        "House Sparrow": "house sparrow",
    }
    assert made.unmapped == ["Passer domesticus", "gull"]


def test_a_name_that_fits_two_classes_fits_none():
    made = map_labels(["Parus major_Tit", "tit", "TIT A"], ["Parus major_Tit", "Parus minor_Tit", "tit a", "Tit-A"])
    assert made.of == {"Parus major_Tit": "Parus major_Tit"} and made.unmapped == ["TIT A", "tit"]
    assert map_labels(["great_tit"], ["tit"]).unmapped == ["great_tit"]


def test_a_table_maps_labels(tmp_path):
    table = csv(tmp_path, "label,species\nHSPA,House Sparrow\nB0,great tit\n")
    made = map_labels(["HSPA", "B0", "x"], ["house sparrow", "Great Tit"], table)
    assert made.of == {"HSPA": "house sparrow", "B0": "Great Tit"} and made.unmapped == ["x"]
    with pytest.raises(UserError, match="line 2 names the species 'gull', which is not one of the 1 classes"):
        map_labels(["x"], ["wren"], csv(tmp_path, "label,species\nx,gull\n"))
    twice = csv(tmp_path, "label,species\nA_b,wren\na b,Wren\nA b,tit\n")
    with pytest.raises(UserError, match="line 4 gives 'A b' a second species, tit. Keep one"):
        map_labels(["x"], ["wren", "tit"], twice)


def test_tables_in_a_folder_of_their_own(site, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    (out / "sub").mkdir()
    header = "Start (s),End (s),Scientific name,Common name,Confidence\n"
    csv(out, header + "0,3,Turdus merula,Blackbird,0.8\n", "a.BirdNET.results.csv")
    csv(out / "sub", header, "b.BirdNET.results.csv")
    (site / "a.txt").write_text("1\t2\twren\n")  # annotations, which are not read
    made = read_annotations(site, out)
    assert rows(made) == [("a.wav", 0, 3, "Turdus merula_Blackbird")]
    assert made.annotated == {str(site / "sub" / "b.wav")}
    layouts.selections(out / "sub" / "b.selections.txt", [(1, "S", 1, 1.0, 2.0, 0, 9, "wren")], "Species")
    assert rows(read_annotations(site, out))[1] == ("b.wav", 1, 2, "wren")
    with pytest.raises(UserError, match="holds none"):
        read_annotations(site, tmp_path_factory.mktemp("empty"))
