"""The paired tests as tables."""

from collections.abc import Sequence

from birdclf.evaluation.settings import Evaluation
from birdclf.report.configurations import Configuration
from birdclf.report.document import Block, Bullets, Cell, Folded, Number, Section, Table
from birdclf.report.paired_tests import LEVEL, METRICS, Comparison
from birdclf.report.wording import counted, number, p_number, p_value, points

NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1"}


def comparison_section(reference: Configuration, comparisons: Sequence[Comparison], settings: Evaluation) -> Section:
    """Return the section of the tests between a reference and its rivals, with the confidence of their intervals."""
    title = f"Is {reference.label} better than the others?"
    if not comparisons:
        return Section("tests", "Paired tests", ("There is one configuration; nothing to test it against.",))
    tested = [comparison for comparison in comparisons if not comparison.refused]
    blocks: list[Block] = []
    if tested:
        blocks += [
            f"Differences are {reference.label} minus the other, in points of accuracy or of F1 × 100, with "
            f"{settings.coverage} intervals. One seed: McNemar's exact test for accuracy and a permutation test "
            "over groups of recordings for macro F1. Several seeds: a test paired by seed, so that the luck of a seed "
            "counts as well. "
            f"The verdict uses p adjusted for {counted(len(tested), 'comparison')} (Holm) at {LEVEL}.",
            Table("Tests, a row a rival", _HEAD, tuple(_row(comparison) for comparison in tested), filterable=True),
            Folded("The pair of each seed", (_pairs(tested),)),
            *_classes(reference, tested),
        ]
    refused = [f"{c.rival.label}: not compared. {c.refused}" for c in comparisons if c.refused]
    return Section("tests", title, (*blocks, Bullets(tuple(refused))) if refused else tuple(blocks))


_HEAD = ("against", "seeds", "accuracy", "p", "adjusted p", "verdict", "macro F1", "p", "adjusted p", "verdict")


def _row(comparison: Comparison) -> tuple[Cell, ...]:
    cells: list[Cell] = [comparison.rival.label, Number(len(comparison.pairs), str(len(comparison.pairs)))]
    for metric in METRICS:
        difference = comparison.difference(metric)
        cells += [
            interval_cell(difference.value, difference.low, difference.high),
            p_number(comparison.p_value(metric)),
            p_number(comparison.adjusted[metric]),
            ("worse", "undecided", "better")[comparison.decided(metric) + 1],
        ]
    return tuple(cells)


def interval_cell(value: float, low: float, high: float) -> Number:
    """Return a difference with its interval, in points."""
    return Number(value, f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")


def _pairs(tested: Sequence[Comparison]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for comparison in tested:
        for pair in comparison.pairs:
            only_a, only_b, p = pair.mcnemar
            accuracy, macro = pair.difference["accuracy"], pair.difference["macro_f1"]
            rows.append(
                (
                    comparison.rival.label,
                    Number(pair.seed, str(pair.seed)),
                    Number(only_a, f"{only_a:,}"),
                    Number(only_b, f"{only_b:,}"),
                    p_number(p),
                    interval_cell(accuracy.value, accuracy.low, accuracy.high),
                    interval_cell(macro.value, macro.low, macro.high),
                    p_number(macro.p_value),
                )
            )
    head = ("against", "seed", "only the reference right", "only the other right", "McNemar p", "accuracy", "macro F1")
    return Table("Two runs on the same recordings, a row a seed", (*head, "bootstrap p"), tuple(rows))


def _classes(reference: Configuration, tested: Sequence[Comparison]) -> list[Block]:
    rows: list[tuple[Cell, ...]] = []
    species = reference.first.classes
    for comparison in tested:
        real = comparison.classes[comparison.classes.q_value < LEVEL].sort_values("difference", ascending=False)
        for row in real.to_dict("records"):
            gap = interval_cell(row["difference"], row["low"], row["high"])
            rows.append((comparison.rival.label, species[row["class_index"]], gap, number(row["q_value"])))
    if not rows:
        return [f"No species differs at a false discovery rate of {LEVEL} between {reference.label} and any other."]
    caption = f"Species whose F1 differs, at a false discovery rate of {LEVEL} within each rival"
    return [
        Table(caption, ("against", "species", "F1", "q"), tuple(rows), filterable=True),
    ]


def by_how_much(comparison: Comparison, metric: str) -> str:
    """Return a difference with its interval and adjusted p in words: ``+3.1 points [+1.0, +5.2], p = 0.004``."""
    difference = comparison.difference(metric)
    ends = f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return f"{points(difference.value)} {ends}, {p_value(comparison.adjusted[metric])}"
