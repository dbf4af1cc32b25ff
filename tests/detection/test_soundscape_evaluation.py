"""Settings of a judgement on soundscapes, and the fall from focal recordings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from made_up import CLASSES, RATE_HZ, Pitches, tones

from birdclf.data.soundscapes import SegmentSettings
from birdclf.detection.evaluate import evaluate_soundscapes, fall
from birdclf.detection.soundscapes import SoundscapeSettings
from birdclf.errors import UserError
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.label_predictions import LabelPredictions


def test_windows_are_as_far_apart_as_each_segment_needs():
    settings = SoundscapeSettings(Path("field"), segments=SegmentSettings(segment_s=5.0))
    assert [settings.hop(window_s) for window_s in (5.0, 3.0, 10.0)] == [5.0, 2.5, 5.0]
    assert SoundscapeSettings(Path("field"), hop_s=1.5).hop(3.0) == 1.5
    with pytest.raises(UserError, match=r"--hop 5.1: some segments of 5 s would have no window of 3 s. At most 5."):
        SoundscapeSettings(Path("field"), hop_s=5.1).hop(3.0)


def test_an_evaluation_is_named_for_its_recordings_and_overwrites_nothing(tmp_path: Path):
    settings, run = SoundscapeSettings(tmp_path / "field at dawn"), tmp_path / "run"
    run.mkdir()
    own = settings.folder(run, "best", None)
    assert own == run / "evaluations" / "soundscapes_field-at-dawn"
    assert settings.folder(run, "last", None).name == "soundscapes_field-at-dawn_last"
    own.mkdir(parents=True)
    for out in (None, own):
        with pytest.raises(UserError, match="exists already; nothing is overwritten"):
            settings.folder(run, "best", out)
    assert settings.folder(run, "best", tmp_path / "out") == tmp_path / "out"


def test_a_file_has_no_place_for_an_evaluation(tmp_path: Path):
    (tmp_path / "model.onnx").touch()
    with pytest.raises(UserError, match="--out DIR"):
        SoundscapeSettings(tmp_path / "field").folder(tmp_path / "model.onnx", "best", None)
    SoundscapeSettings(tmp_path / "field").folder(tmp_path / "no run", "best", None)  # opening it says what is wrong


def predictions(target: list[list[int]], score: list[list[float]]) -> LabelPredictions:
    names = np.arange(len(target)).astype(str).astype(object)
    return LabelPredictions(
        names, np.array(target, np.int8), np.array(score, np.float32), names, np.full(len(target), 5.0)
    )


def test_the_fall_is_of_species_that_are_heard_in_both():
    target = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]
    focal = predictions(target, [[2, 0, 0], [1, 0, 0], [0, 1, 0], [0, 2, 0]])
    target = [[1, 0, 0], [0, 0, 0], [0, 0, 1], [1, 0, 1]]  # the second is not heard
    soundscape = predictions(target, [[2, 0, 9], [3, 0, 9], [1, 0, 9], [0, 0, 9]])
    found = fall(focal, soundscape, Evaluation())["cmap"]
    assert found["species"] == 1 and found["focal"]["value"] == 1
    assert found["soundscape"]["value"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    difference = found["difference"]
    assert difference["value"] == pytest.approx(0.5) and difference["low"] < 0.5 < difference["high"]
    low = 0.5 - np.hypot(1 - found["focal"]["low"], found["soundscape"]["high"] - 0.5)
    assert difference["low"] == pytest.approx(low)


def test_without_a_species_in_both_there_is_no_fall():
    found = fall(predictions([[1, 0]], [[1, 0]]), predictions([[0, 1]], [[1, 0]]), Evaluation())
    assert found["cmap"]["species"] == 0 and found["cmap"]["difference"] == {"value": None, "low": None, "high": None}


def test_a_run_on_sets_of_species_falls_from_its_own_test_recordings(tmp_path: Path):
    classifier = Pitches()
    classifier.input_spec = replace(classifier.input_spec, task="multi_label")
    run, field = tmp_path / "run", tmp_path / "field"
    run.mkdir(), field.mkdir()
    soundfile.write(field / "a.wav", tones(500, 2_750, 1_250, 0), RATE_HZ)
    (field / "a.csv").write_text("start_s,end_s,label\n3,4,barn owl\n1,2,wood lark\n")
    saved = predictions([[1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0]], [[2, 2, 0], [0, 0, -1], [-1, 0, 2], [0, 0, 0]])
    saved.table("test", CLASSES).to_parquet(run / "predictions.parquet")
    settings = SoundscapeSettings(field, segments=SegmentSettings(segment_s=1.0))
    folder = settings.folder(run, "best", None)
    evaluate_soundscapes(run, classifier, settings, folder)
    metrics, table = json.loads((folder / "metrics.json").read_text()), pd.read_csv(folder / "per_class.csv")
    assert metrics["settings"]["task"] == "multi_label" and "buckets" not in metrics["soundscape"]
    assert table.species.tolist() == ["barn owl", "wood lark"] and table.focal_clips.tolist() == [2, 2]
    assert table.focal_recall.tolist() == [0.5, 0.5]
    np.testing.assert_allclose(table.focal_average_precision, [3 / 4, 3 / 4])
    np.testing.assert_allclose(table.average_precision, [1 / 2, 1])  # an owl that is not annotated is heard first
    assert metrics["fall"]["cmap"]["difference"]["value"] == pytest.approx(0, abs=1e-9)
