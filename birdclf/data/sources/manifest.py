"""A CSV or Parquet table of recordings."""

from pathlib import Path
from typing import Unpack

import pandas as pd

from birdclf.audio.files import FileReader
from birdclf.data.catalog import Catalog, Selection, select
from birdclf.data.listing import listed
from birdclf.data.tables import joined_lists
from birdclf.errors import UserError
from birdclf.targets import NONE


def manifest_catalog(
    path: str, allow_outside: bool = False, allow_absent: bool = False, **selection: Unpack[Selection]
) -> Catalog:
    """Return the catalog of a table with ``path`` and ``species``, one row a recording.

    Further columns: ``labels`` (all species that are heard: a list, or separated by ``;``; by default ``species``
    alone), ``recording_id`` (by default from path and interval), ``group``, ``start_s`` and ``end_s`` (an
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
    if "labels" in table.columns:
        table["labels"] = pd.Series(pd.array(_labels(table, Path(path)), dtype=object), index=table.index)
    return select(Catalog(table, FileReader(), f"manifest {Path(path).name}"), **selection)


def _labels(table: pd.DataFrame, file: Path) -> list[set[str]]:
    """Return the labels of each row, its species among them."""
    texts = table.labels.map(lambda cell: "" if pd.api.types.is_scalar(cell) and pd.isna(cell) else cell)
    texts = texts.map(lambda cell: cell if isinstance(cell, str) else ";".join(map(str, cell)))
    made = []
    for joined, species in zip(joined_lists(table.assign(labels=texts), "labels", file), table.species, strict=True):
        names = {name.strip() for name in joined.split(";")} - {"", NONE}
        if names and species == NONE:
            raise UserError(f"{file}: a row of the species {NONE!r} has the labels {joined!r}. Empty or correct it.")
        made.append(names | ({str(species)} - {NONE}))
    return made
