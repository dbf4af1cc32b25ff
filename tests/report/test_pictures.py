"""The opening pictures: what is drawn of scores, differences, species and effects, and what is said of them."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up_runs import configured, write_sweep

from birdclf.metrics.figures import Evaluation
from birdclf.report.document import DotPlot, Section, markdown, page
from birdclf.report.estimates import estimate
from birdclf.report.paired_tests import METRICS, Comparison, compare
from birdclf.report.sections import pictures
from birdclf.report.sections.pictures import (
    differences_plot,
    effects_plot,
    results_section,
    scores_plot,
    species_plot,
)

SETTINGS = Evaluation(draws=200)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Configurations of a sweep in the order of their jobs, and the tests of the last against the others."""
    found, _ = configured(write_sweep(tmp_path_factory.mktemp("sweep") / "in", classes=12, clips=200))
    return found, compare(found[-1], found[:-1], SETTINGS)


def inside(plot: DotPlot) -> bool:
    """Return whether every mark, interval and tick lies on its axis, and there are two ticks or more."""
    for column, axis in enumerate(plot.axes):
        places = [value for value, _ in axis.ticks]
        for row in plot.rows:
            mark = row.marks[column] if row.marks else None
            places += [v for v in (mark.value, mark.low, mark.high) if not math.isnan(v)] if mark else []
        if not all(axis.low <= place <= axis.high for place in places) or len(axis.ticks) < 2:
            return False
    return True


def test_scores_have_a_row_a_configuration_with_its_intervals(swept):
    found, _ = swept
    plot = scores_plot(found[1], found, SETTINGS)
    assert [row.label for row in plot.rows] == [one.label for one in found] and inside(plot)
    assert [row.strong for row in plot.rows] == [False, True, False, False]
    assert [axis.name for axis in plot.axes] == ["accuracy", "macro F1", "few-shot recall"]
    for one, row in zip(found, plot.rows, strict=True):
        for metric, mark in zip(("accuracy", "macro_f1", "few_recall"), row.marks, strict=True):
            known = estimate(one, f"test/{metric}", SETTINGS)
            assert (mark.value, mark.low, mark.high) == (known.value, known.low, known.high)
            assert mark.text == f"{known.value:.3f} [{known.low:.3f}, {known.high:.3f}]"
    means = {one.label: one.mean("test/accuracy") for one in found}
    best, worst = max(means, key=means.get), min(means, key=means.get)
    assert f"highest for {best} ({means[best]:.3f}) and lowest for {worst} ({means[worst]:.3f})" in plot.caption


def test_a_metric_that_no_run_has_has_no_column(swept):
    found, _ = swept
    plot = scores_plot(found[0], found, SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "estimate", lambda one, m, s: None if "few" in m else estimate(one, m, s))
        less = scores_plot(found[0], found, SETTINGS)
    assert [axis.name for axis in less.axes] == ["accuracy", "macro F1"]
    assert [row.marks for row in less.rows] == [row.marks[:2] for row in plot.rows]


def test_past_the_most_rows_the_rest_is_counted_and_the_reference_kept(swept, monkeypatch):
    found, comparisons = swept
    monkeypatch.setattr(pictures, "MOST_CONFIGURATIONS", 2)
    plot = scores_plot(found[-1], found, SETTINGS)
    assert [row.label for row in plot.rows] == [found[0].label, found[-1].label]
    assert "The tables below have 2 more configurations." in plot.caption
    gaps = differences_plot(found[-1], comparisons, SETTINGS)
    assert len(gaps.rows) == 2 and "have 1 more rival." in gaps.caption


def test_differences_are_in_points_and_filled_where_decided(swept, monkeypatch):
    found, comparisons = swept
    verdicts = dict(zip([c.rival.label for c in comparisons], ("better", "undecided", "worse"), strict=True))
    monkeypatch.setattr(
        Comparison,
        "verdict",
        lambda self, metric: verdicts[self.rival.label] if metric == "accuracy" else "no relevant difference",
    )
    plot = differences_plot(found[-1], comparisons, SETTINGS)
    assert inside(plot) and [row.label for row in plot.rows] == [c.rival.label for c in comparisons]
    for comparison, row in zip(comparisons, plot.rows, strict=True):
        for metric, mark in zip(METRICS, row.marks, strict=True):
            gap = comparison.difference(metric)
            assert (mark.value, mark.low, mark.high) == tuple(100 * v for v in (gap.value, gap.low, gap.high))
            assert mark.filled == (metric == "macro_f1" or comparison is not comparisons[1])
            assert mark.text.endswith(f", {comparison.verdict(metric)}")
    counts = "better than {}, worse than {}, not relevantly different from {} and undecided against {} of 3 rivals."
    assert f"By accuracy it is {counts.format(1, 1, 0, 1)}" in plot.caption
    assert f"By macro F1 it is {counts.format(0, 0, 3, 0)}" in plot.caption
    for axis in plot.axes:
        assert (axis.zero, axis.margin) == (0, 2) and axis.low < -2 < 2 < axis.high
        assert (0.0, "0") in axis.ticks
    assert "up to 2 points" in plot.caption


def test_a_margin_is_a_band_and_none_is_none(swept):
    found, comparisons = swept
    band = 'class="band"'
    for margin, bands in ((0.0, 0), (0.02, len(METRICS) * len(comparisons))):
        plot = differences_plot(found[-1], comparisons, replace(SETTINGS, margin=margin))
        assert page("", [Section("a", "", (plot,))]).count(band) == bands
        assert ("band" in plot.caption) == bool(bands)


def test_species_are_the_surest_in_the_order_of_their_difference(swept):
    found, comparisons = swept
    comparison = replace(comparisons[0])
    q = np.linspace(0.001, 0.9, 12)
    difference = np.array([0.5, -0.4, 0.3, -0.2, 0.1, 0.0, 0.05, -0.05, 0.0, 0.2, -0.3, 0.4])
    table = pd.DataFrame({"class_index": np.arange(12)[::-1], "difference": difference, "q_value": q})
    comparison.classes = table.assign(low=difference - 0.1, high=difference + 0.1, p_value=q)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "MOST_SPECIES", 4)
        plot = species_plot(found[-1], comparison, SETTINGS)
    assert [row.label for row in plot.rows] == ["species 11", "species 09", "species 08", "species 10"]
    assert [row.marks[0].value for row in plot.rows] == pytest.approx([50, 30, -20, -40])
    assert [row.marks[0].filled for row in plot.rows] == [True, False, False, False]
    counts = found[-1].first.train_counts
    assert [row.note for row in plot.rows] == [f"few, {counts[k]}" for k in (11, 9, 8, 10)]
    said = "1 of 12 species with a test recording. 6 are better, 4 worse, and 2 equal (not shown). Shown are the 4 of"
    assert said in plot.caption and inside(plot)


def test_equal_predictions_have_no_plot_of_species(swept):
    found, comparisons = swept
    equal = [replace(c, classes=c.classes.assign(difference=0.0)) for c in comparisons]
    titles = [block.title for block in results_section(found[-1], found, equal, SETTINGS).blocks]
    assert len(titles) == 2 and not any("Species" in title for title in titles)
    assert len(results_section(found[-1], found, comparisons, SETTINGS).blocks) == 3
    refused = [replace(c, refused="other recordings") for c in comparisons]
    assert len(results_section(found[-1], found, refused, SETTINGS).blocks) == 1


def test_one_configuration_is_said_in_words(swept):
    (plot,) = results_section(swept[0][0], swept[0][:1], [], SETTINGS).blocks
    accuracy, macro, few = (mark.text for mark in plot.rows[0].marks)
    assert plot.caption.endswith(f"accuracy {accuracy}; macro F1 {macro}; few-shot recall {few}.")
    assert "reference" not in plot.caption


def test_effects_stand_under_their_term():
    head = ("term", "level", "effect", "low", "high", "p_value")
    rows = [("loss", "a", -0.1, -0.2, -0.01, 0.01), ("loss", "b", 0.1, 0.01, 0.2, 0.01), ("model", "c", 0, -1, 1, 0.9)]
    first = pd.DataFrame(rows, columns=head)
    plot = effects_plot({"accuracy": first, "macro F1": first.iloc[:2]}, SETTINGS)
    assert [(row.label, len(row.marks)) for row in plot.rows] == [
        ("loss", 0),
        ("a", 2),
        ("b", 2),
        ("model", 0),
        ("c", 2),
    ]
    assert [mark.filled for mark in plot.rows[1].marks] == [True, True]
    assert plot.rows[4].marks[1] is None and not plot.rows[4].marks[0].filled
    assert plot.rows[1].marks[0].text == "-0.100 [-0.200, -0.010]" and inside(plot)
    assert "(accuracy: loss; macro F1: loss)" in plot.caption


def test_a_mark_without_an_interval_is_a_point_alone():
    mark = pictures.mark_of(0.5, math.nan, math.nan, "{:.3f}")
    row = pictures.Row("a", (mark,))
    plot = DotPlot("Points", "Words.", "name", pictures.axes_of(["score"], [row], "{:g}"), (row,))
    text = page("", [Section("a", "", (plot,))])
    assert mark.text == "0.500" and "<circle" in text and "nan" not in text.split("</style>")[1]


def test_a_dot_plot_is_words_in_markdown_and_a_table_to_who_cannot_see_it(swept):
    found, comparisons = swept
    plot = differences_plot(found[-1], comparisons, SETTINGS)
    section = Section("a", "A", (plot,))
    said = markdown("", [section])
    assert "drawn in report.html" in said and "undecided against" in said
    text = page("", [section])
    assert text.count('role="rowheader"') == 3 and text.count('role="columnheader"') == 3
    assert all(f"<title>{mark.text}</title>" in text for row in plot.rows for mark in row.marks)
