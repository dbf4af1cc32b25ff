"""TensorBoard's event file, written at once and in an order that no clock can turn round.

TensorBoard's own writer hands events to a thread. When the disk is full that thread dies with a stack trace, and the
training hears of it later or never.
"""

import os
import re
import socket
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

NAME: Final = "events.out.tfevents"
NUMBER: Final = count()


class EventWriter(SummaryWriter):
    """Writes events into a folder; an event is with the system when the call that adds it returns.

    Args:
        folder: Folder of a TensorBoard run; made where missing.
        purge_step: First step of an earlier file that this one writes anew; None if there is none.
    """

    def __init__(self, folder: str, purge_step: int | None = None) -> None:
        super().__init__(folder, purge_step=purge_step)

    def _get_file_writer(self) -> FileWriter:  # where the base class makes its own
        found: FileWriter | None = self.file_writer
        if found is not None:
            return found
        made = _Writer(Path(self.log_dir))
        if self.purge_step is not None:
            made.add_event(Event(session_log=SessionLog(status=SessionLog.START)), self.purge_step)
        self.file_writer, self.all_writers = made, {self.log_dir: made}  # type: ignore[assignment]
        return made


class _Writer(FileWriter):
    def __init__(self, folder: Path) -> None:
        self.event_writer = _EventFile(folder)


class _EventFile:
    """What the writer of a folder asks of its event file.

    Raises:
        OSError: From any call that cannot write; nothing is written after that.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        last = f"{socket.gethostname()}.{os.getpid()}.{next(NUMBER)}"
        self.file = open(folder / f"{NAME}.{_time(folder):010d}.{last}", "xb")  # noqa: SIM115, closed by close
        self.records = RecordWriter(self.file)
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def get_logdir(self) -> str:
        return str(self.folder)

    def add_event(self, event: Event) -> None:
        self.records.write(event.SerializeToString())
        self.file.flush()

    def flush(self) -> None:
        """Do nothing: no event waits."""

    def close(self) -> None:
        with suppress(OSError):  # raised before, by the event that found no room
            self.file.close()


def _time(folder: Path) -> int:
    """Return the second for the name of a new file: later than all that are there, for they are read by their names."""
    names = (re.match(rf"{NAME}\.(\d+)\.", path.name) for path in folder.iterdir())
    return max([int(time.time()), *(int(name[1]) + 1 for name in names if name)])
