"""Processing of a recording, decoded once: measured for the audit, mixed, resampled and analysed, block by block."""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO, Final, Protocol

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from birdclf.audio.clip import AudioError, Clip, Reader
from birdclf.audio.mixing import Mix
from birdclf.audio.resampling import resample_blocks
from birdclf.audit.measure import Measurement, Meter
from birdclf.environment import keep_freed_memory
from birdclf.features.representation import Analysis


class Analyser(Protocol):
    """Interface of the features for the store."""

    sample_rate_hz: int
    n_bands: int
    stored_type: str

    def begin_store(self, clips: Sequence[Clip], scratch: Path) -> None:
        """Prepare for a store of these recordings, with a folder for what worker processes share."""
        ...

    def analyse_recording(self, recording_id: str, blocks: Iterator[Tensor]) -> Iterator[Analysis]:
        """Yield the stored features of a recording, whose waveform comes in blocks ``(samples,)``."""
        ...

    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes what is stored."""
        ...


LEVEL_FILE: Final = "level.f16"


def frames_file(stored_type: str) -> str:
    """Return the name of the file that holds the packed frames of all recordings."""
    return "frames.f32" if stored_type == "float32" else "frames.f16"


def frame_bytes(analyser: Analyser) -> int:
    """Return the size of a frame in that file."""
    return np.dtype(analyser.stored_type).itemsize * analyser.n_bands


@dataclass(frozen=True)
class Extraction:
    """Converts clips to rows of a store; picklable, for worker processes."""

    reader: Reader
    mix: Mix
    analyser: Analyser

    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes the stored data of a clip."""
        return f"{self.reader.fingerprint()}|{self.mix.fingerprint()}|{self.analyser.fingerprint()}"

    def write(self, clips: list[Clip], path: Path) -> list[dict[str, Any]]:
        """Write the frames of some clips to ``<path>.frames`` and their level to ``<path>.level``.

        Returns:
            One row per clip: ``recording_id``, ``frames`` and the measurement.
        """
        with open(f"{path}.frames", "wb") as frames, open(f"{path}.level", "wb") as level:
            return [self._write_one(clip, frames, level) for clip in clips]

    def _write_one(self, clip: Clip, frames: BinaryIO, level: BinaryIO) -> dict[str, Any]:
        begin, measured, meter = frames.tell(), 0, None
        stored = torch.float32 if self.analyser.stored_type == "float32" else torch.float16
        try:
            with self.reader.open(clip) as sound:
                meter = Meter(sound)
                mixer = self.mix.mixer(self.reader, clip, sound.channels)
                waveform = resample_blocks(
                    map(mixer, meter.blocks()), sound.sample_rate_hz, self.analyser.sample_rate_hz
                )
                parts = (torch.from_numpy(part) for part in waveform)
                for bands, level_db in self.analyser.analyse_recording(clip.recording_id, parts):
                    frames.write(bands.T.contiguous().to(stored).numpy().data)
                    level.write(level_db.half().numpy().data)
                    measured += len(level_db)
                measurement = meter.measurement()
        except AudioError as error:
            for file, start in ((frames, begin), (level, begin // frame_bytes(self.analyser) * 2)):
                file.seek(start)
                file.truncate()
            measured = 0
            measurement = meter.measurement(error) if meter else Measurement(error=error.problem, reason=str(error))
        return {"recording_id": clip.recording_id, "frames": measured, **asdict(measurement)}


_of_worker: Extraction | None = None
"""A worker process has it from its start: with each task, a frozen network would be opened again."""


def begin_worker(scratch: Path, extraction: Extraction) -> None:
    """Set up a worker process: one thread, since there is a process for each core, and an end with its parent."""
    global _of_worker
    _of_worker = extraction
    tempfile.tempdir = str(scratch)
    keep_freed_memory()
    torch.set_num_threads(1)
    threadpool_limits(1)
    Thread(target=_end_with_parent, daemon=True).start()


def write_in_worker(clips: list[Clip], path: Path) -> list[dict[str, Any]]:
    """Return the result of :meth:`Extraction.write` in a worker process."""
    assert _of_worker is not None, "begin_worker comes first"
    return _of_worker.write(clips, path)


def _end_with_parent() -> None:
    """Exit when the parent ends: if it is killed, it cannot stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
