"""The page that shows an audit of recordings: one HTML file that loads nothing else."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from birdclf.audit.drawings import drawings, plain
from birdclf.disk import write_whole
from birdclf.pages import page_template
from birdclf.quoting import shown

VERDICTS = ("ok", "warn", "reject")
TEXTS = ["recording_id", "species", "verdict", "problems", "reason", "audio_hash"]
NUMBERS = ["duration_s", "header_duration_s", "native_rate_hz", "peak", "dc", "clipped_share", "silent_share"]
NUMBERS += ["top_hz", "mix_loss_db"]

# The page's limits keep it small however bad the recordings are: silence of one length can be shared by thousands.
MOST_WORST, MOST_CONFLICTS, MOST_REPEATS, MOST_COPIES = 20, 300, 50, 10


class Ranking(NamedTuple):
    """What ranks the recordings of a problem, the worst first."""

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
    """Write the page of an audit, whole: to a temporary name beside it, which is then renamed.

    Equal audits give equal bytes, whatever the order of their rows. The page says what the table holds, no more.

    Args:
        audit: One row a recording: ``recording_id``, ``species``, ``verdict`` (ok, warn or reject), ``problems`` (names
            joined by a space), ``reason``, ``audio_hash`` (empty: unknown), ``duration_s`` (decoded) and
            ``header_duration_s`` in s, ``native_rate_hz`` (0: unknown) and ``top_hz`` in Hz, ``peak`` and ``dc`` (1 is
            full scale), ``clipped_share`` and ``silent_share`` (0 to 1), ``mix_loss_db`` in dB. NaN is unknown. Other
            columns are not read.
        name: What was audited, for the title.
        path: HTML file to write; its folder must exist.

    Raises:
        KeyError: If a column is missing.
        ValueError: If a verdict is none of the three.
        OSError: If the file cannot be written.
    """
    table = _prepared(audit)
    species = _per_species(table)
    groups = _groups_of_equal_audio(table)
    text = page_template("audit", share=_share, plain=plain).render(
        name=shown(name),
        headline=_headline(table, species),
        conflicting=_shown(table, groups[groups.labels > 1], MOST_CONFLICTS),
        repeated=_shown(table, groups[groups.labels == 1], MOST_REPEATS),
        problems=_problems(table),
        most_worst=MOST_WORST,
        drawings=drawings(table, species),
        species=list(species.itertuples(index=False)),
    )
    write_whole(path, text)


def _prepared(audit: pd.DataFrame) -> pd.DataFrame:
    """Return what the page reads, in the order of ids, with the columns that are derived from others."""
    texts = audit[TEXTS].astype(object)
    table = texts.where(texts.notna(), "").map(shown)  # an empty text comes back from a CSV file as NaN
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
    """Return a share (0 to 1) in per cent; what is there is never called zero, nor a part the whole."""
    if 0 < share < 0.001:
        return "< 0.1%"
    return "> 99.9%" if 0.999 < share < 1 else f"{share:.1%}"


def _per_species(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a species, those with most kept recordings first: kept, warned (of these), rejected and hours."""
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
    """Return a row an audio hash that several recordings have, the largest group first: copies and labels."""
    groups = table[table.copies > 1].groupby("audio_hash")
    sizes = groups.agg(copies=("recording_id", "size"), labels=("species", "nunique"), first=("recording_id", "min"))
    return sizes.sort_values(["copies", "first"], ascending=[False, True], kind="stable")


def _shown(table: pd.DataFrame, groups: pd.DataFrame, most: int) -> dict[str, Any]:
    """Return how many groups and recordings there are, and the members of the first groups."""
    shown = groups.index[:most]
    members = table[table.audio_hash.isin(shown)]
    # A group that is cut names as many of its species as it can.
    members = members.assign(turn=members.groupby(["audio_hash", "species"]).cumcount())
    members = members.sort_values(["turn", "species", "recording_id"], kind="stable")
    rows = dict(list(members.groupby("audio_hash")[["recording_id", "species", "verdict", "problems"]]))
    return {
        "groups": len(groups),
        "recordings": int(groups.copies.sum()),
        "hidden": len(groups) - len(shown),
        "shown": [
            {"rows": list(rows[key].head(MOST_COPIES).itertuples(index=False)), "more": len(rows[key][MOST_COPIES:])}
            for key in shown
        ],
    }


def _problems(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the problems, the most frequent first, each with its verdicts and its worst recordings."""
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
