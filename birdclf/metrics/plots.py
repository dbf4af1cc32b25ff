"""Figures of one run, drawn without a display."""

import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from birdclf.metrics.calibration import Reliability
from birdclf.metrics.multi_label import PrecisionRecall
from birdclf.text import printable

DPI: Final = 110
MOST_KEPT: Final = 200
"""Classes up to which the labels of a confusion matrix are kept for the next one, some 30 MB for 89."""


class Picture(NamedTuple):
    """A PNG file, encoded once for every place that shows it, and its size in pixels."""

    png: bytes
    width: int
    height: int


def picture_of(figure: Figure) -> Picture:
    """Return the picture of a figure."""
    canvas = _canvas(figure)
    canvas.draw()
    return _encoded(canvas)


def confusion_picture(confusion: NDArray[np.int64], classes: tuple[str, ...]) -> Picture:
    """Return the picture of :func:`confusion_figure`; its labels are drawn once for the jobs of a sweep."""
    if len(classes) > MOST_KEPT:
        return picture_of(confusion_figure(confusion, classes))
    canvas, background = _confusion_labels(classes)
    axes = canvas.figure.axes[0]
    axes.images[0].set_data(_shares(confusion))
    canvas.restore_region(background)
    for artist in (axes.images[0], *axes.spines.values()):
        axes.draw_artist(artist)
    return _encoded(canvas)


@lru_cache(maxsize=1)
def _confusion_labels(classes: tuple[str, ...]) -> tuple[Any, Any]:
    """Return the canvas of a confusion matrix, and all that is drawn before its values: layout and text take time."""
    figure = confusion_figure(np.zeros((len(classes), len(classes)), dtype=np.int64), classes)
    canvas = _canvas(figure)
    axes = figure.axes[0]
    values = (axes.images[0], *axes.spines.values())
    for artist in values:
        artist.set_visible(False)
    canvas.draw()
    for artist in values:
        artist.set_visible(True)
    return canvas, canvas.copy_from_bbox(figure.bbox)


def _canvas(figure: Figure) -> Any:
    figure.set_dpi(DPI)
    return FigureCanvasAgg(figure)


def _encoded(canvas: Any) -> Picture:
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format="png", compress_level=1)  # 5 % larger
    return Picture(file.getvalue(), pixels.shape[1], pixels.shape[0])


def _shares(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return shares


def confusion_figure(confusion: NDArray[np.int64], classes: tuple[str, ...]) -> Figure:
    """Return the confusion matrix ``(K, K)`` as shares of each true class."""
    size = max(5.0, 0.16 * len(classes) + 2.5)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(_shares(confusion), vmin=0, vmax=1, cmap="viridis")
    ticks = range(len(classes))
    names = [printable(name) for name in classes]
    axes.set_xticks(ticks, labels=names, rotation=90, fontsize=6, parse_math=False)
    axes.set_yticks(ticks, labels=names, fontsize=6, parse_math=False)
    axes.set_xlabel("predicted species")
    axes.set_ylabel("true species")
    figure.colorbar(image, label="share of the true species' recordings", shrink=0.7)
    return figure


def per_class_figure(f1: NDArray[np.float64], train_counts: NDArray[np.int64], support: NDArray[np.int64]) -> Figure:
    """Return F1 of each evaluable class ``(K,)`` against its train recordings, which shows the long tail."""
    figure = Figure(figsize=(7, 4))
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.13, top=0.97)  # constrained takes as long as the drawing
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


def reliability_figure(reliability: Reliability, temperature: float = 1.0) -> Figure:
    """Return accuracy against confidence in bins, with the clips of each (Guo et al., 2017, figure 1).

    Args:
        reliability: Confidence, accuracy and clips, ``(bins,)`` each.
        temperature: What the logits were divided by, for the title.
    """
    figure = Figure(figsize=(5, 6))
    figure.subplots_adjust(left=0.15, right=0.97, bottom=0.09, top=0.95, hspace=0.08)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bins = len(reliability.count)
    centre = (np.arange(bins) + 0.5) / bins
    seen = reliability.count > 0
    above.bar(centre[seen], reliability.accuracy[seen], width=0.94 / bins, label="accuracy")
    above.plot(reliability.confidence[seen], reliability.accuracy[seen], "ko", markersize=4, label="at mean confidence")
    above.plot([0, 1], [0, 1], "--", color="grey", label="calibrated")
    gap = np.abs(reliability.confidence - reliability.accuracy)
    error = float((reliability.count * gap).sum() / max(reliability.count.sum(), 1))
    above.set_title(f"temperature {temperature:.3g}, calibration error {error:.3f}", fontsize=10)
    above.set_ylabel("share that is right")
    above.set_ylim(0, 1)
    above.legend(fontsize=8, loc="upper left")
    below.bar(centre, reliability.count, width=0.94 / bins, color="grey")
    below.set_xlim(0, 1)
    below.set_xlabel("probability of the predicted species")
    below.set_ylabel("recordings")
    return figure


def precision_recall_figure(curves: Mapping[str, PrecisionRecall], coverage: str = "95 %") -> Figure:
    """Return precision-recall curves with their bands, a panel each, all species' curve in grey in the others.

    Args:
        curves: Curve of ``all`` species and of buckets, by name.
        coverage: Of the bands, for the legend.
    """
    columns = min(len(curves), 2)
    rows = -(-len(curves) // columns)
    width, height = 3.4 * columns + 0.4, 2.7 * rows + 0.6
    figure = Figure(figsize=(width, height))
    inches = {"left": 0.62 / width, "right": 1 - 0.14 / width, "bottom": 0.8 / height, "top": 1 - 0.3 / height}
    figure.subplots_adjust(**inches, wspace=0.12, hspace=0.2)
    panels = np.ravel(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False))
    for axes, (name, curve) in zip(panels, curves.items(), strict=False):
        axes.fill_between(curve.recall, curve.low, curve.high, alpha=0.25, linewidth=0, label=f"{coverage} band")
        axes.plot(curve.recall, curve.precision, linewidth=1.8, label="precision")
        if name != "all" and "all" in curves:
            axes.plot(
                curves["all"].recall, curves["all"].precision, "--", color="grey", linewidth=1, label="all species"
            )
        axes.set_title("all species" if name == "all" else f"{name}-shot species", fontsize=10)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    for axes in panels[max(len(curves) - columns, 0) : len(curves)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("recall")
    for axes in panels[::columns]:
        axes.set_ylabel("precision")
    handles, labels = panels[len(curves) - 1].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="lower center", ncols=3, frameon=False)
    return figure
