"""The opening pictures: scores and differences of configurations, effects of factors, differences of species."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd
from matplotlib.ticker import MaxNLocator

from birdclf.metrics.figures import Evaluation
from birdclf.report.configurations import Configuration
from birdclf.report.document import Axis, Block, DotPlot, Mark, Row, Section, counted
from birdclf.report.estimates import Estimate, estimate
from birdclf.report.paired_tests import LEVEL, METRICS, Comparison, Verdict

MOST_CONFIGURATIONS: Final = 24
MOST_LEVELS: Final = 40
MOST_SPECIES: Final = 30
SCORES: Final = {
    "test/accuracy": "accuracy",
    "test/macro_f1": "macro F1",
    "test/few_recall": "few-shot recall",
}


def results_section(
    reference: Configuration,
    ranked: Sequence[Configuration],
    comparisons: Sequence[Comparison],
    settings: Evaluation,
) -> Section:
    """Return the section that opens the report: scores, differences to the reference, and those of species.

    Args:
        reference: The configuration that the tests are about.
        ranked: All of them, the best on validation data first.
        comparisons: Those of the reference with each of the others.
        settings: Confidence of the intervals, limits of the buckets and margin.
    """
    tested = [comparison for comparison in comparisons if not comparison.refused]
    blocks: list[Block] = [scores_plot(reference, ranked, settings)]
    if tested:
        blocks.append(differences_plot(reference, tested, settings))
        strongest = tested[0]  # on validation data, by which they are ranked
        if (strongest.classes.difference != 0).any():
            blocks.append(species_plot(reference, strongest, settings))
    return Section("results", "Test results", tuple(blocks))


def scores_plot(reference: Configuration, ranked: Sequence[Configuration], settings: Evaluation) -> DotPlot:
    """Return a forest plot of test scores, a row a configuration and a column a metric."""
    shown = list(ranked[:MOST_CONFIGURATIONS])
    if reference not in shown:
        shown[-1] = reference
    found = {one.label: [estimate(one, metric, settings) for metric in SCORES] for one in shown}
    known = [i for i in range(len(SCORES)) if any(estimates[i] for estimates in found.values())]
    rows = tuple(
        Row(one.label, tuple(_score(found[one.label][i]) for i in known), strong=one is reference) for one in shown
    )
    names = [list(SCORES.values())[i] for i in known]
    several = max(len(one.runs) for one in shown) > 1
    caption = (
        f"Points are {'means over seeds' if several else 'scores'} on test data, lines their {settings.coverage} "
        "intervals"
    )
    if len(shown) == 1:
        marks = zip(names, rows[0].marks, strict=True)
        caption += f": {'; '.join(f'{name} {mark.text}' for name, mark in marks if mark)}."
    else:
        caption += (
            f". The best on validation data is at the top; the reference {reference.label} is bold and orange. "
            f"{_extremes(found)} Intervals that overlap decide nothing; the tests of differences do."
        )
    caption += left_over(len(ranked) - len(shown), "configuration")
    return DotPlot("Scores of each configuration", caption, "configuration", axes_of(names, rows, "{:g}"), rows)


def differences_plot(reference: Configuration, tested: Sequence[Comparison], settings: Evaluation) -> DotPlot:
    """Return a forest plot of the reference minus each rival, in points, filled where a test decided.

    Args:
        reference: The configuration that the tests are about.
        tested: Its comparisons with the rivals that it could be compared with, one or more.
        settings: Confidence of the intervals, and margin.
    """
    rows = []
    for comparison in tested[:MOST_CONFIGURATIONS]:
        marks = []
        for metric in METRICS:
            gap, verdict = comparison.difference(metric), comparison.verdict(metric)
            marks.append(_points(gap.value, gap.low, gap.high, verdict != "undecided", verdict))
        rows.append(Row(comparison.rival.label, tuple(marks)))
    verdicts = " ".join(
        f"By {SCORES[f'test/{metric}']} it is better than {_verdicts(tested, metric, 'better')}, worse than "
        f"{_verdicts(tested, metric, 'worse')}, not relevantly different from "
        f"{_verdicts(tested, metric, 'no relevant difference')} and undecided against "
        f"{_verdicts(tested, metric, 'undecided')} of {counted(len(tested), 'rival')}."
        for metric in METRICS
    )
    caption = (
        f"The reference minus each of the others with {settings.coverage} intervals: right of 0 the reference is "
        f"better. Hollow where nothing is decided at {LEVEL}. {verdicts}"
    )
    margin = 100 * settings.margin
    if margin:
        caption += f" The band marks differences of up to {margin:g} points, which are not relevant."
    caption += left_over(len(tested) - len(rows), "rival")
    names = [f"{SCORES[f'test/{metric}']}, points" for metric in METRICS]
    axes = axes_of(names, rows, "{:+g}", 0.0, margin)
    return DotPlot(f"{reference.label} against each of the others", caption, "rival", axes, tuple(rows))


def species_plot(reference: Configuration, comparison: Comparison, settings: Evaluation) -> DotPlot:
    """Return a dot plot of the reference's F1 of a species minus its rival's, the surest and largest differences.

    Args:
        reference: The configuration that the tests are about.
        comparison: Its comparison with the rival, in which one species differs or more.
        settings: Confidence of the intervals, and limits of the buckets.
    """
    seeds, rival, table = comparison.pairs[0].seeds, comparison.rival.label, comparison.classes
    run = next(run for run in reference.runs.values() if run.seeds == seeds)
    differing = table[table.difference != 0]
    size = -differing.difference.abs()
    order = differing.assign(size=size).sort_values(["q_value", "size"])
    chosen = order.head(MOST_SPECIES).sort_values("difference", ascending=False, kind="stable")
    buckets = settings.buckets(run.train_counts).items()
    rows = []
    for row in chosen.to_dict("records"):
        k = int(row["class_index"])
        bucket = next(name for name, inside in buckets if inside[k])
        sure = row["q_value"] < LEVEL
        mark = _points(row["difference"], row["low"], row["high"], sure, f"q = {row['q_value']:.3f}")
        rows.append(Row(run.classes[k], (mark,), f"{bucket}, {run.train_counts[k]:,}"))
    real = int((table.q_value < LEVEL).sum())
    caption = (
        f"F1 × 100 of the reference minus {rival}, the best of the others on validation data, with "
        f"{settings.coverage} intervals, on the test recordings of seed {seeds}; beside each "
        f"species its bucket and its train recordings. Filled where the difference is real at a false discovery rate "
        f"of {LEVEL}: {real} of {len(table)} species with a test recording. {int((table.difference > 0).sum())} are "
        f"better, {int((table.difference < 0).sum())} worse, and {int((table.difference == 0).sum())} equal (not "
        "shown)."
    )
    if len(differing) > len(chosen):
        caption += f" Shown are the {len(chosen)} of the smallest q."
    axes = axes_of(["F1, points"], rows, "{:+g}", 0.0)
    return DotPlot(f"Species: {reference.label} against {rival}", caption, "species", axes, tuple(rows))


def effects_plot(found: Mapping[str, pd.DataFrame], settings: Evaluation) -> DotPlot:
    """Return a dot plot of the effects of factors: levels under a heading for each term, a column a metric.

    Args:
        found: Tables of :func:`birdclf.metrics.effects.effects` by the name of the metric, one or more.
        settings: Confidence of the intervals.
    """
    by_place = {
        name: {(row["term"], row["level"]): row for row in table.to_dict("records")} for name, table in found.items()
    }
    places = list(dict.fromkeys(place for rows in by_place.values() for place in rows))
    rows: list[Row] = []
    for place in places[:MOST_LEVELS]:
        if place[0] not in [row.label for row in rows if not row.marks]:
            rows.append(Row(str(place[0])))
        marks = (
            mark_of(row["effect"], row["low"], row["high"], "{:+.3f}", row["p_value"] < LEVEL) if row else None
            for row in (by_place[name].get(place) for name in found)
        )
        rows.append(Row(str(place[1]), tuple(marks)))
    real = "; ".join(
        f"{name}: {', '.join(dict.fromkeys(table[table.p_value < LEVEL].term)) or 'none'}"
        for name, table in found.items()
    )
    caption = (
        f"Each level's deviation from the mean over all, with {settings.coverage} intervals; of an interaction, that "
        f"from the sum of its factors. Filled where the adjusted p is below {LEVEL} ({real})."
    )
    caption += left_over(len(places) - MOST_LEVELS, "effect")
    axes = axes_of(list(found), rows, "{:+g}", 0.0)
    return DotPlot("Effects of each factor", caption, "factor and level", axes, tuple(rows))


def left_over(n: int, one: str) -> str:
    """Return a sentence on what a picture does not show."""
    return f" The tables below have {counted(n, f'more {one}')}." if n > 0 else ""


def _score(found: Estimate | None) -> Mark | None:
    return mark_of(found.value, found.low, found.high, "{:.3f}") if found else None


def _points(value: float, low: float, high: float, filled: bool, note: str) -> Mark:
    mark = mark_of(100 * value, 100 * low, 100 * high, "{:+.1f}", filled)
    return Mark(mark.value, mark.low, mark.high, f"{mark.text}, {note}", filled)


def mark_of(value: float, low: float, high: float, form: str, filled: bool = True) -> Mark:
    """Return a mark whose text is its figures, in a format such as ``{:.3f}``."""
    known = "" if math.isnan(low) else f" [{form.format(low)}, {form.format(high)}]"
    return Mark(value, low, high, form.format(value) + known, filled)


def _verdicts(tested: Sequence[Comparison], metric: str, verdict: Verdict) -> int:
    return sum(comparison.verdict(metric) == verdict for comparison in tested)


def _extremes(found: Mapping[str, Sequence[Estimate | None]]) -> str:
    """Return which configurations have the highest and the lowest of the first score."""
    scores = {label: first.value for label, (first, *_) in found.items() if first}
    best, worst = (pick(scores, key=scores.__getitem__) for pick in (max, min))
    return f"Accuracy is highest for {best} ({scores[best]:.3f}) and lowest for {worst} ({scores[worst]:.3f})."


def axes_of(
    names: Sequence[str], rows: Sequence[Row], form: str, zero: float | None = None, margin: float | None = None
) -> tuple[Axis, ...]:
    """Return an axis a column, on which all its marks, their intervals, the line and the band lie."""
    axes = []
    for column, name in enumerate(names):
        marks = [mark for row in rows if row.marks and (mark := row.marks[column])]
        seen = [v for mark in marks for v in (mark.value, mark.low, mark.high) if math.isfinite(v)]
        if zero is not None:
            seen += [zero - (margin or 0.0), zero + (margin or 0.0)]
        pad = 0.05 * (max(seen) - min(seen)) or 0.05
        low, high = min(seen) - pad, max(seen) + pad
        most = {1: 6, 2: 5}.get(len(names), 3)  # ticks that have room on a phone
        places = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)
        ticks = tuple(
            (v, form.format(v) if v else "0") for v in (round(float(p), 9) for p in places) if low <= v <= high
        )
        axes.append(Axis(name, low, high, ticks, zero, margin))
    return tuple(axes)
