"""Clips of annotations: each labelled interval is a clip, grouped by recording."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from birdclf.audio.files import FileReader
from birdclf.data.annotations import Annotation
from birdclf.data.catalog import Catalog
from birdclf.data.soundscapes import labels_heard
from birdclf.data.tables import decimal, must_be_there
from birdclf.data.tree import real_paths, stamp_of
from birdclf.errors import UserError
from birdclf.text import printable

log = logging.getLogger(__name__)
MIN_OVERLAP_S: Final = 0.25
"""A clip has the label of another annotation that it overlaps by so many seconds, or by half of that annotation."""
BESIDE = "recordings with annotation files beside them"


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
    table = table.assign(group=table.file.map(dict(zip(files, groups, strict=True))))
    table = table.drop(columns=["file", "confidence", "annotator"])
    order = ["group", "start_s", "end_s", "species"]
    table = table.sort_values([*order, "low_hz", "high_hz"]).drop_duplicates(order).reset_index(drop=True)
    if len(table) < len(clips):
        log.info(
            "%s: %d annotations repeat the interval and label of another", printable(name), len(clips) - len(table)
        )
    table["labels"] = pd.Series(pd.array(_labels(table), dtype=object))
    ids = table.group + "#" + table.start_s.map(decimal) + "-" + table.end_s.map(decimal)
    again = ids.groupby(ids).cumcount() + 1
    table = table.assign(
        recording_id=ids.where(again == 1, ids + "#" + again.astype(str)),
        path=table.group.map(dict(zip(groups, real_paths(files), strict=True))),
        stamp=table.group.map({group: stamp_of(file) for group, file in zip(groups, files, strict=True)}),
        duration_s=table.end_s - table.start_s,
    )
    return Catalog(table, FileReader(), name)


def _labels(table: pd.DataFrame) -> list[set[str]]:
    """Return the label of each clip and those of the other annotations that overlap it, by group and start."""
    found: list[set[str]] = []
    for _, rows in table.rename(columns={"species": "label"}).groupby("group", sort=False):
        others = labels_heard(rows.start_s.to_numpy(), rows.end_s.to_numpy(), rows, MIN_OVERLAP_S)
        found += [{own, *labels} for own, labels in zip(rows.label, others, strict=True)]
    return found
