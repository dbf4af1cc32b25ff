"""The species of one run: F1 with intervals, and what each is confused with."""

from html import escape
from typing import Final, NamedTuple

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from birdclf.metrics.figures import Evaluation, precision_recall_f1
from birdclf.metrics.intervals import ClusterCounts, class_f1_intervals
from birdclf.metrics.label_intervals import share_interval
from birdclf.metrics.label_predictions import LabelPredictions
from birdclf.metrics.multi_label import Estimate
from birdclf.pages import INK
from birdclf.report.configurations import Configuration
from birdclf.report.document import (
    FIRST,
    Block,
    Cell,
    Figure,
    Number,
    Section,
    Table,
    canvas,
    capitalised,
    number,
    svg_figure,
)
from birdclf.text import printable

CELL: Final = 12  # units of the drawing a cell
LABELS: Final = 180  # units left for names


class Confused(NamedTuple):
    """Clips of one species that were named another; the share is of the first's clips."""

    truth: int
    predicted: int
    clips: int
    share: float


def confused_pairs(confusion: NDArray[np.int64], most: int) -> list[Confused]:
    """Return the pairs with most clips, the largest share first among equals."""
    wrong = confusion - np.diag(np.diag(confusion))
    support = confusion.sum(axis=1)
    pairs = [Confused(int(i), int(j), int(wrong[i, j]), wrong[i, j] / support[i]) for i, j in np.argwhere(wrong)]
    return sorted(pairs, key=lambda pair: (-pair.clips, -pair.share, pair.truth, pair.predicted))[:most]


def most_confused_with(confusion: NDArray[np.int64]) -> list[Confused | None]:
    """Return for each species the one that most of its clips were wrongly named; None where there is none."""
    best: list[Confused | None] = [None] * len(confusion)
    for pair in confused_pairs(confusion, most=len(confusion) ** 2):
        if best[pair.truth] is None:
            best[pair.truth] = pair
    return best


def clustered_order(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an order ``(K,)`` of the classes that puts those which are confused side by side.

    Average linkage of one minus the mean share of confusion in both directions, leaves in their best order
    (Bar-Joseph et al., 2001). Classes without a clip come last.
    """
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    seen = np.flatnonzero(confusion.sum(axis=1) > 0)
    absent = np.flatnonzero(confusion.sum(axis=1) == 0)
    if len(seen) < 3:
        return np.concatenate([seen, absent])
    likeness = (share + share.T)[np.ix_(seen, seen)] / 2
    distance = 1 - likeness
    np.fill_diagonal(distance, 0)
    apart = squareform(distance, checks=False)
    order = leaves_list(optimal_leaf_ordering(linkage(apart, "average"), apart))
    return np.concatenate([seen[order], absent])


def matrix_figure(confusion: NDArray[np.int64], classes: tuple[str, ...]) -> Figure:
    """Return the confusion matrix ``(K, K)`` with a square a cell that is not empty, darker for a larger share."""
    order, names = clustered_order(confusion), [printable(name) for name in classes]
    cells = confusion[np.ix_(order, order)]
    share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    side = len(order) * CELL
    parts = [
        f'<rect x="{LABELS}" y="{LABELS}" width="{side}" height="{side}" fill="none" stroke="currentColor" '
        'stroke-opacity=".4"/>'
    ]
    for place, k in enumerate(order):
        at, name = LABELS + place * CELL + CELL * 0.8, escape(names[k])
        parts.append(f'<text x="{LABELS - 4}" y="{at:g}" text-anchor="end">{name}</text>')
        parts.append(f'<text transform="translate({at:g} {LABELS - 4}) rotate(-90)">{name}</text>')
    for row, column in np.argwhere(cells):
        fill = "first" if row == column else "second"
        text = f"{names[order[row]]} named {names[order[column]]}: {cells[row, column]} of {cells[row].sum()}"
        depth = f"{max(0.15, share[row, column]):.2f}"
        parts.append(
            f'<rect x="{LABELS + column * CELL}" y="{LABELS + row * CELL}" width="{CELL}" height="{CELL}" '
            f'fill="var(--{fill})" fill-opacity="{depth}"><title>{escape(text)}</title></rect>'
        )
    right = np.trace(confusion) / max(confusion.sum(), 1)
    caption = (
        f"A row a true species, a column a named one, in the order of clusters: what is confused lies side by side. "
        f"The stronger a colour, the larger its share of the row; {right:.1%} of the clips lie on the diagonal."
    )
    inside = f'<g font-size="{CELL * 0.8:g}" fill="currentColor">{"".join(parts)}</g>'
    return Figure("Confusion matrix", caption, f"0 0 {LABELS + side + 2} {LABELS + side + 2}", inside)


MOST_PAIRS: Final = 20
OF_SETS: Final = {"auroc": "AUROC", "f1": "F1", "precision": "precision", "recall": "recall"}
"""Figures of one species of sets, beside its average precision."""


def species_section(configuration: Configuration, settings: Evaluation) -> Section:
    """Return the section of a configuration's first run: tables, F1 against train count, confusion matrix."""
    run = configuration.first
    if isinstance(run.test, LabelPredictions):
        return Section("species", "Species", _of_sets(configuration, run.test, settings))
    confusion, names = run.test.confusion, run.classes
    counts = ClusterCounts.of(run.test.target, run.test.prediction, run.test.cluster, len(names))
    interval = class_f1_intervals(counts, settings)
    f1, support = precision_recall_f1(confusion)[2], confusion.sum(axis=1)
    rows: list[tuple[Cell, ...]] = []
    for k, pair in enumerate(most_confused_with(confusion)):
        known = f"{f1[k]:.2f} [{interval[k, 0]:.2f}, {interval[k, 1]:.2f}]"
        rows.append(
            (
                names[k],
                number(run.train_counts[k], "{:,.0f}"),
                number(support[k], "{:,.0f}"),
                Number(float(f1[k]), known) if support[k] else "",
                names[pair.predicted] if pair else "",
                number(pair.clips, "{:,.0f}") if pair else "",
            )
        )
    head = ("species", "train", "test", "F1", "most confused with", "clips")
    pairs = tuple(
        (names[p.truth], names[p.predicted], number(p.clips, "{:,.0f}"), number(100 * p.share, "{:.0f} %"))
        for p in confused_pairs(confusion, MOST_PAIRS)
    )
    text = (
        f"Of {configuration.label}, seed {run.seeds}, on test data. The {settings.coverage} intervals count groups of "
        "recordings, not clips, as independent. A species without a test recording has no F1. Of a species with few of "
        "them the interval is wide: an F1 of 0 from one recording says little."
    )
    blocks = (
        text,
        tail_figure("F1", f1, run.train_counts, support),
        matrix_figure(confusion, names),
        Table("Species", head, tuple(rows), filterable=True),
        Table("Most confused pairs", ("true species", "named", "clips", "of its clips"), pairs),
    )
    return Section("species", "Species", blocks)


def _of_sets(configuration: Configuration, test: LabelPredictions, settings: Evaluation) -> tuple[Block, ...]:
    run, found, support = configuration.first, test.by_class(settings), test.heard
    precision = found["ap"].value
    rows: list[tuple[Cell, ...]] = []
    for k, name in enumerate(run.classes):
        low, high = share_interval(
            Estimate(precision[k], found["ap"].without[:, k], found["ap"].clips[k]), settings.confidence
        )
        known = f"{precision[k]:.2f} [{low:.2f}, {high:.2f}]"
        rows.append(
            (
                name,
                number(run.train_counts[k], "{:,.0f}"),
                number(support[k], "{:,.0f}"),
                Number(float(precision[k]), known) if support[k] else "",
                *(number(float(found[figure].value[k]), "{:.2f}") for figure in OF_SETS),
            )
        )
    text = (
        f"Of {configuration.label}, seed {run.seeds}, on test data. The {settings.coverage} intervals are of the "
        "jackknife over groups of recordings. A species that is heard in no test recording has no figure; of one that "
        f"is heard in few the interval is wide. Precision, recall and F1 are at a probability of {settings.threshold:g}"
        ". Several species may be in one recording, so that none is confused with another: there is no confusion "
        "matrix, and no gallery of mistakes."
    )
    head = ("species", "train", "test", "average precision", *OF_SETS.values())
    return (
        text,
        tail_figure("average precision", precision, run.train_counts, support),
        Table("Species", head, tuple(rows), filterable=True),
    )


def tail_figure(
    name: str, figure: NDArray[np.float64], train_counts: NDArray[np.int64], support: NDArray[np.int64]
) -> Figure:
    """Return a figure of each species ``(K,)`` with a test recording against its train recordings, on a log axis."""
    seen = (support > 0) & (train_counts > 0)
    with canvas(10, 4) as picture:
        axes = picture.add_subplot()
        axes.scatter(
            train_counts[seen], figure[seen], s=10 + 3 * np.sqrt(support[seen]), color=FIRST, alpha=0.7, linewidths=0
        )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:,.10g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(-0.05, 1.05)
        axes.set_xlabel("train recordings of the species")
        axes.set_ylabel(f"{name} on test data")
        axes.grid(alpha=0.2, color=INK)
        zero = int((figure[seen] == 0).sum())
        caption = (
            f"A dot a species, larger for more test recordings; {zero} of {int(seen.sum())} species have an "
            f"{name} of 0, {int((~seen).sum())} more cannot be shown for want of train or test recordings."
        )
        return svg_figure(f"{capitalised(name)} against train recordings", caption, picture, unique="long tail")
