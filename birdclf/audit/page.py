"""HTML page of an audit of recordings: one file without external resources."""

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from birdclf.files import write_whole
from birdclf.pages import STYLE, inside_of_svg, page_template
from birdclf.text import printable

MOST_RATES = 12

KEPT, REJECTED = "#010204", "#010205"
PAGE_COLOURS = {KEPT: "var(--kept)", REJECTED: "var(--rejected)"}


class Drawing(NamedTuple):
    """A figure of the page; without ``svg`` the caption says why there is none."""

    title: str
    caption: str
    view_box: str = ""
    svg: str = ""


def drawings(table: pd.DataFrame, species: pd.DataFrame) -> list[Drawing]:
    """Return the figures of an audit: recordings of each species, lengths, sample rates, highest frequencies.

    Args:
        table: One row per recording: ``duration_s`` in s, ``native_rate_hz`` and ``top_hz`` in Hz (NaN: unknown), and
            ``rejected``.
        species: One row per species, in the order of the figure: numbers of ``kept`` and ``rejected`` recordings.
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
    return _drawing(title, caption if len(kept) else "No recording is kept.", figure)


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
    caption = f"Shortest {number(low)} s, median {number(known.duration_s.median())} s, longest {number(high)} s."
    return _drawing(title, caption + _left_out(table, known), figure)


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
    caption = f"{len(counts):,} sample rate{'' if len(counts) == 1 else 's'}."
    caption += f" The {hidden:,} least frequent are not shown." if hidden else ""
    return _drawing(title, caption + _left_out(table, known), figure)


def _band_drawing(table: pd.DataFrame) -> Drawing:
    title = "Highest frequency with energy"
    known = table[table.top_hz.between(0, np.inf, inclusive="left")]
    if known.empty:
        return Drawing(title, "No recording has a known highest frequency.")
    figure, axes = _empty("highest frequency in kHz", "recordings")
    top = known.top_hz / 1000
    _histogram(axes, top, known.rejected, np.linspace(0, max(float(top.max()), 1) * 1.02, 41))
    axes.xaxis.set_major_formatter("{x:g}")
    caption = f"Lowest {number(top.min())} kHz, median {number(top.median())} kHz, highest {number(top.max())} kHz."
    return _drawing(title, caption + _left_out(table, known), figure)


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
    """Draw the histogram of values ``(N,)`` with bin edges ``(B + 1,)``, the rejected on top of the kept."""
    _stack(axes, np.histogram(values[~rejected], edges)[0], np.histogram(values[rejected], edges)[0], edges)
    axes.set_xlim(edges[0], edges[-1])
    _count_ticks(axes.yaxis)


def _stack(axes: Axes, kept: ArrayLike, rejected: ArrayLike, edges: NDArray[np.float64], floor: float = 0.0) -> None:
    """Draw counts ``(B,)`` between edges ``(B + 1,)``, the rejected on top of the kept, as one path each."""
    lower = np.maximum(np.asarray(kept), floor)
    upper = np.maximum(np.add(kept, rejected), floor)
    axes.stairs(lower, edges, baseline=floor, fill=True, color=KEPT)
    axes.stairs(upper, edges, baseline=lower, fill=True, color=REJECTED)


def _round_ticks(axis: Axis, low: float, high: float) -> NDArray[np.float64]:
    """Label a logarithmic axis at 1, 2, 5, 10, ..., or at 1, 10, ... if these are more than 10.

    Returns:
        ``(T,)`` 1, 2, 5, 10, ... from the last one not above ``low`` to the first one above ``high``.
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


def _drawing(title: str, caption: str, figure: Figure) -> Drawing:
    return Drawing(title, caption, *inside_of_svg(figure, title, PAGE_COLOURS))


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent for large numbers."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


VERDICTS = ("ok", "warn", "reject")
TEXTS = ["recording_id", "species", "verdict", "problems", "reason", "audio_hash"]
NUMBERS = ["duration_s", "header_duration_s", "native_rate_hz", "peak", "dc", "clipped_share", "silent_share"]
NUMBERS += ["top_hz", "mix_loss_db"]

# Limits that keep the page small however bad the recordings are: thousands may be silence of equal length.
MOST_WORST, MOST_CONFLICTS, MOST_REPEATS, MOST_COPIES = 20, 300, 50, 10


class Ranking(NamedTuple):
    """Column by which the recordings of a problem are sorted, the worst first, with its title and format."""

    column: str
    title: str
    form: str
    worst_is_low: bool = False


RANKINGS = {
    "clipped": Ranking("clipped_share", "samples clipped", "{:.2%}"),
    "conflicting_duplicate": Ranking("copies", "recordings with this audio", "{:,.0f}"),
    "dc": Ranking("dc_size", "offset, full scale is 1", "{:.3g}"),
    "duplicate": Ranking("copies", "recordings with this audio", "{:,.0f}"),
    "header_lies": Ranking("header_gap_s", "header and decoded length differ by", "{:,.2f} s"),
    "low_rate": Ranking("native_rate_hz", "sample rate", "{:,.0f} Hz", worst_is_low=True),
    "mostly_silent": Ranking("silent_share", "of it silent", "{:.1%}"),
    "narrow_band": Ranking("top_hz", "energy up to", "{:,.0f} Hz", worst_is_low=True),
    "out_of_phase": Ranking("mix_loss_db", "lost by mixing channels", "{:.1f} dB"),
    "quiet": Ranking("peak", "peak, full scale is 1", "{:.3g}", worst_is_low=True),
    "several_labels": Ranking("copies", "recordings with this audio", "{:,.0f}"),
    "silent": Ranking("peak", "peak, full scale is 1", "{:.3g}", worst_is_low=True),
    "too_short": Ranking("duration_s", "length", "{:.3f} s", worst_is_low=True),
}


def write_page(audit: pd.DataFrame, name: str, path: Path) -> None:
    """Write the page of an audit, atomically. Equal audits give equal bytes, whatever the order of their rows.

    Args:
        audit: One row per recording: ``recording_id``, ``species``, ``verdict`` (ok, warn or reject), ``problems``
            (names joined by a space), ``reason``, ``audio_hash`` (empty: unknown), ``duration_s`` (decoded) and
            ``header_duration_s`` in s, ``native_rate_hz`` (0: unknown) and ``top_hz`` in Hz, ``peak`` and ``dc`` (1 is
            full scale), ``clipped_share`` and ``silent_share`` (0 to 1), ``mix_loss_db`` in dB. NaN is unknown.
        name: Name of the source, for the title.
        path: HTML file to write; its folder must exist.

    Raises:
        KeyError: If a column is missing.
        ValueError: If a verdict is not ok, warn or reject.
    """
    table = _prepared(audit)
    species = _per_species(table)
    groups = _groups_of_equal_audio(table)
    text = page_template("audit", share=_share, number=number).render(
        name=printable(name),
        headline=_headline(table, species),
        conflicting=_first_groups(table, groups[groups.labels > 1], MOST_CONFLICTS),
        repeated=_first_groups(table, groups[groups.labels == 1], MOST_REPEATS),
        problems=_problems(table),
        most_worst=MOST_WORST,
        drawings=drawings(table, species),
        species=list(species.itertuples(index=False)),
    )
    write_whole(path, text)


def _prepared(audit: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of the page, including derived ones, sorted by id."""
    texts = audit[TEXTS].astype(object)
    table = texts.where(texts.notna(), "").map(printable)  # pandas reads an empty text from a CSV file as NaN
    table[NUMBERS] = audit[NUMBERS].astype(float)
    unknown = set(table.verdict) - set(VERDICTS)
    if unknown:
        raise ValueError(f"The audit has the verdicts {sorted(unknown)}; only {', '.join(VERDICTS)} are known.")
    table = table.sort_values("recording_id", kind="stable", ignore_index=True)
    table["native_rate_hz"] = table.native_rate_hz.where(table.native_rate_hz > 0)
    table["rejected"] = table.verdict == "reject"
    table["header_gap_s"] = (table.duration_s - table.header_duration_s).abs()
    table["dc_size"] = table.dc.abs()
    table["copies"] = table.groupby("audio_hash").recording_id.transform("size").where(table.audio_hash != "")
    return table


def _share(share: float) -> str:
    """Return a share (0 to 1) in per cent, which is never rounded to 0 or 100."""
    if 0 < share < 0.001:
        return "< 0.1%"
    return "> 99.9%" if 0.999 < share < 1 else f"{share:.1%}"


def _per_species(table: pd.DataFrame) -> pd.DataFrame:
    """Return kept, warned (of these) and rejected recordings and hours by species, those with most kept ones first."""
    marks = table.assign(kept=~table.rejected, warned=table.verdict == "warn", hours=table.duration_s / 3600)
    counted = marks.groupby("species", as_index=False)[["kept", "warned", "rejected", "hours"]].sum()
    return counted.sort_values(["kept", "rejected", "species"], ascending=[False, False, True], ignore_index=True)


def _headline(table: pd.DataFrame, species: pd.DataFrame) -> dict[str, Any]:
    kept = species.kept[species.kept > 0]
    return {
        "recordings": len(table),
        "species": len(species),
        "without": len(species) - len(kept),
        "unknown_audio": int((table.audio_hash == "").sum()),
        "hours": float(table.duration_s.sum() / 3600),
        "verdicts": {verdict: int((table.verdict == verdict).sum()) for verdict in VERDICTS},
        "most": int(kept.max()) if len(kept) else 0,
        "fewest": int(kept.min()) if len(kept) else 0,
    }


def _groups_of_equal_audio(table: pd.DataFrame) -> pd.DataFrame:
    """Return copies and labels of each audio hash that several recordings share, the largest group first."""
    groups = table[table.copies > 1].groupby("audio_hash")
    sizes = groups.agg(copies=("recording_id", "size"), labels=("species", "nunique"), first=("recording_id", "min"))
    return sizes.sort_values(["copies", "first"], ascending=[False, True], kind="stable")


def _first_groups(table: pd.DataFrame, groups: pd.DataFrame, most: int) -> dict[str, Any]:
    """Return the numbers of groups and recordings, and the members of the first groups."""
    printable = groups.index[:most]
    members = table[table.audio_hash.isin(printable)]
    # A shortened group still shows as many of its species as possible.
    members = members.assign(turn=members.groupby(["audio_hash", "species"]).cumcount())
    members = members.sort_values(["turn", "species", "recording_id"], kind="stable")
    rows = dict(list(members.groupby("audio_hash")[["recording_id", "species", "verdict", "problems"]]))
    return {
        "groups": len(groups),
        "recordings": int(groups.copies.sum()),
        "hidden": len(groups) - len(printable),
        "shown": [
            {"rows": list(rows[key].head(MOST_COPIES).itertuples(index=False)), "more": len(rows[key][MOST_COPIES:])}
            for key in printable
        ],
    }


def _problems(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the problems, the most frequent first, each with its verdicts and worst recordings."""
    named = table.problems.str.split().explode().dropna()
    problems = []
    for name, rows in named.groupby(named):
        having = table.loc[rows.index.unique()]
        ranking = RANKINGS.get(str(name))
        if ranking:
            having = having.sort_values(ranking.column, ascending=ranking.worst_is_low, kind="stable")
        worst = having.head(MOST_WORST)
        problems.append(
            {
                "name": str(name),
                "recordings": len(having),
                "share": len(having) / len(table),
                "verdicts": [int((having.verdict == verdict).sum()) for verdict in VERDICTS],
                "ranking": ranking,
                "values": [_measured(value, ranking) for value in worst[ranking.column]] if ranking else [],
                "worst": list(worst.itertuples(index=False)),
            }
        )
    return sorted(problems, key=lambda problem: (-problem["recordings"], problem["name"]))


def _measured(value: float, ranking: Ranking) -> str:
    return "unknown" if np.isnan(value) else ranking.form.format(value)
