"""Plan of a feature store: its content, location, lock and journal."""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

import pandas as pd

from birdclf.audio.clip import Clip
from birdclf.audit.measure import Measurement
from birdclf.data.catalog import Catalog
from birdclf.errors import UserError
from birdclf.files import digest, lock_file, reason
from birdclf.store.extraction import Extraction

JOURNAL: Final = "journal.jsonl"
KEEP_EVERY_S: Final = 2.0
"""Seconds between writes of the journal: the work that a killed build loses."""

Rows = list[dict[str, Any]]


class Journal:
    """Finished rows, one per line, written after their data."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "a+b")  # noqa: SIM115, closed by __exit__
        self.rows: Rows = []
        self.waiting: Rows = []
        self.kept = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def recover(self, files: dict[BinaryIO, int], clips: list[Clip]) -> None:
        """Read the rows of an earlier build whose data is on disk, and truncate the files after them."""
        self.file.seek(0)
        room = min(os.fstat(file.fileno()).st_size // size for file, size in files.items())
        frames = end = 0
        for line, clip in zip(self.file, clips, strict=False):
            try:
                row = json.loads(line)
            except ValueError:
                break  # the line is incomplete
            if not line.endswith(b"\n") or row.get("recording_id") != clip.recording_id:
                break
            if frames + row["frames"] > room:
                break  # the data did not reach the disk
            frames, end = frames + row["frames"], end + len(line)
            self.rows.append(row)
        self.file.truncate(end)
        for file, size in files.items():
            file.truncate(frames * size)

    def add(self, rows: Rows, files: tuple[BinaryIO, ...]) -> None:
        """Add rows whose data has been written; they are flushed every few seconds."""
        self.waiting += rows
        if time.monotonic() - self.kept > KEEP_EVERY_S:
            self.keep(files)

    def keep(self, files: tuple[BinaryIO, ...]) -> None:
        """Flush data to disk, and then its rows."""
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        self.file.write(b"".join(json.dumps(row).encode() + b"\n" for row in self.waiting))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.rows += self.waiting
        self.waiting, self.kept = [], time.monotonic()


VERSION: Final = 3


@dataclass(frozen=True)
class StorePlan:
    """A store of a catalog's features, built or not."""

    catalog: Catalog
    extraction: Extraction
    root: Path

    @cached_property
    def folder(self) -> Path:
        """Folder of the finished store, named by a hash of all that determines its content."""
        setting = f"{VERSION}|{self.catalog.content_hash}|{self.extraction.fingerprint()}"
        return self.root / digest(setting.encode())

    @property
    def building(self) -> Path:
        """Folder in which the process that holds :meth:`lock` builds the store."""
        return self.folder.with_name(f".{self.folder.name}.building")

    def lock(self) -> AbstractContextManager[None]:
        """Return the lock under which it is built, for a ``with`` statement."""
        waits = f"another process is building {self.folder}; waiting for it"
        return lock_file(self.folder.with_name(f"{self.folder.name}.lock"), waits=waits)

    @property
    def finished(self) -> bool:
        """True if the store exists."""
        return (self.folder / "meta.json").is_file()

    def finish(self, rows: Rows) -> None:
        """Write index and metadata to :attr:`building`, and rename it to :attr:`folder`."""
        index_of(rows).to_parquet(self.building / "index.parquet")
        meta = {
            "version": VERSION,
            "catalog": self.catalog.name,
            "catalog_hash": self.catalog.content_hash,
            "reader": self.extraction.reader.fingerprint(),
            "mix": self.extraction.mix.fingerprint(),
            "features": self.extraction.analyser.fingerprint(),
            "recordings": len(self.catalog),
            "n_bands": self.extraction.analyser.n_bands,
        }
        (self.building / "meta.json").write_text(json.dumps(meta, indent=1))
        (self.building / JOURNAL).unlink()
        self.building.rename(self.folder)

    @contextmanager
    def failures_explained(self) -> Iterator[None]:
        """Convert errors of a build to messages for the user.

        Raises:
            UserError: If a file cannot be written, or a worker process is killed.
        """
        try:
            yield
        except BrokenExecutor as error:
            raise UserError(
                f"A process that decodes {self.catalog.name} was killed, perhaps for lack of memory. Start again with "
                f"fewer of them, such as store.workers=1; what is done is kept."
            ) from error
        except OSError as error:
            raise UserError(
                f"The feature store {self.folder} cannot be written: {reason(error)}. Free some space or choose "
                f"another folder with store.dir=…; what is done is kept, and the next start continues from there."
            ) from error


def index_of(rows: Rows) -> pd.DataFrame:
    """Return the index of a store whose recordings are in the order of the rows."""
    frames = [row["frames"] for row in rows]
    index = pd.DataFrame(rows, columns=["recording_id", "frames", *(field.name for field in fields(Measurement))])
    types = {field.name: field.type for field in fields(Measurement)}
    index = index.astype({"recording_id": str, "frames": "int64", **types})
    index.insert(1, "offset", index.frames.cumsum() - frames)
    return index
