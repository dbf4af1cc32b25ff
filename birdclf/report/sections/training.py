"""The course of training: curves, learning rate, generalisation gap, and the epochs of the best figures."""

from collections.abc import Sequence
from math import hypot
from typing import Final

import numpy as np
import pandas as pd

from birdclf.config import direction
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.intervals import wilson
from birdclf.pages import INK
from birdclf.report.configurations import Configuration
from birdclf.report.document import (
    FIRST,
    SECOND,
    Block,
    Cell,
    Figure,
    Folded,
    Section,
    Table,
    canvas,
    number,
    svg_figure,
)
from birdclf.runs.run import Run
from birdclf.targets import HEADLINES

MOST_FIGURES: Final = 60  # of a few dozen kB each; the table names every run


def training_section(ranked: Sequence[Configuration], settings: Evaluation) -> Section:
    """Return the section: a row and a figure a run, that of the best configuration open."""
    runs = [(configuration.label, run) for configuration in ranked for run in configuration.runs.values()]
    runs = [(label, run) for label, run in runs if run.trained]
    if not runs:
        return Section("training", "Training", ("Nothing here was trained; it was made of other runs.",))
    of_one = ranked[0].task == "single_label"
    rows = tuple(_row(label, run) + ((_gap(run, settings),) if of_one else ()) for label, run in runs)
    head = ("configuration", "seed", "best val NLL", "at epoch", "best monitored", "at epoch", "of epochs")
    gap = (
        "The gap is train minus validation accuracy in the epoch whose weights were kept, with Newcombe's "
        f"{settings.coverage} interval. Train accuracy is measured while the epoch runs, with dropout and augmentation "
        "on, and so is a little low. "
    )
    text = (
        f"{gap if of_one else ''}Where NLL was best long before the monitored metric, the probabilities are "
        "overconfident."
    )
    figures = [curves(label, run) for label, run in runs[:MOST_FIGURES]]
    blocks: list[Block] = [text, figures[0]]
    if figures[1:]:
        blocks.append(Folded(f"Curves of the other {len(figures) - 1} runs", tuple(figures[1:])))
    table = Table("Training of each run", (*head, *(("gap, points",) if of_one else ())), rows)
    return Section("training", "Training", (*blocks, table))


def generalisation_gap(run: Run, settings: Evaluation) -> tuple[float, float, float]:
    """Return train minus validation accuracy at the best epoch, with its interval (Newcombe, 1998, method 10)."""
    row = run.history[run.history.epoch == run.metrics["best_epoch"]].iloc[0]
    train, val = float(row["train/accuracy"]), float(row["val/accuracy"])
    (train_low, train_high), (val_low, val_high) = (
        wilson(int(np.rint(share * n)), n, settings.confidence)
        for share, n in ((train, int(run.train_counts.sum())), (val, run.metrics["val"]["clips"]))
    )
    gap = train - val
    return gap, gap - hypot(train - train_low, val_high - val), gap + hypot(train_high - train, val - val_low)


def best_epochs(run: Run) -> tuple[int, int]:
    """Return the epochs in which validation NLL and the monitored metric had their best."""
    nll, monitor = run.history["val/nll"], run.metrics["monitor"]
    best = int(run.metrics["best_epoch"])
    if monitor in run.history:
        score = run.history[monitor] * (1 if direction(monitor) == "max" else -1)
        best = _epoch_of(run, score)
    return _epoch_of(run, -nll), best


def _epoch_of(run: Run, score: "pd.Series[float]") -> int:
    return int(run.history.epoch.iloc[int(np.nanargmax(score.to_numpy(dtype=float)))])


def curves(label: str, run: Run) -> Figure:
    """Return NLL, accuracy (of sets cmAP) and learning rate by epoch, with the best epochs marked."""
    history, (best_nll, best) = run.history, best_epochs(run)
    figure, figure_name = next(iter(HEADLINES[run.task].items()))
    with canvas(10, 2.7) as picture:
        for axes, name in zip(picture.subplots(1, 3), ("nll", figure, "lr"), strict=True):
            if name == "lr":
                axes.plot(history.epoch, 1000 * history.lr, color=INK, linewidth=1.2)
            for split, colour in (("train", FIRST), ("val", SECOND)):
                column = f"{split}/{name}"
                if column in history:
                    axes.plot(history.epoch, history[column], color=colour, linewidth=1.5)
            if name != "lr":
                axes.axvline(best_nll if name == "nll" else best, color=SECOND, linewidth=0.8, linestyle=":")
            axes.set_title({"nll": "NLL, nats", figure: figure_name, "lr": "learning rate × 1000"}[name], fontsize=10)
            axes.set_xlabel("epoch")
            axes.set_ylim(bottom=0)
        title = f"{label}, seed {run.seeds}"
        caption = (
            f"Validation NLL was best in epoch {best_nll}, {run.metrics['monitor']} in epoch {best} of "
            f"{run.metrics['epochs']}; dotted lines mark them."
        )
        return svg_figure(title, caption, picture, unique=str(run.folder))


def _row(label: str, run: Run) -> tuple[Cell, ...]:
    best_nll, best = best_epochs(run)
    return (
        label, number(run.seed, run.seeds), number(float(run.history["val/nll"].min())), number(best_nll, "{:.0f}"),
        number(run.metrics["score"]), number(best, "{:.0f}"), number(run.metrics["epochs"], "{:.0f}"),
    )  # fmt: skip


def _gap(run: Run, settings: Evaluation) -> Cell:
    gap, low, high = generalisation_gap(run, settings) if _trained(run) else (float("nan"),) * 3
    return number(gap, f"{100 * gap:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")


def _trained(run: Run) -> bool:
    at = run.history[run.history.epoch == run.metrics["best_epoch"]]
    return len(at) == 1 and bool(pd.notna(at["train/accuracy"]).all()) and run.train_counts.sum() > 0
