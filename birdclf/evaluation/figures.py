"""Figures of one run, drawn without a display."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


def confusion_figure(confusion: NDArray[np.int64], classes: tuple[str, ...]) -> Figure:
    """Return the confusion matrix ``(K, K)`` as shares of each true class."""
    size = max(5.0, 0.16 * len(classes) + 2.5)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, vmin=0, vmax=1, cmap="viridis")
    ticks = range(len(classes))
    axes.set_xticks(ticks, labels=classes, rotation=90, fontsize=6)
    axes.set_yticks(ticks, labels=classes, fontsize=6)
    axes.set_xlabel("predicted species")
    axes.set_ylabel("true species")
    figure.colorbar(image, label="share of the true species' recordings", shrink=0.7)
    return figure


def per_class_figure(f1: NDArray[np.float64], train_counts: NDArray[np.int64], support: NDArray[np.int64]) -> Figure:
    """Return F1 of each evaluable class ``(K,)`` against its train recordings, which shows the long tail."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    seen = support > 0
    axes.scatter(train_counts[seen], f1[seen], s=12 + 3 * np.sqrt(support[seen]), alpha=0.7, label="test recordings")
    if not seen.all():
        axes.plot(train_counts[~seen], np.full((~seen).sum(), -0.04), "x", color="grey", label="no test recording")
        axes.legend(fontsize=8, loc="upper left")
    axes.set_xscale("log")
    axes.set_ylim(-0.08, 1.04)
    axes.set_xlabel("train recordings of the species")
    axes.set_ylabel("F1 on the test split")
    axes.grid(alpha=0.3)
    return figure
