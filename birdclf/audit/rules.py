"""Verdicts on measured recordings: ``ok``, ``warn`` or ``reject``."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd

from birdclf.audio.clip import MAX_HEADER_ERROR_S
from birdclf.audio.files import read_header
from birdclf.audit.measure import SILENCE
from birdclf.checks import choice, in_range
from birdclf.errors import UserError

VERDICTS: Final = ("ok", "warn", "reject")
UNREADABLE: Final = ("undecodable", "empty", "not_finite", "no_vector")
"""Problems that leave a recording without features; it is always rejected."""
VERDICT_OF: Final[dict[str, str]] = {
    **dict.fromkeys((*UNREADABLE, "too_short", "silent", "duplicate", "conflicting_duplicate"), "reject"),
    **dict.fromkeys(("several_labels", "beyond_end", "header_lies", "goes_on", "mostly_silent", "quiet"), "warn"),
    **dict.fromkeys(("clipped", "dc", "out_of_phase", "low_rate", "narrow_band"), "warn"),
}
COLUMNS: Final = (
    *("recording_id", "species", "path", "verdict", "problems", "reason", "duration_s", "header_duration_s"),
    *("native_rate_hz", "channels", "peak", "rms", "dc", "clipped_share", "silent_share", "mix_loss_db", "top_hz"),
    "audio_hash",
)


class Finding(NamedTuple):
    """A problem of a row, by name and in words."""

    row: int
    problem: str
    words: str


@dataclass(frozen=True)
class Rules:
    """Limits on the measurements, and the verdict on each problem.

    Of recordings with the same decoded sound and label the first by id is kept. If their labels differ none is kept,
    since the right one is unknown. Several labels on one interval of one file are not duplicates.

    Attributes:
        min_duration_s: Shorter recordings are ``too_short``.
        max_overrun_s: ``beyond_end`` where a label ends more seconds after its recording.
        max_header_error_s: ``header_lies`` where header and decoder differ by more seconds.
        max_silent_share: ``mostly_silent`` above it; ``silent`` recordings are below -90 dB throughout.
        min_peak: ``quiet`` below it; full scale is 1.
        max_clipped_share: ``clipped`` above it.
        max_dc: ``dc`` where the mean lies farther from 0.
        max_mix_loss_db: ``out_of_phase`` where the mean of the channels is quieter than they are by more.
        min_rate_hz: ``low_rate`` below this sample rate.
        min_top_hz: ``narrow_band`` where the highest frequency with energy is lower.
        verdicts: Verdicts by problem that replace the default ones.

    Raises:
        UserError: If a limit is negative or not finite, or a verdict is unknown or not allowed for its problem.
    """

    min_duration_s: float = 0.3
    max_overrun_s: float = 1.0
    max_header_error_s: float = MAX_HEADER_ERROR_S
    max_silent_share: float = 0.5
    min_peak: float = 0.003
    max_clipped_share: float = 0.01
    max_dc: float = 0.02
    max_mix_loss_db: float = 10.0
    min_rate_hz: int = 16_000
    min_top_hz: float = 4_000.0
    verdicts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if name != "verdicts":
                in_range(f"audit.{name}", getattr(self, name), 0)
        if not isinstance(self.verdicts, Mapping):
            raise UserError(f"audit.verdicts is {self.verdicts!r}; name a problem: audit.verdicts.clipped=reject.")
        for problem, verdict in self.verdicts.items():
            if problem not in VERDICT_OF:
                known = ", ".join(VERDICT_OF)
                raise UserError(f"audit.verdicts.{problem}: there is no such problem. There are {known}.")
            choice(f"audit.verdicts.{problem}", verdict, VERDICTS)
            if problem in UNREADABLE and verdict != "reject":
                raise UserError(f"audit.verdicts.{problem} is {verdict!r}; without features it can only be 'reject'.")
        object.__setattr__(self, "verdicts", dict(self.verdicts))

    def verdict(self, problem: str) -> str:
        """Return the verdict on a recording that has a problem."""
        return self.verdicts.get(problem, VERDICT_OF[problem])

    def judge(self, measured: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
        """Return the audit, one row per recording.

        Args:
            measured: Columns of :class:`birdclf.audit.measure.Measurement`, one row per recording.
            table: The catalog's table, in the same order.

        Returns:
            The columns ``COLUMNS``: ``problems`` are names joined by spaces, ``reason`` the same in words, ``verdict``
            the worst on any of them.
        """
        known = table[["recording_id", "species", "path", "start_s", "end_s"]].reset_index(drop=True)
        audit = known.join(measured.drop(columns="recording_id").reset_index(drop=True))
        unread = _rows(audit[audit.error != ""])
        findings = [Finding(row, values["error"], values["reason"] + _late(values)) for row, values in unread]
        findings += self._beyond_limits(audit[audit.error == ""])
        # Silent recordings are not duplicates of each other, even where their verdict is not reject.
        excluded = [f.row for f in findings if self.verdict(f.problem) == "reject" or f.problem == "silent"]
        findings += _repeats(audit.drop(index=excluded))
        of_row: defaultdict[int, list[Finding]] = defaultdict(list)
        for found in findings:
            of_row[found.row].append(found)
        problems, reason, verdict = ([default] * len(audit) for default in ("", "", "ok"))
        for row, some in of_row.items():
            problems[row] = " ".join(found.problem for found in some)
            reason[row] = "; ".join(found.words for found in some)
            verdict[row] = max((self.verdict(found.problem) for found in some), key=VERDICTS.index)
        return audit.assign(problems=problems, reason=reason, verdict=verdict)[list(COLUMNS)]

    def _beyond_limits(self, a: pd.DataFrame) -> list[Finding]:
        silent = a.peak < SILENCE
        a = a.assign(overrun_s=a.end_s - a.start_s - a.duration_s)
        short = f"is {{duration_s:.2f}} s long, shorter than audit.min_duration_s={self.min_duration_s:g}"
        checks = {
            "too_short": (a.duration_s < self.min_duration_s, short),
            "silent": (silent, "is silent from beginning to end"),
            "mostly_silent": (~silent & (a.silent_share > self.max_silent_share), "is silent for {silent_share:.0%}"),
            "beyond_end": (
                a.overrun_s.between(self.max_overrun_s, math.inf, inclusive="neither"),
                "has a label that ends {overrun_s:,.1f} s after the recording",
            ),
            "header_lies": (
                (a.duration_s - a.header_duration_s).abs() > self.max_header_error_s,
                "lasts {duration_s:.2f} s, by its header {header_duration_s:.2f} s",
            ),
            "goes_on": (a.goes_on != "", "{goes_on}"),
            "quiet": (~silent & (a.peak < self.min_peak), "is quiet: its peak is {peak:.5f} of full scale"),
            "clipped": (a.clipped_share > self.max_clipped_share, "is clipped in {clipped_share:.1%} of its samples"),
            "dc": (a.dc.abs() > self.max_dc, "has an offset of {dc:.3f}"),
            "out_of_phase": (
                a.mix_loss_db > self.max_mix_loss_db,
                "loses {mix_loss_db:.0f} dB when its channels are averaged",
            ),
            "low_rate": (a.native_rate_hz < self.min_rate_hz, "has a sample rate of {native_rate_hz:,} Hz"),
            "narrow_band": (a.top_hz < self.min_top_hz, "has no energy above {top_hz:,.0f} Hz"),
        }
        return [
            Finding(row, problem, words.format(**values))
            for problem, (beyond, words) in checks.items()
            for row, values in _rows(a[beyond])
        ]


def _late(values: Mapping[str, Any]) -> str:
    """Return the time from the end of the recording to the start of an empty clip, in words; empty if unknown."""
    header = read_header(Path(values["path"])) if values["error"] == "empty" and values["start_s"] > 0 else None
    late_s = values["start_s"] - header.duration_s if header else -1.0
    return f": its label begins {late_s:,.1f} s after the recording ends" if late_s >= 0 else ""


def _repeats(audit: pd.DataFrame) -> list[Finding]:
    """Return the findings on rows with the same decoded sound as another row."""
    sound = audit[audit.audio_hash.duplicated(keep=False)].sort_values("recording_id")
    groups: defaultdict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for row, values in _rows(sound):  # groupby would take milliseconds per group
        groups[values["audio_hash"]].append((row, values))
    return [found for same in groups.values() for found in _repeats_of(same)]


def _repeats_of(same: list[tuple[int, dict[str, Any]]]) -> Iterator[Finding]:
    """Yield the findings on rows with the same sound, sorted by id."""
    first: dict[str, str] = {}  # first recording of each label
    for _, values in same:
        first.setdefault(values["species"], values["recording_id"])
    intervals = {(values["path"], values["start_s"], values["end_s"]) for _, values in same}
    # Procedural sound has no path, and never has two ids for one interval.
    one_interval = len(intervals) == 1 and intervals.pop()[0] != ""
    problem, what = ("several_labels", "interval") if one_interval else ("conflicting_duplicate", "sound")
    two = list(first)[:2]
    for row, values in same:
        species = values["species"]
        if values["recording_id"] != first[species] and (len(first) == 1 or one_interval):
            yield Finding(row, "duplicate", f"is the same sound as {first[species]}")
        elif len(first) > 1:
            other = two[1] if species == two[0] else two[0]
            yield Finding(row, problem, f"is the same {what} as {first[other]}, labelled {other}")


def _rows(table: pd.DataFrame) -> list[tuple[int, dict[str, Any]]]:
    """Return index and values of each row."""
    values = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    return list(zip(table.index.to_list(), values, strict=True))
