"""The journal of a feature store that is being built: what is done for certain, should the machine stop."""

import json
import os
import time
from pathlib import Path
from typing import Any, BinaryIO, Final

from birdclf.audio.clip import Clip

JOURNAL: Final = "journal.jsonl"
KEEP_EVERY_S: Final = 2.0
"""Seconds of work that a killed build may lose."""

Rows = list[dict[str, Any]]


class Journal:
    """The rows that are done, a line each, written after the data that they tell of.

    Args:
        path: File of the journal.
    """

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
        """Read the rows of an earlier build whose data is there, and cut off whatever follows them.

        Args:
            files: Data files and their bytes a frame.
            clips: Clips of this build, in order.
        """
        self.file.seek(0)
        room = min(os.fstat(file.fileno()).st_size // size for file, size in files.items())
        frames = end = 0
        for line, clip in zip(self.file, clips, strict=False):
            try:
                row = json.loads(line)
            except ValueError:
                break  # the machine stopped in the middle of the line
            if not line.endswith(b"\n") or row.get("recording_id") != clip.recording_id:
                break
            if frames + row["frames"] > room:
                break  # ... or before the data was on the disk
            frames, end = frames + row["frames"], end + len(line)
            self.rows.append(row)
        self.file.truncate(end)
        for file, size in files.items():
            file.truncate(frames * size)

    def add(self, rows: Rows, files: tuple[BinaryIO, ...]) -> None:
        """Note rows whose data has been written; they are kept for certain every few seconds."""
        self.waiting += rows
        if time.monotonic() - self.kept > KEEP_EVERY_S:
            self.keep(files)

    def keep(self, files: tuple[BinaryIO, ...]) -> None:
        """Write data to the disk, and then the rows that tell of it."""
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        self.file.write(b"".join(json.dumps(row).encode() + b"\n" for row in self.waiting))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.rows += self.waiting
        self.waiting, self.kept = [], time.monotonic()
