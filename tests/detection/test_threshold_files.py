"""``thresholds.json``: written, read back, refused where damaged, and applied to detections; sets of species."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from made_up import CLASSES, RATE_HZ, Pitches, tones

from birdclf.detection.detections import DetectionSettings
from birdclf.detection.detector import Detector
from birdclf.detection.inputs import recordings_of
from birdclf.detection.predict import JOURNAL, predict_to_folder, predict_to_screen
from birdclf.detection.results import Result, detections_table
from birdclf.detection.soundscapes import SoundscapeSettings
from birdclf.detection.stream import StreamSettings, stream_scores
from birdclf.detection.thresholds import THRESHOLDS, Thresholds, choose_thresholds, describe, find_thresholds
from birdclf.errors import UserError
from birdclf.labelling.suggest import SuggestSettings, choose
from birdclf.metrics.thresholds import SpeciesThreshold

OWL, CRANE, LARK = CLASSES


def species(threshold: float, slope: float = 1.0, intercept: float = 0.0, listen: int = 12) -> SpeciesThreshold:
    return SpeciesThreshold(threshold, 0.91, 0.8, 0.97, 20, 15, slope, intercept, listen)


FOUND = Thresholds(0.9, 0.95, "7 clips", {OWL: species(0.6), CRANE: species(math.nan), LARK: species(0.25, 2, 1)})
P = np.float32([[0.6, 0.39, 0.01], [0.59, 0.31, 0.1], [0.05, 0.7, 0.25], [0.1, 0.66, 0.24]])
TIMES = np.arange(4.0), np.arange(4.0) + 1


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """Two recordings: an owl, a crane, silence, a lark and a crane again."""
    (tmp_path / "field").mkdir()
    soundfile.write(tmp_path / "field" / "a.wav", tones(500, 1_250, 0), RATE_HZ)
    soundfile.write(tmp_path / "field" / "b.wav", tones(2_750, 1_250), RATE_HZ)
    return tmp_path / "field"


def test_it_comes_back_as_it_was_and_nothing_is_overwritten(tmp_path: Path):
    file = tmp_path / THRESHOLDS
    FOUND.write(file)
    back = Thresholds.read(file, CLASSES)
    assert json.loads(file.read_text())["species"][CRANE]["threshold"] is None
    assert math.isnan(back.species[CRANE].threshold) and back.species[OWL] == FOUND.species[OWL]
    assert (back.precision, back.confidence, back.source) == (0.9, 0.95, "7 clips")
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"exists already; nothing is overwritten. Move it away"):
        FOUND.write(file)
    assert file.read_bytes() == before


DAMAGE = {
    "not json": (lambda c: None, "cannot be read as thresholds"),
    "no format": (lambda c: c.pop("format"), "its format is missing"),
    "newer": (lambda c: c.update(format=2), "has format 2; this birdclf knows 1. Update birdclf"),
    "precision": (lambda c: c.update(precision=90), "precision is 90; it must be a number between 0 and 1"),
    "no species": (lambda c: c.pop("species"), "species is missing or null"),
    "list": (lambda c: c.update(species=[1]), r"species is \[1\]"),
    "unknown": (lambda c: c["species"].update(dodo={}), "names 'dodo', none of the model's 3 species"),
    "entry": (lambda c: c["species"].update({OWL: 0.7}), "barn owl: entry is 0.7"),
    "percent": (
        lambda c: c["species"][OWL].update(threshold=60),
        "barn owl: threshold is 60; it must be a number from",
    ),
    "text": (lambda c: c["species"][OWL].update(threshold="0.6"), "barn owl: threshold is '0.6'"),
    "nan": (lambda c: c["species"][OWL].update(threshold=math.nan), "barn owl: threshold is nan"),
    "no threshold": (lambda c: c["species"][OWL].pop("threshold"), "barn owl: threshold is missing or null"),
    "slope": (lambda c: c["species"][OWL].update(slope=-1), "barn owl: slope is -1; it must be a number above 0"),
    "no slope": (lambda c: c["species"][OWL].pop("slope"), "barn owl: slope is missing or null"),
    "count": (lambda c: c["species"][OWL].update(listen=1.5), "barn owl: listen is 1.5"),
    "true": (lambda c: c["species"][OWL].update(low=True), "barn owl: low is True"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path: Path, damage, words):
    file = tmp_path / THRESHOLDS
    FOUND.write(file)
    content = json.loads(file.read_text())
    text = json.dumps(content) if damage(content) is not None or words.find("cannot be") < 0 else "{"
    file.write_text(json.dumps(content) if text != "{" else text)
    with pytest.raises(UserError, match=words) as error:
        Thresholds.read(file, CLASSES)
    assert str(file) in str(error.value)


def test_a_run_folder_s_own_file_is_found_for_its_best_weights_unless_none_is_asked_for(tmp_path: Path):
    assert find_thresholds(tmp_path, CLASSES) is None
    FOUND.write(tmp_path / THRESHOLDS)
    found = find_thresholds(tmp_path, CLASSES)
    assert found is not None and found[1] == tmp_path / THRESHOLDS
    assert find_thresholds(tmp_path, CLASSES, "none") is None
    assert find_thresholds(tmp_path, CLASSES, checkpoint="last") is None
    assert find_thresholds(tmp_path / "net.onnx", CLASSES) is None
    with pytest.raises(UserError, match=r"gone.json cannot be read as thresholds"):
        find_thresholds(tmp_path, CLASSES, str(tmp_path / "gone.json"))
    said = describe(*found)
    assert "precision 0.9" in said and "1 species cannot reach it and are not reported: crane" in said


def test_each_species_has_its_own_threshold_and_one_without_is_not_reported():
    settings = DetectionSettings(0.0, merge=False, thresholds=FOUND.species)
    rows = settings.detections(P, *TIMES, CLASSES)
    assert [(one.start_s, one.species) for one in rows] == [(0, OWL), (2, LARK)]
    assert rows[0].p_right == pytest.approx(0.6) and rows[1].p_right == pytest.approx(0.2320, abs=1e-4)
    owl = {OWL: FOUND.species[OWL]}
    rows = DetectionSettings(0.66, merge=False, thresholds=owl).detections(P, *TIMES, CLASSES)
    assert [(one.species, one.p_right is None) for one in rows] == [(OWL, False), (CRANE, True), (CRANE, True)]


def test_a_merged_detection_is_as_probably_right_as_its_surest_window():
    p = np.float32([[0.7, 0.2, 0.1], [0.9, 0.05, 0.05]])
    (one,) = DetectionSettings(thresholds=FOUND.species).detections(p, TIMES[0][:2], TIMES[1][:2], CLASSES)
    assert one[:5] == (0, 2, OWL, 0.9, 2) and one.p_right == pytest.approx(0.9)


def test_species_that_do_not_occur_are_left_out_and_probabilities_stay():
    listed = DetectionSettings(species=(OWL,), thresholds=FOUND.species)
    assert [one.confidence for one in listed.detections(P, *TIMES, CLASSES)] == [0.6]
    with pytest.raises(UserError, match=r"--smooth changes the probabilities"):
        DetectionSettings(smooth_s=3.0, thresholds=FOUND.species)


def results(field: Path, settings: DetectionSettings) -> list[Result]:
    scores = stream_scores(recordings_of([str(field)]), Pitches(), StreamSettings(1.0))
    return [Result.of(one, settings, CLASSES) for one in scores if not isinstance(one, float)]


def test_tables_have_the_probability_only_where_thresholds_decided(field: Path):
    plain = detections_table(results(field, DetectionSettings()))
    rated = detections_table(results(field, DetectionSettings(thresholds=FOUND.species)))
    assert list(plain) == ["path", "start_s", "end_s", "species", "confidence", "windows"]
    assert list(rated) == [*plain, "p_right"] and rated.p_right.dtype == float
    assert set(rated.species) == {OWL, LARK} and len(rated) < len(plain)
    nothing = detections_table(
        results(field, DetectionSettings(thresholds={name: species(math.nan) for name in CLASSES}))
    )
    assert nothing.empty and "p_right" in nothing


def test_results_with_thresholds_and_sets_come_back_from_the_journal_and_without_are_as_before(field: Path):
    for settings in (DetectionSettings(), DetectionSettings(thresholds=FOUND.species, sets={OWL: 0.3, CRANE: 0.2})):
        for one in results(field, settings):
            kept = json.loads(json.dumps(one.as_dict()))
            assert Result.read(kept) == one
            plain = settings.thresholds is None
            assert ("rated" in kept, "sets" in kept) == (not plain, not plain)
            assert all(len(row) == (5 if plain else 6) for row in kept["detections"])


def test_sets_are_written_and_printed_and_a_call_again_keeps_them(field: Path, tmp_path: Path, capsys):
    settings = DetectionSettings(sets={OWL: 0.4, CRANE: 0.2, LARK: 0.9})
    given = (Pitches(), [str(field)], [])
    for _ in range(2):
        predict_to_folder(*given, tmp_path / "out", StreamSettings(1.0), settings, ["csv"])
    table = pd.read_csv(tmp_path / "out" / "sets.csv", keep_default_na=False)
    assert list(table) == ["path", "start_s", "end_s", "species"]
    assert table.species.tolist() == [OWL, CRANE, f"{OWL};{CRANE}", LARK, CRANE]
    assert "sets" in (tmp_path / "out" / JOURNAL).read_text()
    capsys.readouterr()
    predict_to_screen(*given, StreamSettings(1.0), settings, "csv")
    assert capsys.readouterr().out.replace("\r", "") == (tmp_path / "out" / "sets.csv").read_text()
    predict_to_screen(*given, StreamSettings(1.0), settings, "jsonl")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[2]["species"] == [OWL, CRANE]
    with pytest.raises(UserError, match="sets was"):
        predict_to_folder(*given, tmp_path / "out", StreamSettings(1.0), DetectionSettings(), ["csv"])


def test_sets_name_only_species_that_occur_the_most_probable_first():
    settings = DetectionSettings(species=(OWL, LARK), sets={OWL: 0.3, CRANE: 0.0, LARK: 0.1})
    assert settings.species_sets(P, CLASSES) == [[OWL], [OWL, LARK], [LARK], [LARK]]


def test_a_detector_uses_them(field: Path):
    table = Detector(Pitches(), FOUND).predict(field, min_confidence=0.99)
    assert set(table.species) == {OWL, LARK} and (table.p_right > 0.5).all()
    assert "p_right" not in Detector(Pitches()).predict(field)


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """Six recordings of tones that a table names: of each 10 a lark sings in 3 and is something else in 1."""
    rng = np.random.default_rng(0)
    (tmp_path / "wild").mkdir()
    rows = []
    for number in range(6):
        name = f"{number}.wav"
        hz = rng.choice([500.0, 1_250.0, 2_750.0, 0.0], 20)
        soundfile.write(tmp_path / "wild" / name, tones(*hz), RATE_HZ)
        for second, one in enumerate(hz):
            label = {500.0: OWL, 2_750.0: LARK, 1_250.0: "tractor"}.get(one)
            if label:
                rows.append((name, second, second + 1, label))
    pd.DataFrame(rows, columns=["file", "start_s", "end_s", "label"]).to_csv(tmp_path / "wild.csv", index=False)
    return tmp_path


def chosen(annotated: Path, precision: float, out: Path) -> Thresholds:
    from birdclf.data.soundscapes import SegmentSettings

    settings = SoundscapeSettings(annotated / "wild", annotated / "wild.csv", segments=SegmentSettings(1.0))
    choose_thresholds(annotated, Pitches(), precision, settings, out)
    return Thresholds.read(out, CLASSES)


def test_thresholds_are_chosen_on_soundscapes(annotated: Path, capsys):
    out = annotated / "new folder" / "mine.json"
    found = chosen(annotated, 0.9, out)
    owl, crane, lark = (found.species[name] for name in CLASSES)
    assert owl.positives > 20 and owl.detections == owl.positives and 0.5 < owl.threshold <= 1
    assert crane.positives == 0 and crane.detections == 0, "every tractor sounds like a crane"
    assert crane.precision < 0.5 or crane.threshold > 0.99
    said = capsys.readouterr()
    assert "labels that are none of the model's species: 1, tractor (" in said.err
    lines = said.out.splitlines()
    assert lines[0].split()[:2] == ["species", "threshold"] and any(line.startswith(OWL) for line in lines)
    assert found.source == "120 segments of wild" and lark.positives > 0
    with pytest.raises(UserError, match="exists already"):
        chosen(annotated, 0.9, out)


def test_a_precision_that_no_species_reaches_says_which_could_reach_what(annotated: Path):
    with pytest.raises(UserError, match=r"No species reaches precision 0.9999999 .* they reach: ") as error:
        chosen(annotated, 0.9999999, annotated / "mine.json")
    assert any(name in str(error.value) for name in CLASSES) and not (annotated / "mine.json").exists()


@pytest.mark.parametrize("precision", [0.0, 1.0, math.nan, 90])
def test_a_precision_that_is_none_is_refused(tmp_path: Path, precision: float):
    with pytest.raises(UserError, match="--precision"):
        choose_thresholds(tmp_path, Pitches(), precision, None, None)


def test_clips_near_the_thresholds_are_suggested_as_many_as_each_species_needs(tmp_path: Path):
    levels = np.linspace(0.1, 0.9, 17)
    t = np.arange(RATE_HZ) / RATE_HZ
    mixed = [np.sqrt(x) * np.sin(2 * np.pi * 500 * t) + np.sqrt(1 - x) * np.sin(2 * np.pi * 2_750 * t) for x in levels]
    soundfile.write(tmp_path / "mixed.wav", 0.4 * np.concatenate(mixed), RATE_HZ)
    recordings = recordings_of([str(tmp_path / "mixed.wav")])
    near = dataclasses.replace(
        FOUND, species={OWL: species(0.7, listen=3), CRANE: species(0.5, listen=0), LARK: species(0.7, listen=2)}
    )
    found = choose(Pitches(), recordings, StreamSettings(1.0), SuggestSettings(n=50, thresholds=near)).suggestions
    at = sorted(levels[round(one.start_s)] for one in found)
    assert at == pytest.approx([0.3, 0.35, 0.65, 0.7, 0.75]) or at == pytest.approx([0.25, 0.3, 0.65, 0.7, 0.75])
    few = choose(Pitches(), recordings, StreamSettings(1.0), SuggestSettings(n=2, thresholds=near)).suggestions
    assert len(few) == 2 and few[0].measure == "closeness"
    none = dataclasses.replace(FOUND, species={OWL: species(0.7, listen=0)})
    with pytest.raises(UserError, match="no clips are needed"):
        choose(Pitches(), recordings, StreamSettings(1.0), SuggestSettings(thresholds=none))
