import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from birdclf.errors import UserError
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.predictions import Predictions, per_class_table, read_predictions, write_predictions

CLASSES = ("crane", "robin", "wren")


def made(n: int = 30, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    ids = np.array([f"r{i:03d}" for i in range(n)], dtype=object)
    logits = rng.standard_normal((n, 3)).astype(np.float32)
    return Predictions(ids, rng.integers(0, 2, n), logits, ids)  # no wren among the targets


def test_predictions_follow_the_logits():
    predictions = made()
    assert predictions.prediction.tolist() == predictions.logits.argmax(axis=1).tolist()
    assert predictions.confusion.shape == (3, 3) and predictions.confusion.sum() == 30
    assert predictions.confusion.sum(axis=1).tolist() == np.bincount(predictions.target, minlength=3).tolist()


def test_figures_hold_their_intervals_and_go_into_json():
    figures = made().figures(np.array([200, 50, 5]))
    for name in ("accuracy", "macro_f1", "macro_f1_evaluable", "weighted_f1", "balanced_accuracy"):
        assert figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"]
    assert figures["clips"] == 30 and figures["top5_accuracy"] == 1
    assert figures["nll"] == pytest.approx(
        -np.log(softmax(made().logits.astype(float), axis=1)[np.arange(30), made().target]).mean()
    )
    assert {name: row["classes"] for name, row in figures["buckets"].items()} == {"many": 1, "medium": 1, "few": 0}
    assert json.loads(json.dumps(figures)) == figures


def test_the_cluster_reaches_the_interval():
    alone = made()
    together = Predictions(alone.recording_id, alone.target, alone.logits, np.array(["one"] * 30, dtype=object))
    widths = [p.figures(np.ones(3))["macro_f1"] for p in (alone, together)]
    assert widths[1]["high"] - widths[1]["low"] > 1.5 * (widths[0]["high"] - widths[0]["low"])


def test_the_table_names_everything():
    predictions = made()
    table = predictions.table("test", CLASSES)
    assert list(table.columns[:5]) == ["recording_id", "split", "target", "prediction", "cluster"]
    assert list(table.columns[5:]) == ["p:crane", "p:robin", "p:wren"]
    assert set(table.split) == {"test"}
    assert list(table.target) == [CLASSES[k] for k in predictions.target]
    p = table[["p:crane", "p:robin", "p:wren"]].to_numpy()
    np.testing.assert_allclose(p, softmax(predictions.logits.astype(float), axis=1), rtol=1e-5)
    assert list(table.prediction) == [CLASSES[k] for k in p.argmax(axis=1)]


def test_what_is_written_is_read_back(tmp_path):
    tables = [made(10, seed=1).table("val", CLASSES), made(5, seed=2).table("test", CLASSES)]
    write_predictions(tmp_path / "predictions.parquet", tables)
    back = pd.read_parquet(tmp_path / "predictions.parquet")
    pd.testing.assert_frame_equal(back, pd.concat(tables, ignore_index=True))
    assert back.split.value_counts().to_dict() == {"val": 10, "test": 5}


def test_a_row_a_class():
    ids = np.array(list("abcd"), dtype=object)
    logits = np.eye(3, dtype=np.float32)[[0, 1, 1, 0]]
    predictions = Predictions(ids, np.array([0, 0, 1, 1]), logits, ids)
    supports = {"train": np.array([9, 8, 7]), "val": np.array([2, 2, 0]), "test": np.array([2, 2, 0])}
    table = per_class_table(predictions, CLASSES, supports)
    assert list(table.columns) == ["species", "train", "val", "test", "precision", "recall", "f1"]
    assert list(table.species) == list(CLASSES) and list(table.train) == [9, 8, 7]
    assert (
        list(table.precision) == [0.5, 0.5, 0]
        and list(table.recall) == [0.5, 0.5, 0]
        and list(table.f1) == [0.5, 0.5, 0]
    )


def test_buckets_hold_plain_numbers_and_the_interval_of_f1():
    buckets = made().figures(np.array([200, 50, 5]))["buckets"]
    assert buckets["many"]["f1_low"] < buckets["many"]["f1"] < buckets["many"]["f1_high"]
    assert all(buckets["few"][name] is None for name in ("f1", "recall", "precision", "f1_low", "f1_high"))


def test_the_settings_reach_every_figure():
    train, usual = np.array([200, 50, 5]), made().figures(np.array([200, 50, 5]))
    other = made().figures(train, Evaluation(many=300, bins=3, confidence=0.5))
    assert other["buckets"]["many"]["classes"] == 0 and other["ece"] != usual["ece"]
    for name in ("accuracy", "macro_f1"):
        assert usual[name]["low"] < other[name]["low"] < other[name]["high"] < usual[name]["high"]


def test_predictions_are_read_back_with_the_same_figures(tmp_path):
    path, before = tmp_path / "p.parquet", made()
    before = Predictions(before.recording_id, before.target, before.logits, np.array(list("abc") * 10, dtype=object))
    write_predictions(path, [before.table("val", CLASSES), made(5, seed=2).table("test", CLASSES)])
    after, classes = read_predictions(path, "val")
    assert classes == CLASSES and after.cluster.tolist() == before.cluster.tolist()
    train = np.array([200, 50, 5])
    one, two = before.figures(train), after.figures(train)
    assert one["macro_f1"] == two["macro_f1"] and one["nll"] == pytest.approx(two["nll"], rel=1e-5)
    table = pd.read_parquet(path).drop(columns="cluster")
    table.to_parquet(path)
    assert read_predictions(path, "val")[0].cluster.tolist() == before.recording_id.tolist()


def test_a_file_that_holds_no_predictions_is_refused(tmp_path):
    path = tmp_path / "p.parquet"
    with pytest.raises(UserError, match="does not exist"):
        read_predictions(path, "val")
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(path, "val")
    whole = made().table("val", CLASSES)
    for table, words in (
        (whole.drop(columns="target"), "lacks the columns target"),
        (whole[["recording_id", "split", "target"]], "lacks the columns a p:"),
        (whole.assign(split="test"), "holds no row of the split val; it holds test"),
        (whole.drop(columns=f"p:{whole.target[0]}"), "without a probability"),
        (whole.assign(**{"p:wren": np.nan}), "are no numbers"),
    ):
        table.to_parquet(path)
        with pytest.raises(UserError, match=words):
            read_predictions(path, "val")


def test_a_pointer_of_git_lfs_is_called_that(tmp_path):
    file = tmp_path / "predictions.parquet"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UserError, match=r"predictions\.parquet is a Git LFS pointer.*git lfs pull"):
        read_predictions(file, "test")
