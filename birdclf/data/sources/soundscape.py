"""Annotated soundscapes: long recordings cut into segments with the set of species heard in each."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

import pandas as pd

from birdclf.audio.files import FileReader
from birdclf.data.catalog import Catalog, Selection, select
from birdclf.data.soundscapes import Columns, SegmentSettings, durations_of, read_annotations, segment_table
from birdclf.data.tables import decimal
from birdclf.data.tree import data_root, real_paths, stamp_of
from birdclf.errors import UserError
from birdclf.text import printable

log = logging.getLogger(__name__)
FOLDER = "folder"


def soundscape_catalog(
    root: str,
    annotations: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    segment_s: float = 5.0,
    hop_s: float | None = None,
    min_overlap_s: float = 0.25,
    unannotated: str = "refuse",
    site: str | None = None,
    **selection: Unpack[Selection],
) -> Catalog:
    """Return the catalog of the segments of annotated recordings, those without any species included.

    A row's species is the label with the longest overlap, ``none`` where there is no label; its group the site, else
    the recording; its id ``<path>#<start>-<end>``.

    Args:
        root: Folder of recordings, with annotations beside them
            (:func:`birdclf.data.soundscapes.read_annotations`).
        annotations: One table of all recordings, or a folder of tables, instead.
        columns: Names of the table's columns, those of :class:`birdclf.data.soundscapes.Columns`.
        segment_s: Length of a segment in seconds.
        hop_s: From one start to the next; None is a segment.
        min_overlap_s: Least overlap of annotation and segment in seconds.
        unannotated: What a recording without an annotation is: ``refuse``, ``empty`` or ``skip``.
        site: ``folder`` (the first folder below ``root``), or a regular expression that finds the site in the path
            below ``root``; None makes each recording a group.
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If a value is out of range, the annotations cannot be read, or no segment is left.
    """
    settings = SegmentSettings(segment_s, hop_s, min_overlap_s, unannotated)
    base = data_root(root, "recordings with their annotations")
    table = Path(annotations).expanduser() if annotations is not None else None
    if table is not None and not table.exists():
        raise UserError(f"data.annotations={annotations} does not exist. Give a Raven table (.txt), a CSV or a folder.")
    made = read_annotations(base, table, Columns(**(columns or {})))
    segments = segment_table(made, durations_of(made.recordings), settings)
    name = f"soundscapes {base.name}"
    for note in made.notes:
        log.warning("%s: %s", printable(name), printable(note))
    files = sorted(segments.path.unique())
    top = base.absolute()
    below = {file: Path(file).relative_to(top).as_posix() for file in files}
    groups = {file: _group(path, site) for file, path in below.items()}
    real = dict(zip(files, real_paths(files), strict=True))
    stamps = {file: stamp_of(file) for file in files}
    count = segments.labels.map(len)
    log.info(
        "%s: %d segments of %d recordings, %d of them empty, %d with several species; least overlap %g s",
        printable(name), len(segments), len(files), (count == 0).sum(), (count > 1).sum(), min_overlap_s,
    )  # fmt: skip
    spans = [f"#{decimal(start)}-{decimal(end)}" for start, end in zip(segments.start_s, segments.end_s, strict=True)]
    rows = pd.DataFrame(
        {
            "recording_id": segments.path.map(below) + pd.Series(spans),
            "species": segments.species,
            "labels": segments.labels,
            "path": segments.path.map(real),
            "group": segments.path.map(groups),
            "start_s": segments.start_s,
            "end_s": segments.end_s,
            "duration_s": segments.end_s - segments.start_s,
            "stamp": segments.path.map(stamps),
            "recording": segments.path.map(below),
        }
    )
    return select(Catalog(rows, FileReader(), name), **selection)


def _group(path: str, site: str | None) -> str:
    """Return the site of a recording, by its path below the root, or the path."""
    if site is None:
        return path
    if site == FOLDER:
        return path.partition("/")[0]
    try:
        found = re.search(site, path)
    except re.error as error:
        raise UserError(f"data.site is {site!r}, which is no regular expression: {error}. Correct it.") from error
    if found is None:
        raise UserError(f"data.site={site} is not found in {path}. Correct the expression, or leave data.site out.")
    return found[found.re.groups and 1] or path
