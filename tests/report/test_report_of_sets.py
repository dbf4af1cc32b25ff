"""Reports on runs of task=multi_label, and on runs of both tasks."""

import numpy as np
import pandas as pd
import pytest
from made_up_runs import configured, write_run
from scipy import stats
from test_whole_report import section, summary, table

from birdclf.metrics.figures import Evaluation
from birdclf.report.document import Table
from birdclf.report.estimates import estimate
from birdclf.report.paired_tests import compare
from birdclf.report.plan import plan
from birdclf.report.report import report
from birdclf.report.sections.comparison import comparison_section

SETTINGS = Evaluation()


def two(folder, seeds=(1, 2), skills=(0.9, 0.4)):
    for job, skill in enumerate(skills):
        for seed in seeds:
            write_run(folder / f"{job}_{seed}", skill, seed, loss="ab"[job], task="multi_label")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return report([two(folder / "sweep")], folder / "out")


def test_configurations_are_ranked_and_tested_by_the_figures_of_sets(made):
    said = summary(made)
    assert "audio_cnn a" not in said and "a has the best val/cmap" in said
    assert "cmAP: a beats b" in said and "Macro F1: a beats b" in said and "ccuracy" not in said
    rows = pd.read_csv(made.folder / "comparison.csv")
    assert list(rows.configuration) == ["a", "b"] and rows.test_cmap[0] > rows.test_cmap[1]
    assert {"test_cmap_sd", "test_macro_f1", "test_few_cmap", "test_auroc"} <= set(rows.columns)
    assert (rows.test_false_detections_per_hour > 0).all()


def test_sections_are_those_that_make_sense_of_sets(made):
    anchors = [part.anchor for part in made.sections]
    assert anchors == [
        *("summary", "results", "effects", "table", "tests", "criteria", "published"),
        *("training", "calibration", "species", "repeat"),
    ]
    text = (made.folder / "report.md").read_text()
    assert "McNemar" not in text and "accuracy" not in text and "no confusion matrix" in text
    assert table(made, "training").columns[-1] == "of epochs"


def test_species_have_the_interval_of_their_average_precision(made):
    rows = table(made, "species").rows
    run = made.configurations[0].first
    assert [row[0] for row in rows] == list(run.classes)
    found = run.test.by_class(run.evaluation)
    assert [row[3].value for row in rows] == pytest.approx(found["ap"].value.tolist())
    assert all("[" in row[3].text for row in rows)
    assert [row[2].value for row in rows] == run.test.heard.tolist()


def test_one_seed_is_tested_by_the_jackknife_of_the_paired_influences(tmp_path):
    found = configured(two(tmp_path, seeds=(1,), skills=(0.9, 0.8)))[0]
    (comparison,) = compare(found[0], [found[1]], SETTINGS)
    (pair,) = comparison.pairs
    a, b = (one.first.test.estimates(one.first.train_counts, SETTINGS)["cmap"] for one in found)
    without = a.without - b.without
    clusters = len(without)
    error = np.sqrt(((a.value - b.value - without) ** 2).sum() * (clusters - 1) / clusters)
    difference = comparison.difference("cmap")
    assert pair.mcnemar is None and difference == pair.difference["cmap"]
    assert difference.value == pytest.approx(a.value - b.value)
    ratio = abs(difference.value) / error
    assert difference.p_value == pytest.approx(2 * stats.norm.sf(ratio), rel=0.3, abs=1e-3)
    assert comparison.p_value("cmap") == difference.p_value


def test_equal_runs_are_not_told_apart(tmp_path):
    for loss in "ab":
        write_run(tmp_path / loss, 0.7, loss=loss, task="multi_label")
        for name in ("predictions.parquet", "metrics.json"):
            (tmp_path / loss / name).write_bytes((tmp_path / "a" / name).read_bytes())
    reference, rival = configured(tmp_path)[0]
    (comparison,) = compare(reference, [rival], SETTINGS)
    assert comparison.difference("cmap") == (0, 0, 0, 1) and comparison.decided("cmap") == 0
    assert (comparison.classes.difference == 0).all() and (comparison.classes.q_value == 1).all()


def test_differences_of_species_are_of_average_precision(tmp_path):
    found = configured(two(tmp_path, seeds=(1,)))[0]
    (comparison,) = compare(found[0], [found[1]], SETTINGS)
    classes, (a, b) = comparison.classes, (one.first.test.by_class(SETTINGS)["ap"].value for one in found)
    assert classes.difference.tolist() == pytest.approx((a - b)[classes.class_index].tolist())
    assert (classes.low <= classes.difference).all() and (classes.difference <= classes.high).all()
    assert (classes.q_value < 0.05).any()
    tables = [b for b in comparison_section(found[0], [comparison], SETTINGS).blocks if isinstance(b, Table)]
    assert tables[-1].columns == ("against", "species", "average precision", "q")


def test_intervals_of_one_run_are_stored_or_made_at_another_confidence(tmp_path):
    write_run(tmp_path / "0_run", task="multi_label")
    (one,) = configured(tmp_path)[0]
    for metric in ("test/cmap", "test/few_cmap", "test/false_detections_per_hour"):
        usual, narrow = (estimate(one, metric, Evaluation(confidence=level)) for level in (0.95, 0.5))
        assert usual.low < narrow.low < usual.value == narrow.value < narrow.high < usual.high
    stored, usual = one.first.metrics["test"]["cmap"], estimate(one, "test/cmap", SETTINGS)
    assert (stored["low"], stored["high"]) == (usual.low, usual.high)


def test_a_rate_over_seeds_may_exceed_one_an_hour(made):
    found = estimate(made.configurations[1], "test/false_detections_per_hour", SETTINGS)
    assert found.value > 1 and found.low < found.value < found.high


def test_runs_of_both_tasks_are_shown_and_not_compared(tmp_path):
    two(tmp_path / "in", seeds=(1,))
    write_run(tmp_path / "in" / "3_one", loss="c")
    made = report([tmp_path / "in"], tmp_path / "out", with_gallery=False)
    assert "Not compared, because it is of task=single_label and judged by other figures: c." in summary(made)
    assert "judged by other figures" in str(section(made, "tests").blocks[-1])
    assert [row[0] for row in table(made, "table").rows] == ["a", "b"]
    assert [row[0] for row in table(made, "other-task").rows] == ["c"]
    assert "test accuracy" in table(made, "other-task").columns
    other = report([tmp_path / "in"], tmp_path / "other", "c", with_gallery=False)
    assert "they are of task=multi_label" in summary(other)


def test_a_pilot_of_sets_plans_seeds(tmp_path):
    assert "cmAP: seen now" in plan([two(tmp_path)], 3.0)


def test_a_learning_curve_of_sets(tmp_path):
    for job, fraction in enumerate((0.25, 0.5, 1.0)):
        write_run(
            tmp_path / "in" / f"{job}_run",
            0.4 + 0.4 * fraction,
            fraction=fraction,
            task="multi_label",
            overrides=(f"split.train_fraction={fraction}",),
        )
    made = report([tmp_path / "in"], tmp_path / "out", with_gallery=False)
    assert "cmAP" in table(made, "learning-curve").columns and "points of cmAP" in str(section(made, "learning-curve"))


def test_a_test_split_without_any_species_is_left_out_with_the_reason(tmp_path):
    write_run(tmp_path / "in" / "0_run", task="multi_label")
    two(tmp_path / "in" / "more", seeds=(1,))
    file = tmp_path / "in" / "0_run" / "metrics.json"
    file.write_text(file.read_text().replace('"cmap": {"value": ', '"cmap": {"value": null, "was": '))
    made = report([tmp_path / "in"], tmp_path / "out", with_gallery=False)
    (left,) = made.left_out
    assert "None of its species is heard in its test recordings" in left.reason
