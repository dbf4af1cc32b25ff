"""The figures of the audit's page, as SVG that follows the page's colours."""

from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from birdclf.svg import STYLE, inside_of_svg

MOST_RATES = 12

KEPT, REJECTED = "#010204", "#010205"
PAGE_COLOURS = {KEPT: "var(--kept)", REJECTED: "var(--rejected)"}


class Drawing(NamedTuple):
    """A figure for the page: what is inside its SVG element, or nothing, which the caption then explains."""

    title: str
    caption: str
    view_box: str = ""
    svg: str = ""


def drawings(table: pd.DataFrame, species: pd.DataFrame) -> list[Drawing]:
    """Return the figures of an audit: recordings of each species, lengths, sample rates, highest frequencies.

    Args:
        table: A row a recording: ``duration_s`` in s, ``native_rate_hz`` and ``top_hz`` in Hz (NaN: unknown), and
            ``rejected``.
        species: A row a species, in the order of the figure: numbers of ``kept`` and ``rejected`` recordings.
    """
    with matplotlib.rc_context(STYLE):
        return [_species_drawing(species), _duration_drawing(table), _rate_drawing(table), _band_drawing(table)]


def _species_drawing(species: pd.DataFrame) -> Drawing:
    title = "Recordings of each species"
    if species.empty:
        return Drawing(title, "There is no recording.")
    figure, axes = _empty("species, those with most kept recordings first", "recordings")
    floor = 0.5  # a logarithmic axis has no zero; one recording is still a bar
    total = (species.kept + species.rejected).max()
    _stack(axes, species.kept, species.rejected, np.arange(0.5, len(species) + 1), floor)
    _count_ticks(axes.xaxis)
    axes.set_yscale("log")
    _round_ticks(axes.yaxis, 1, total)
    axes.set_ylim(floor, total * 1.3)
    axes.set_xlim(0.5, len(species) + 0.5)
    kept = species.kept[species.kept > 0]
    caption = f"Kept: {kept.max():,} of the most frequent species, {kept.min():,} of the rarest one kept."
    return _drawn(title, caption if len(kept) else "No recording is kept.", figure)


def _duration_drawing(table: pd.DataFrame) -> Drawing:
    title = "Length of the recordings"
    known = table[table.duration_s.between(0, np.inf, inclusive="neither")]
    if known.empty:
        return Drawing(title, "No recording has a known length.")
    figure, axes = _empty("length in s", "recordings")
    low, high = known.duration_s.min(), known.duration_s.max()
    axes.set_xscale("log")
    ends = _round_ticks(axes.xaxis, low, high)
    _histogram(axes, known.duration_s, known.rejected, np.geomspace(ends[0], ends[-1], 41))
    caption = f"Shortest {plain(low)} s, median {plain(known.duration_s.median())} s, longest {plain(high)} s."
    return _drawn(title, caption + _left_out(table, known), figure)


def _rate_drawing(table: pd.DataFrame) -> Drawing:
    title = "Sample rate of the files"
    known = table[table.native_rate_hz > 0]
    if known.empty:
        return Drawing(title, "No recording has a known sample rate.")
    counts = pd.crosstab(known.native_rate_hz, known.rejected).reindex(columns=[False, True], fill_value=0)
    rates = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index[:MOST_RATES].sort_values()
    figure, axes = _empty("recordings", "")
    figure.set_figheight(1 + 0.28 * max(len(rates), 3))
    kept, rejected = counts.loc[rates, False], counts.loc[rates, True]
    axes.barh(range(len(rates)), kept, color=KEPT)
    bars = axes.barh(range(len(rates)), rejected, left=kept, color=REJECTED)
    axes.bar_label(bars, [f"{count:,}" for count in kept + rejected], padding=3)
    axes.set_yticks(range(len(rates)), labels=[f"{rate:,.0f} Hz" for rate in rates])
    axes.set_xlim(0, (kept + rejected).max() * 1.15)
    _count_ticks(axes.xaxis)
    hidden = len(counts) - len(rates)
    caption = f"{len(counts):,} different {'rate' if len(counts) == 1 else 'rates'}."
    caption += f" The {hidden:,} least frequent are not shown." if hidden else ""
    return _drawn(title, caption + _left_out(table, known), figure)


def _band_drawing(table: pd.DataFrame) -> Drawing:
    title = "Highest frequency with energy"
    known = table[table.top_hz.between(0, np.inf, inclusive="left")]
    if known.empty:
        return Drawing(title, "No recording has a known highest frequency.")
    figure, axes = _empty("highest frequency in kHz", "recordings")
    top = known.top_hz / 1000
    _histogram(axes, top, known.rejected, np.linspace(0, max(float(top.max()), 1) * 1.02, 41))
    axes.xaxis.set_major_formatter("{x:g}")
    caption = f"Lowest {plain(top.min())} kHz, median {plain(top.median())} kHz, highest {plain(top.max())} kHz."
    return _drawn(title, caption + _left_out(table, known), figure)


def _left_out(table: pd.DataFrame, known: pd.DataFrame) -> str:
    missing = len(table) - len(known)
    return f" Unknown for {missing:,}, which {'is' if missing == 1 else 'are'} not shown." if missing else ""


def _empty(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _histogram(axes: Axes, values: "pd.Series[float]", rejected: "pd.Series[bool]", edges: NDArray[np.float64]) -> None:
    """Draw how many values ``(N,)`` lie between edges ``(B + 1,)``, the rejected on top of the kept."""
    _stack(axes, np.histogram(values[~rejected], edges)[0], np.histogram(values[rejected], edges)[0], edges)
    axes.set_xlim(edges[0], edges[-1])
    _count_ticks(axes.yaxis)


def _stack(axes: Axes, kept: ArrayLike, rejected: ArrayLike, edges: NDArray[np.float64], floor: float = 0.0) -> None:
    """Draw counts ``(B,)`` between edges ``(B + 1,)``, the rejected on top of the kept; one path each."""
    lower = np.maximum(np.asarray(kept), floor)
    upper = np.maximum(np.add(kept, rejected), floor)
    axes.stairs(lower, edges, baseline=floor, fill=True, color=KEPT)
    axes.stairs(upper, edges, baseline=lower, fill=True, color=REJECTED)


def _round_ticks(axis: Axis, low: float, high: float) -> NDArray[np.float64]:
    """Label a logarithmic axis at 1, 2, 5, 10, ..., or at 1, 10, ... if these are many.

    Returns:
        ``(T,)`` 1, 2, 5, 10, ... from the last that is not above ``low`` to the first above ``high``.
    """
    decades = 10.0 ** np.arange(np.floor(np.log10(low)) - 1, np.ceil(np.log10(high)) + 2)
    ticks: NDArray[np.float64] = np.outer(decades, (1, 2, 5)).ravel()
    ticks = ticks[np.searchsorted(ticks, low, "right") - 1 : np.searchsorted(ticks, high, "right") + 1]
    axis.set_major_locator(FixedLocator((ticks if len(ticks) <= 10 else decades).tolist()))
    axis.set_major_formatter("{x:,.10g}")
    axis.set_minor_locator(NullLocator())
    return ticks


def _count_ticks(axis: Axis) -> None:
    axis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    axis.set_major_formatter("{x:,.10g}")


def _drawn(title: str, caption: str, figure: Figure) -> Drawing:
    """Return a figure as a part of the page: without a head, a style or names that other figures have too."""
    return Drawing(title, caption, *inside_of_svg(figure, title, PAGE_COLOURS))


def plain(value: float) -> str:
    """Return a number with three significant digits, never in powers of ten above one."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
