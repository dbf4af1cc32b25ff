"""The table of recordings that every source is turned into."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from birdclf.audio.clip import Clip, Reader
from birdclf.errors import UserError

COLUMNS: dict[str, str | float | None] = {
    "recording_id": None,
    "species": None,
    "path": "",
    "group": "",
    "start_s": 0.0,
    "end_s": float("inf"),
    "duration_s": float("nan"),
    "sample_rate_hz": 0,
    "stamp": "",
}


@dataclass(frozen=True)
class Catalog:
    """Recordings with their species, whatever the source.

    Attributes:
        table: One row a recording, sorted by ``recording_id``, with the columns of ``COLUMNS`` and
            whatever the source adds: ``recording_id`` (unique and stable), ``species``, ``path`` (empty
            for procedural sound), ``group`` (recordist or individual, may be empty), ``start_s`` and
            ``end_s`` (the stretch of the file), ``duration_s`` and ``sample_rate_hz`` (as the source's own
            table has them, else NaN and 0: no file is opened here), and ``stamp`` (changes when the sound behind
            the row changes).
        reader: Turns a row's clip into a waveform.
        name: Name of the source, for messages and reports.

    Raises:
        UserError: If a column is missing, an id occurs twice or there is no recording.
    """

    table: pd.DataFrame
    reader: Reader
    name: str

    def __post_init__(self) -> None:
        missing = [c for c, default in COLUMNS.items() if default is None and c not in self.table.columns]
        if missing:
            raise UserError(f"{self.name}: the catalog lacks the column(s) {', '.join(missing)}.")
        if self.table.empty:
            raise UserError(f"{self.name}: there is no recording in this source.")
        table = self.table.copy()
        for column, default in COLUMNS.items():
            if column not in table.columns:
                table[column] = default
        table = table.astype({"recording_id": str, "species": str, "path": str, "group": str})
        table = table.sort_values("recording_id", kind="stable").reset_index(drop=True)
        twice = table.recording_id[table.recording_id.duplicated()]
        if len(twice):
            raise UserError(
                f"{self.name}: recording_id {twice.iloc[0]!r} occurs more than once; ids must be unique "
                f"({len(twice)} repeats). Give each row an id of its own."
            )
        object.__setattr__(self, "table", table)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def classes(self) -> tuple[str, ...]:
        """Sorted names of the species."""
        return tuple(sorted(self.table.species.unique()))

    @property
    def class_counts(self) -> "pd.Series[int]":
        """Number of recordings of each species, in the order of :attr:`classes`."""
        return self.table.species.value_counts().reindex(list(self.classes))

    @property
    def content_hash(self) -> str:
        """Hash of what decides the sound of every recording: ids, paths, stretches, stamps, reader."""
        digest = hashlib.blake2b(self.reader.fingerprint().encode(), digest_size=12)
        sound = self.table[["recording_id", "path", "start_s", "end_s", "stamp"]]
        digest.update(np.ascontiguousarray(pd.util.hash_pandas_object(sound, index=False)).tobytes())
        return digest.hexdigest()

    def clips(self) -> list[Clip]:
        """Return one clip a row, in the order of the table."""
        t = self.table
        return [Clip(*row) for row in zip(t.recording_id, t.path, t.start_s, t.end_s, strict=True)]

    def subset(self, keep: "pd.Series[bool]") -> "Catalog":
        """Return the catalog of the rows where ``keep`` holds."""
        return Catalog(self.table[keep], self.reader, self.name)
