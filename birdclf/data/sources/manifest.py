"""A CSV or Parquet table of recordings."""

from pathlib import Path
from typing import Unpack

from birdclf.audio.files import FileReader
from birdclf.data.catalog import Catalog, Selection, select
from birdclf.data.listing import listed


def manifest_catalog(
    path: str, allow_outside: bool = False, allow_absent: bool = False, **selection: Unpack[Selection]
) -> Catalog:
    """Return the catalog of a table with ``path`` and ``species``, one row a recording.

    Further columns: ``recording_id`` (by default from path and interval), ``group``, ``start_s`` and ``end_s`` (an
    interval of the file, in seconds), ``duration_s``, ``sample_rate_hz`` and ``split``; any other column is kept. Paths
    are relative to the table. A CSV is UTF-8; its cells are text except the numbers listed here. In Parquet, names are
    text or whole numbers, and times may be durations.

    Args:
        path: The table, ending in ``.csv`` or ``.parquet``.
        allow_outside: Allow files outside the table's folder, after links are resolved.
        allow_absent: Allow some of the files, not all, to be missing.
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If the table or a column is missing, two columns share a name, a cell cannot be read, or a row names
            a file that does not exist or lies outside the table's folder and that is not allowed.
    """
    table = listed(path, "data.path", ("path", "species"), allow_outside, allow_absent)
    return select(Catalog(table, FileReader(), f"manifest {Path(path).name}"), **selection)
