"""What was found in a recording, as plain values that can be written and read back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from birdclf.detection.detections import Detecting, Detection
from birdclf.detection.stream import Heard
from birdclf.text import shown

COLUMNS = ("path", *Detection._fields)


@dataclass(frozen=True)
class Result:
    """What was found in one recording.

    Attributes:
        path: The file, as the user named it.
        name: Where what is written of it goes.
        duration_s: How long it is, in seconds, as far as it could be decoded.
        windows: How many windows were classified.
        problem: Why it could not be decoded, or not all of it; empty where it could.
        detections: By begin.
    """

    path: str
    name: str
    duration_s: float
    windows: int
    problem: str
    detections: Sequence[Detection]

    @classmethod
    def of(cls, heard: Heard, detecting: Detecting, classes: Sequence[str]) -> "Result":
        """Return what is to be detected in what was heard."""
        found = detecting.detections(heard.probabilities, heard.start_s, heard.end_s, classes)
        path = shown(heard.recording.path)  # a name on one line of a table, whatever it holds
        return cls(path, heard.recording.name, heard.duration_s, len(heard.start_s), heard.problem, found)

    def plain(self) -> dict[str, Any]:
        """Return plain values, from which :meth:`read` makes it again."""
        return vars(self) | {"detections": [list(one) for one in self.detections]}

    @classmethod
    def read(cls, values: dict[str, Any]) -> "Result":
        """Return what :meth:`plain` was given for.

        Raises:
            KeyError: If a value is missing.
            TypeError: If one is of another kind.
        """
        found = [Detection(*one) for one in values["detections"]]
        return cls(
            **{name: values[name] for name in cls.__dataclass_fields__ if name != "detections"}, detections=found
        )


def detections_table(results: Sequence[Result]) -> pd.DataFrame:
    """Return all detections: ``path``, ``start_s``, ``end_s``, ``species``, ``confidence`` and ``windows``."""
    rows = [(one.path, *found) for one in results for found in one.detections]
    kinds = dict(zip(COLUMNS, (str, float, float, str, float, int), strict=True))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(kinds)


def files_table(results: Sequence[Result]) -> pd.DataFrame:
    """Return a row a recording: ``path``, ``duration_s``, ``windows``, ``detections`` and ``problem``."""
    columns = ["path", "duration_s", "windows", "detections", "problem"]
    rows = [(r.path, round(r.duration_s, 6), r.windows, len(r.detections), r.problem) for r in results]
    return pd.DataFrame(rows, columns=columns)


def species_table(results: Sequence[Result]) -> pd.DataFrame:
    """Return a row a species, most detections first, with the detection to listen to first.

    Columns ``species``, ``detections``, ``files``, ``seconds``, ``confidence``, ``path`` and ``start_s``.
    """
    table = detections_table(results)
    best = table.sort_values("confidence", ascending=False, kind="stable").drop_duplicates("species")
    best = best.set_index("species")[["confidence", "path", "start_s"]]
    groups = table.assign(seconds=table.end_s - table.start_s).groupby("species")
    counts = groups.agg(detections=("path", "size"), files=("path", "nunique"), seconds=("seconds", "sum"))
    counts["seconds"] = counts.seconds.round(6)
    ordered = counts.join(best).sort_values(["detections", "confidence"], ascending=False, kind="stable")
    return ordered.rename_axis("species").reset_index()
