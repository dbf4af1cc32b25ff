"""The paired tests as tables."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from birdclf.metrics.figures import Evaluation
from birdclf.metrics.over_seeds import MOST_SEEDS, POWER
from birdclf.report.configurations import CLASS_FIGURE, Configuration, what_varied
from birdclf.report.document import (
    Block,
    Bullets,
    Cell,
    Code,
    Folded,
    Number,
    Section,
    Table,
    counted,
    number,
    p_number,
    p_value,
    points,
)
from birdclf.report.estimates import estimate
from birdclf.report.paired_tests import LEVEL, Comparison
from birdclf.report.plan import more_seeds
from birdclf.targets import Task


def comparison_section(reference: Configuration, comparisons: Sequence[Comparison], settings: Evaluation) -> Section:
    """Return the section of the tests between a reference and its rivals, with the confidence of their intervals."""
    title = f"Is {reference.label} better than the others?"
    if not comparisons:
        return Section("tests", "Paired tests", ("There is one configuration; nothing to test it against.",))
    tested = [comparison for comparison in comparisons if not comparison.refused]
    blocks: list[Block] = []
    head = ("against", "seeds", *(w for n in reference.headlines.values() for w in (n, "p", "adjusted p", "verdict")))
    if tested:
        seeds = max(len(comparison.pairs) for comparison in tested)
        one, whole = HOW[reference.task]
        how = (
            whole
            if seeds == 1
            else f"of one seed {one}, of several the spread over seeds, which is "
            "unknown and integrated over, and the choice of test recordings, which seeds may share"
        )
        unit = "accuracy or of F1 × 100" if reference.task == "single_label" else "cmAP or of F1 × 100"
        blocks += [
            f"Differences are {reference.label} minus the other, in points of {unit}, with "
            f"{settings.coverage} intervals. Tests: {how}. "
            f"The verdict uses p adjusted for {counted(len(tested), 'comparison')} (Holm) at {LEVEL}; there is no "
            f"relevant difference where the interval lies within {100 * settings.margin:g} points "
            f"(evaluation.margin). {what_varied([reference, *(comparison.rival for comparison in tested)])}".strip(),
            Table("Tests, one row per rival", head, tuple(_row(comparison) for comparison in tested), filterable=True),
            *_could_be_seen(tested),
            Folded("The pair of each seed", (_pairs(tested),)),
            *_classes(reference, tested),
        ]
    missing = [
        f"{comparison.rival.label}: compared on {counted(len(comparison.pairs), 'seed')} that both have, of "
        f"{len(reference.runs)} and {len(comparison.rival.runs)}."
        for comparison in tested
        if not len(comparison.pairs) == len(reference.runs) == len(comparison.rival.runs)
    ]
    refused = [f"{c.rival.label}: not compared. {c.refused}" for c in comparisons if c.refused]
    notes = (*missing, *refused)
    return Section("tests", title, (*blocks, Bullets(notes)) if notes else tuple(blocks))


HOW: Final = {
    "single_label": (
        "McNemar's exact test and a permutation test",
        "McNemar's exact test for accuracy and a permutation test over groups of recordings for macro F1",
    ),
    "multi_label": ("the jackknife over groups of recordings", "the jackknife over groups of recordings"),
}
"""Tests of one seed, in short and with what each is for."""


def _row(comparison: Comparison) -> tuple[Cell, ...]:
    cells: list[Cell] = [comparison.rival.label, Number(len(comparison.pairs), str(len(comparison.pairs)))]
    for metric in comparison.rival.headlines:
        difference = comparison.difference(metric)
        cells += [
            interval_cell(difference.value, difference.low, difference.high),
            p_number(comparison.p_value(metric)),
            p_number(comparison.adjusted[metric]),
            _in_words(comparison, metric),
        ]
    return tuple(cells)


def _in_words(comparison: Comparison, metric: str) -> str:
    verdict = comparison.verdict(metric)
    if verdict != "undecided":
        return verdict
    return f"undecided: too few {'recordings' if comparison.seeds_needed(metric) is None else 'seeds'}"


def _could_be_seen(tested: Sequence[Comparison]) -> list[Block]:
    """Return what the comparisons could have shown, and the command that adds the seeds they lack."""
    rows: list[tuple[Cell, ...]] = []
    most, names = 0, tested[0].rival.headlines
    for comparison in tested:
        cells: list[Cell] = [comparison.rival.label]
        for metric in names:
            cells.append(number(100 * comparison.detectable(metric), "{:.1f}"))
            if comparison.verdict(metric) != "undecided":
                cells.append("")
                continue
            seeds = comparison.seeds_needed(metric)
            if seeds is not None:
                most = max(most, seeds)
            cells.append(f"more than {MOST_SEEDS}" if seeds is None else Number(seeds, str(seeds)))
        rows.append(tuple(cells))
    first, second = names.values()
    head = ("against", f"{first}: could have been seen, points", "seeds to decide", f"{second}: could have been seen")
    blocks: list[Block] = [
        f"What could have been seen: the smallest difference that these runs show with a probability of {POWER:g}, at "
        "the spread seen. Where nothing is decided, so many seeds in all would show, as surely, the difference that "
        f"was seen, or the margin where that is more. Where {MOST_SEEDS} seeds are too few, it takes more test "
        "recordings.",
        Table("What could have been seen", (*head, "seeds to decide"), tuple(rows), filterable=True),
    ]
    command = more_seeds([c.rival for c in tested], most)
    if command:
        blocks += [f"To add the seeds up to the largest of these numbers, {most}:", Code(command)]
    return blocks


def interval_cell(value: float, low: float, high: float) -> Number:
    """Return a difference with its interval, in points."""
    return Number(value, f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")


def _pairs(tested: Sequence[Comparison]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    pairs = [(comparison, pair) for comparison in tested for pair in comparison.pairs]
    caption = "Two runs on the same recordings, one row per seed"
    if tested[0].rival.task == "multi_label":
        for comparison, pair in pairs:
            cells: list[Cell] = [comparison.rival.label, pair.seeds]
            for gap in pair.difference.values():
                cells += [interval_cell(gap.value, gap.low, gap.high), p_number(gap.p_value)]
            rows.append(tuple(cells))
        columns = (words for name in tested[0].rival.headlines.values() for words in (name, "jackknife p"))
        return Table(caption, ("against", "seed", *columns), tuple(rows))
    for comparison, pair in pairs:
        if pair.mcnemar:
            only_a, only_b, p = pair.mcnemar
            accuracy, macro = pair.difference["accuracy"], pair.difference["macro_f1"]
            rows.append(
                (
                    comparison.rival.label,
                    pair.seeds,
                    Number(only_a, f"{only_a:,}"),
                    Number(only_b, f"{only_b:,}"),
                    p_number(p),
                    interval_cell(accuracy.value, accuracy.low, accuracy.high),
                    interval_cell(macro.value, macro.low, macro.high),
                    p_number(macro.p_value),
                )
            )
    head = ("against", "seed", "only the reference right", "only the other right", "McNemar p", "accuracy", "macro F1")
    return Table(caption, (*head, "bootstrap p"), tuple(rows))


def _classes(reference: Configuration, tested: Sequence[Comparison]) -> list[Block]:
    rows: list[tuple[Cell, ...]] = []
    species = reference.first.classes
    for comparison in tested:
        real = comparison.classes[comparison.classes.q_value < LEVEL].sort_values("difference", ascending=False)
        for row in real.to_dict("records"):
            gap = interval_cell(row["difference"], row["low"], row["high"])
            rows.append((comparison.rival.label, species[row["class_index"]], gap, number(row["q_value"])))
    name = CLASS_FIGURE[reference.task]
    if not rows:
        return [f"No species differs at a false discovery rate of {LEVEL} between {reference.label} and any other."]
    caption = f"Species whose {name} differs, at a false discovery rate of {LEVEL} within each rival"
    return [
        Table(caption, ("against", "species", name, "q"), tuple(rows), filterable=True),
    ]


def by_how_much(comparison: Comparison, metric: str) -> str:
    """Return a difference with its interval and adjusted p in words: ``+3.1 points [+1.0, +5.2], p = 0.004``."""
    difference = comparison.difference(metric)
    ends = f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return f"{points(difference.value)} {ends}, {p_value(comparison.adjusted[metric])}"


BUCKETS = ("many", "medium", "few")
MORE: Final[dict[Task, dict[str, str]]] = {
    "single_label": {},
    "multi_label": {"auroc": "AUROC", "false_detections_per_hour": "false detections an hour"},
}
"""Further figures of each task."""


def comparison_rows(found: Sequence[Configuration], settings: Evaluation) -> pd.DataFrame:
    """Return one row per configuration, as ``comparison.csv`` has it: means over seeds, and standard deviations."""
    rows = []
    for configuration in found:
        runs = list(configuration.runs.values())
        row: dict[str, object] = {
            "configuration": configuration.label,
            "parameters": runs[0].metrics["parameters"],
            "parameters_per_class": runs[0].metrics["parameters"] / runs[0].metrics["classes"],
            "seeds": " ".join(run.seeds for run in runs),
            "val_score": float(np.mean([run.metrics["score"] for run in runs])),
        }
        for name in configuration.headlines:
            values = list(configuration.values(f"test/{name}").values())
            row[f"test_{name}"] = float(np.mean(values))
            row[f"test_{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
            if len(runs) == 1:
                one = estimate(configuration, f"test/{name}", settings)
                assert one, "every run has the figures that it is compared by"
                row |= {f"test_{name}_low": one.low, f"test_{name}_high": one.high}
        for figure in configuration.tail:
            row |= {f"test_{bucket}_{figure}": configuration.mean(f"test/{bucket}_{figure}") for bucket in BUCKETS}
        row |= {f"test_{name}": configuration.mean(f"test/{name}") for name in MORE[configuration.task]}
        row |= {
            "best_epoch": float(np.mean([run.metrics["best_epoch"] for run in runs])),
            "epochs": float(np.mean([run.metrics["epochs"] for run in runs])),
            "minutes": float(np.mean([run.seconds for run in runs])) / 60,
            "windows_per_s": _speed(configuration),
            "folders": " ".join(str(run.folder) for run in runs),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def table_section(found: Sequence[Configuration], monitor: str, settings: Evaluation) -> Section:
    """Return the section of the comparison table of configurations of one task, in the order given."""
    return Section("table", "All configurations", table_blocks(found, monitor, settings))


def table_blocks(found: Sequence[Configuration], monitor: str, settings: Evaluation) -> tuple[Block, ...]:
    """Return the parts of :func:`table_section`."""
    first = ("configuration", "parameters", "a class", "seeds", f"mean {monitor}")
    names = (f"test {name}" for name in found[0].headlines.values())
    head = (*first, *names, *(f"F1 {bucket}" for bucket in BUCKETS), "epochs", "minutes", "windows/s")
    rows: list[tuple[Cell, ...]] = []
    for configuration, (_, row) in zip(found, comparison_rows(found, settings).iterrows(), strict=True):
        estimates = (estimate(configuration, f"test/{name}", settings) for name in configuration.headlines)
        rows.append(
            (
                configuration.label,
                number(row["parameters"], "{:,.0f}"),
                number(row["parameters_per_class"], "{:,.0f}"),
                number(len(configuration.runs), "{:.0f}"),
                number(configuration.mean(monitor)),
                *(each.cell() if each else "" for each in estimates),
                *(number(row[f"test_{bucket}_f1"]) for bucket in BUCKETS),
                number(row["epochs"], "{:.0f}"),
                number(row["minutes"], "{:.1f}"),
                number(row["windows_per_s"], "{:,.0f}"),
            )
        )
    text = (
        f"Sorted by {monitor} on validation data, the mean over seeds. Of one seed the brackets are "
        f"{settings.coverage} intervals over its test recordings; of several, ± is the standard deviation over seeds. "
        f"Many, medium and few are species with more than {settings.many}, {settings.few} to {settings.many}, and "
        f"fewer than {settings.few} recordings to train on."
    )
    table = Table("Configurations", head, tuple(rows), filterable=True)
    return text, table, *_intervals(found, settings)


def _intervals(found: Sequence[Configuration], settings: Evaluation) -> tuple[Block, ...]:
    """Return a table of the figures that a long tail is judged by, each with an interval."""
    (tail, tail_name), more = list(found[0].tail.items())[-1], MORE[found[0].task]
    names = found[0].headlines | {f"{bucket}_{tail}": f"{tail_name} {bucket}" for bucket in BUCKETS} | more
    rows = []
    for configuration in found:
        estimates = [estimate(configuration, f"test/{name}", settings) for name in names]
        rows.append((configuration.label, *(e.interval_cell() if e else "" for e in estimates)))
    text = (
        "The same with intervals throughout: over test recordings of one seed, Student's of the mean over several. "
        "Intervals that touch decide nothing; the tests below are paired and see more."
    )
    return text, Table(
        f"Test figures with {settings.coverage} intervals",
        ("configuration", *names.values()),
        tuple(rows),
        filterable=True,
    )


def _speed(configuration: Configuration) -> float | None:
    speeds = [
        run.history["windows_per_s"].median() for run in configuration.runs.values() if "windows_per_s" in run.history
    ]
    return float(np.mean(speeds)) if speeds else None
