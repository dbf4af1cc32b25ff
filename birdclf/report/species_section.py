"""The species of one run: F1 with intervals, and what each is confused with."""

from typing import Final

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from birdclf.evaluation.clusters import ClusterCounts
from birdclf.evaluation.intervals import class_f1_intervals
from birdclf.evaluation.metrics import precision_recall_f1
from birdclf.evaluation.settings import Evaluation
from birdclf.report.configurations import Configuration
from birdclf.report.confusions import confused_pairs, matrix_figure, most_confused_with
from birdclf.report.document import Cell, Figure, Number, Section, Table
from birdclf.report.drawings import FIRST, canvas, drawn
from birdclf.report.wording import number
from birdclf.svg import INK

MOST_PAIRS: Final = 20


def species_section(configuration: Configuration, settings: Evaluation) -> Section:
    """Return the section of a configuration's first run: tables, F1 against train count, confusion matrix."""
    run = configuration.first
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
    said = (
        f"Of {configuration.label}, seed {run.seed}, on test data. The {settings.coverage} intervals count groups of "
        "recordings, not clips, as independent. A species without a test recording has no F1. Of a species with few of "
        "them the interval is wide: an F1 of 0 from one recording says little."
    )
    blocks = (
        said,
        Table("Species", head, tuple(rows), filterable=True),
        tail_figure(f1, run.train_counts, support),
        Table("Most confused pairs", ("true species", "named", "clips", "of its clips"), pairs),
        matrix_figure(confusion, names),
    )
    return Section("species", "Species", blocks)


def tail_figure(f1: NDArray[np.float64], train_counts: NDArray[np.int64], support: NDArray[np.int64]) -> Figure:
    """Return F1 of each species ``(K,)`` with a test recording against its train recordings, on a log axis."""
    seen = (support > 0) & (train_counts > 0)
    with canvas(10, 4) as picture:
        axes = picture.add_subplot()
        axes.scatter(
            train_counts[seen], f1[seen], s=10 + 3 * np.sqrt(support[seen]), color=FIRST, alpha=0.7, linewidths=0
        )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:,.10g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(-0.05, 1.05)
        axes.set_xlabel("train recordings of the species")
        axes.set_ylabel("F1 on test data")
        axes.grid(alpha=0.2, color=INK)
        zero = int((f1[seen] == 0).sum())
        caption = (
            f"A dot a species, larger for more test recordings; {zero} of {int(seen.sum())} species have an F1 of 0, "
            f"{int((~seen).sum())} more cannot be shown for want of train or test recordings."
        )
        return drawn("F1 against train recordings", caption, picture, unique="long tail")
