"""A CSV table that survives being killed: rows are appended one by one, and the whole is rewritten under a new name."""

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from birdclf.catalog.tables import distinct_columns
from birdclf.catalog.text import read_text, rows_of
from birdclf.errors import UserError
from birdclf.quoting import shown

log = logging.getLogger(__name__)


class Ledger:
    """A table of texts with one row an ``id``; what a killed run left of its last row is dropped.

    Columns that a user added are kept. Values lose their line breaks, so that a row is a line.

    Args:
        path: The CSV file, which may be absent.
        columns: The columns that are written, ``id`` among them.

    Raises:
        UserError: If the file is no table with a column ``id``.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.rows: dict[str, dict[str, str]] = {}
        self._columns = list(columns)
        self._ready = False  # whether the file ends in a whole line and has our columns in our order
        if path.exists():
            self._read()

    def add(self, row: Mapping[str, object]) -> None:
        """Append a row and see that it reaches the disk.

        Raises:
            UserError: If the file cannot be written.
        """
        if not self._ready:
            self.rewrite()
        kept = self.rows.get(str(row["id"]), {})
        full = {name: " ".join(str(row.get(name, kept.get(name, ""))).split()) for name in self._columns}
        self.rows[full["id"]] = full
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._text([full]))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def drop(self, id: str) -> None:
        """Forget a row; the file follows at the next :meth:`rewrite`."""
        self.rows.pop(id, None)

    def rewrite(self) -> None:
        """Write the table anew, in order of ids, and put it in the old one's place whole.

        Raises:
            UserError: If the file cannot be written.
        """
        order = sorted(self.rows.values(), key=lambda row: (len(row["id"]), row["id"]))
        temporary = self.path.with_name(f".{self.path.name}.part")
        try:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                file.write(self._text([dict(zip(self._columns, self._columns, strict=True)), *order]))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._ready = True

    def _read(self) -> None:
        header, rows = read_ledger(self.path)
        self._columns += [name for name in header if name and name not in self._columns]
        self.rows = {id: {name: row.get(name, "") for name in self._columns} for id, row in rows.items()}

    def _text(self, rows: list[dict[str, str]]) -> str:
        buffer = io.StringIO(newline="")
        csv.DictWriter(buffer, self._columns, lineterminator="\n").writerows(rows)
        return buffer.getvalue()


def read_ledger(path: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the columns of a ledger and its rows by ``id``, of which the last one counts.

    Raises:
        UserError: If the file is no table with a column ``id``.
    """
    text = read_text(path)
    whole, _, rest = text.rpartition("\n")
    if rest:
        log.warning("%s: its last line is not whole, and is passed over", shown(path))
    if not whole:  # killed before the header was complete
        return [], {}
    header, lines = rows_of(whole, path)
    distinct_columns(header, path)
    if "id" not in header:
        raise UserError(f"{path} has no column 'id', so fetch did not write it. Give a folder of its own.")
    rows = [dict(zip(header, cells, strict=True)) for _, cells in lines]
    if nameless := sum(not row["id"] for row in rows):
        log.warning("%s: %d rows have no id, and are passed over", shown(path), nameless)
    return header, {row["id"]: row for row in rows if row["id"]}


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written: {error.strerror}. Make room or give another folder, and run it again.")
