"""Annotation files beside recordings: each annotation is a clip, grouped by recording."""

import logging
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from birdclf.audio.files import FileReader
from birdclf.audio.formats import FORMAT_OF, is_sound
from birdclf.data.catalog import Catalog
from birdclf.data.tables import decimal, must_be_there, read_text
from birdclf.data.tree import real_paths, stamp_of, walk
from birdclf.errors import UserError
from birdclf.text import printable

log = logging.getLogger(__name__)
BESIDE = "recordings with annotation files beside them"

# Parts that programs insert between a recording's name and the .txt of its annotations.
_ENDING = re.compile(
    rf"(\.(selections?|table|results|birdnet|table\.\d+|\d+)|{'|'.join(map(re.escape, FORMAT_OF))})$", re.IGNORECASE
)


class Annotation(NamedTuple):
    """A labelled interval of a recording: times in seconds, frequencies in Hz (NaN where not given)."""

    file: Path
    start_s: float
    end_s: float
    species: str
    low_hz: float = float("nan")
    high_hz: float = float("nan")


def lines_of(file: Path) -> list[str]:
    """Return the lines of a text file with any line endings.

    Raises:
        UserError: If it cannot be read.
    """
    return read_text(file).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def seconds(text: str, where: str) -> float:
    """Return a number, with a decimal point or comma.

    Raises:
        UserError: If it is not a finite number.
    """
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where} has {text.strip()[:60]!r} instead of a number. Correct or delete the line.")
    return value


def interval(start: str, end: str, where: str) -> tuple[float, float]:
    """Return start and end in seconds.

    Raises:
        UserError: If one is not a number, the start is negative or the end is before the start.
    """
    start_s, end_s = seconds(start, where), seconds(end, where)
    if not 0 <= start_s <= end_s:
        raise UserError(
            f"{where} runs from {start_s:g} to {end_s:g} s; it must be 0 <= start <= end. Correct the line."
        )
    return start_s, end_s


class AnnotationIndex:
    """Recordings and text files below a folder, by name.

    Raises:
        UserError: If it cannot be read.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.texts: list[Path] = []
        self.by_name: defaultdict[str, list[Path]] = defaultdict(list)
        self._beside: defaultdict[tuple[Path, str], list[Path]] = defaultdict(list)
        for folder, names in walk(base, lambda name: is_sound(name) or name.lower().endswith(".txt")):
            for name in names:
                path = Path(folder, name)
                if is_sound(name):
                    self.by_name[name.casefold()].append(path)
                    for key in {path.name, path.stem}:
                        self._beside[path.parent, key].append(path)
                else:
                    self.texts.append(path)

    def recording_of(self, text: Path) -> Path | None:
        """Return the recording beside a text file that has its name, or None.

        ``a.txt``, ``a.wav.txt``, ``a.selections.txt`` and ``a.Table.1.selections.txt`` belong to ``a.wav``.

        Raises:
            UserError: If two recordings have the name.
        """
        name = text.stem
        while True:
            beside = self._beside.get((text.parent, name), [])
            if len(beside) > 1:
                names = " and ".join(path.name for path in beside)
                raise UserError(f"{text} may belong to {names}. Name it {beside[0].name}.txt, or keep one of them.")
            if beside:
                return beside[0]
            ending = _ENDING.search(name)
            if not ending:
                return None
            name = name[: ending.start()]


def clips_catalog(base: Path, tables: Mapping[Path, Sequence[Annotation]], name: str, hint: str) -> Catalog:
    """Return the catalog of annotations: one clip for each label and interval, grouped by recording.

    Args:
        base: Folder that the ids are relative to.
        tables: Labelled intervals by the file that holds them; repeats, and those without text or length, are passed
            over.
        name: Name of the source.
        hint: Description of the expected files, for the message that nothing was found.

    Raises:
        UserError: If no annotation is left, or none of the recordings exists.
    """
    given = [one for annotations in tables.values() for one in annotations]
    clips = [one for one in given if one.species and one.end_s > one.start_s]
    passed = []
    if empty := [file for file, annotations in tables.items() if not annotations]:
        passed.append(f"tables without a row: {len(empty)}, first {empty[0]}")
    if len(clips) < len(given):
        passed.append(f"annotations without text or length: {len(given) - len(clips)}")
    if not clips:
        raise UserError(f"data.root={base} holds no annotation: {hint}. Skipped: {'; '.join(passed) or 'nothing'}.")
    for what in passed:
        log.warning("%s: skipped %s", printable(name), printable(what))
    table = pd.DataFrame(clips)
    files = sorted(set(table.file))
    must_be_there(files, base)
    groups = [file.relative_to(base).as_posix() for file in files]
    table = table.assign(group=table.file.map(dict(zip(files, groups, strict=True)))).drop(columns="file")
    order = ["group", "start_s", "end_s", "species"]
    table = table.sort_values([*order, "low_hz", "high_hz"]).drop_duplicates(order).reset_index(drop=True)
    if len(table) < len(clips):
        log.info(
            "%s: %d annotations repeat the interval and label of another", printable(name), len(clips) - len(table)
        )
    ids = table.group + "#" + table.start_s.map(decimal) + "-" + table.end_s.map(decimal)
    again = ids.groupby(ids).cumcount() + 1
    table = table.assign(
        recording_id=ids.where(again == 1, ids + "#" + again.astype(str)),
        path=table.group.map(dict(zip(groups, real_paths(files), strict=True))),
        stamp=table.group.map({group: stamp_of(file) for group, file in zip(groups, files, strict=True)}),
        duration_s=table.end_s - table.start_s,
    )
    return Catalog(table, FileReader(), name)
