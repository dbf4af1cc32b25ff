import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdclf.errors import UserError
from birdclf.metrics import multi_label
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.label_predictions import LabelPredictions, per_class_table, read_label_predictions
from birdclf.metrics.over_seeds import OverSeeds
from birdclf.metrics.predictions import write_predictions

CLASSES = ("crane", "robin", "wren", "owl", "rail")
TRAIN = np.array([200, 150, 50, 10, 5])
WITH_INTERVAL = ("cmap", "auroc", "t1_accuracy", "micro_f1", "macro_f1", "recall_at_precision", "precision_at_recall")
WITH_INTERVAL += ("false_detections_per_hour",)


def made(n: int = 200, seed: int = 0, clusters: int = 8, skill: float = 2.0) -> LabelPredictions:
    rng = np.random.default_rng(seed)
    target = (rng.random((n, 5)) < [0.3, 0.2, 0.2, 0.1, 0]).astype(np.int8)  # no rail
    logits = rng.standard_normal((n, 5)) + skill * target - 1
    target[:5, 1] = -1
    cluster = np.array([f"site{i % clusters}" for i in range(n)], dtype=object)
    ids = np.array([f"r{i:03d}" for i in range(n)], dtype=object)
    return LabelPredictions(ids, target, logits.astype(np.float32), cluster, np.full(n, 5.0))


def test_figures_hold_their_intervals_and_go_into_json():
    figures = made().figures(TRAIN)
    for name in WITH_INTERVAL:
        assert 0 <= figures[name]["low"] < figures[name]["value"] < figures[name]["high"], name
        assert name == "false_detections_per_hour" or figures[name]["high"] <= 1
    assert figures["clips"] == 200 and figures["classes_without_positive"] == 1
    many = figures["buckets"]["many"]
    assert many["cmap_low"] < many["cmap"] < many["cmap_high"]
    assert {name: row["classes"] for name, row in figures["buckets"].items()} == {"many": 2, "medium": 1, "few": 1}
    assert many["clips"] == (made().target[:, :2] == 1).any(axis=1).sum()
    assert json.loads(json.dumps(figures)) == figures


def test_false_detections_are_counted_in_empty_sound_alone():
    target = np.array([[1, 0], [0, 0], [0, -1], [0, 0]], dtype=np.int8)
    logits = np.array([[9, 9], [9, 9], [-9, 9], [0, -9]], dtype=np.float32)
    ids = np.arange(4).astype(object)
    figures = LabelPredictions(ids, target, logits, ids, np.array([5.0, 5, 5, 10])).figures(np.array([9, 9]))
    assert figures["empty_hours"] == pytest.approx(20 / 3600)
    assert figures["false_detections_per_hour"]["value"] == pytest.approx(3 / (20 / 3600))
    assert figures["t1_accuracy"]["value"] == 1 and figures["classes_without_positive"] == 1


def test_what_is_not_defined_is_none():
    """No class is heard; or no sound is empty."""
    usual = made()
    silent = LabelPredictions(usual.recording_id, np.zeros_like(usual.target), *_rest(usual)).figures(TRAIN)
    for name in ("cmap", "auroc", "t1_accuracy", "macro_f1"):
        assert silent[name] == {"value": None, "low": None, "high": None}
    assert silent["ece"] is None and silent["buckets"]["few"]["cmap"] is None
    assert silent["false_detections_per_hour"]["value"] > 0 and silent["classes_without_positive"] == 5
    full = LabelPredictions(usual.recording_id, np.ones_like(usual.target), *_rest(usual)).figures(TRAIN)
    assert full["false_detections_per_hour"]["value"] is None and full["empty_hours"] == 0
    assert full["auroc"]["value"] is None and full["cmap"]["value"] == 1
    assert json.loads(json.dumps(silent)) == silent and json.loads(json.dumps(full)) == full


def _rest(predictions: LabelPredictions) -> tuple[np.ndarray, ...]:
    return predictions.logits, predictions.cluster, predictions.duration_s


def test_one_cluster_says_nothing_of_others():
    figures = made(clusters=1).figures(TRAIN)
    assert (figures["cmap"]["low"], figures["cmap"]["high"]) == (0, 1)
    assert figures["false_detections_per_hour"]["low"] == 0 and figures["false_detections_per_hour"]["high"] is None


def test_errors_of_one_recording_widen_the_interval():
    apart = made(400, clusters=40)
    together = np.array([f"site{i // 10}" for i in range(400)], dtype=object)
    logits = apart.logits.copy()
    logits[:60] *= -1
    widths = []
    for cluster in (apart.cluster, together):
        found = LabelPredictions(apart.recording_id, apart.target, logits, cluster, apart.duration_s).figures(TRAIN)
        widths.append(found["micro_f1"]["high"] - found["micro_f1"]["low"])
    assert widths[1] > 1.3 * widths[0]


def test_the_settings_reach_every_figure():
    usual = made().figures(TRAIN)
    other = made().figures(TRAIN, Evaluation(threshold=0.2, precision=0.5, recall=0.9, bins=3, confidence=0.5))
    assert other["recall_at_precision"]["value"] > usual["recall_at_precision"]["value"]
    assert other["precision_at_recall"]["value"] < usual["precision_at_recall"]["value"]
    assert other["false_detections_per_hour"]["value"] > usual["false_detections_per_hour"]["value"]
    assert other["ece"] != usual["ece"] and other["macro_f1"]["value"] != usual["macro_f1"]["value"]
    assert usual["cmap"]["low"] < other["cmap"]["low"] < other["cmap"]["high"] < usual["cmap"]["high"]


@pytest.mark.parametrize("metric", [*WITH_INTERVAL, "few_cmap", "many_auroc", "medium_f1", "many_recall"])
def test_a_measured_figure_is_compared_over_seeds(metric):
    found = made().measured(metric, TRAIN, Evaluation())
    assert found is not None
    value, influence = found
    figures = made().figures(TRAIN)
    bucket, _, name = metric.partition("_")
    expected = figures["buckets"][bucket][name] if bucket in figures["buckets"] else figures[metric]["value"]
    assert value == expected and influence.cluster.tolist() == [f"site{i}" for i in range(8)]
    low, high = OverSeeds.of([value], [influence]).interval()
    assert low < value < high


ARRAYS = ("recording_id", "target", "logits", "cluster", "duration_s")


def test_a_cluster_moves_a_figure_as_far_as_its_influence_says():
    usual = made()
    value, influence = usual.measured("cmap", TRAIN, Evaluation())
    kept = usual.cluster != "site3"
    other = LabelPredictions(*(getattr(usual, name)[kept] for name in ARRAYS))
    without, _ = other.measured("cmap", TRAIN, Evaluation())
    assert influence.loss[3] == pytest.approx((value - without) * 7 / 8)


def test_a_figure_without_an_interval_is_not_measured():
    assert made().measured("nll", TRAIN, Evaluation()) is None
    assert made().measured("few_cmap", np.full(5, 500), Evaluation()) is None


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_figures_change_by_no_order_of_clips(seed):
    usual = made(60, seed)
    order = np.random.default_rng(seed).permutation(60)
    other = LabelPredictions(*(getattr(usual, name)[order] for name in ARRAYS))
    assert json.dumps(_rounded(usual.figures(TRAIN))) == json.dumps(_rounded(other.figures(TRAIN)))


def _rounded(figures):
    if isinstance(figures, dict):
        return {name: _rounded(value) for name, value in figures.items()}
    return float(f"{figures:.6g}") if isinstance(figures, float) else figures


def test_a_row_a_class():
    supports = {"train": TRAIN, "test": made().heard}
    table = per_class_table(made(), CLASSES, supports)
    names = ["species", "train", "test", "average_precision", "auroc", "precision", "recall", "f1"]
    assert list(table.columns) == names and list(table.species) == list(CLASSES)
    assert table.average_precision[:4].mean() == pytest.approx(made().figures(TRAIN)["cmap"]["value"])
    assert table.iloc[4, 3:].isna().all()  # no rail


def test_predictions_are_read_back_with_the_same_figures(tmp_path):
    path, before = tmp_path / "p.parquet", made()
    write_predictions(path, [before.table("val", CLASSES), made(5, seed=2).table("test", CLASSES)])
    table = pd.read_parquet(path)
    assert list(table.columns[:4]) == ["recording_id", "split", "cluster", "duration_s"]
    assert table["y:wren"].dtype == np.int8 and table["p:wren"].dtype == np.float32
    after, classes = read_label_predictions(path, "val")
    assert classes == CLASSES and after.cluster.tolist() == before.cluster.tolist()
    np.testing.assert_array_equal(after.target, before.target)
    np.testing.assert_array_equal(after.duration_s, before.duration_s)
    one, two = before.figures(TRAIN), after.figures(TRAIN)
    assert _close(one, two)
    assert len(read_label_predictions(path, "test")[0].target) == 5


def _close(one, two) -> bool:
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_close(one[name], two[name]) for name in one)
    return one == two if one is None else one == pytest.approx(two, rel=1e-4)


def test_certain_probabilities_are_read_back_as_numbers(tmp_path):
    path, usual = tmp_path / "p.parquet", made(20)
    certain = np.sign(usual.logits) * np.float32(200)
    LabelPredictions(usual.recording_id, usual.target, certain, usual.cluster, usual.duration_s).table(
        "test", CLASSES
    ).to_parquet(path)
    logits = read_label_predictions(path, "test")[0].logits
    assert np.isfinite(logits).all() and (np.sign(logits) == np.sign(certain)).all()


def test_a_file_that_holds_no_such_predictions_is_refused(tmp_path):
    path = tmp_path / "p.parquet"
    with pytest.raises(UserError, match="does not exist"):
        read_label_predictions(path, "val")
    whole = made().table("val", CLASSES)
    for table, words in (
        (whole.drop(columns="duration_s"), "lacks the columns duration_s"),
        (whole.drop(columns="y:wren"), "no targets of 1 species, such as wren"),
        (whole.assign(split="test"), "holds no row of the split val; it holds test"),
        (whole.assign(**{"p:wren": 1.5}), "above 1"),
        (whole.assign(**{"y:wren": 2}), "targets other than 1, 0 and -1"),
        (whole.assign(**{"p:wren": np.nan}), "are no numbers"),
    ):
        table.to_parquet(path)
        with pytest.raises(UserError, match=words):
            read_label_predictions(path, "val")


@pytest.mark.parametrize("clusters", [60, pytest.param(2_000, marks=pytest.mark.slow)])
def test_ten_hours_of_sound_take_seconds(clusters):
    rng = np.random.default_rng(0)
    target = (rng.random((12_000, 132)) < np.geomspace(0.1, 0.001, 132)).astype(np.int8)
    logits = (rng.standard_normal(target.shape) + 2 * target - 2).astype(np.float32)
    member = rng.integers(0, clusters, 12_000).astype(object)
    began = time.process_time()
    LabelPredictions(member, target, logits, member, np.full(12_000, 5.0)).figures(np.arange(132))
    assert time.process_time() - began < 30


def test_detections_at_thresholds_of_each_class_by_hand():
    p = np.array([[0.9, 0.2], [0.6, 0.7], [0.8, 0.9], [0.1, 0.9]])
    target = np.array([[1, 0], [0, 1], [0, 0], [-1, 0]], dtype=np.int8)  # the last two are empty
    names = np.array(["a", "b", "c", "d"], dtype=object)
    found = LabelPredictions(names, target, multi_label.logits_of(p), names, np.full(4, 900.0))
    at = found.at(np.array([0.7, np.inf]), Evaluation())
    assert at["precision"]["value"] == 1 / 2 and at["recall"]["value"] == 1 / 2
    assert at["false_detections_per_hour"]["value"] == 1 / 0.5
    assert found.at(np.array([0.85, 0.65]), Evaluation())["precision"]["value"] == pytest.approx(2 / 4)
