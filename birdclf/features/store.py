"""Features of whole recordings, once, packed into memory-mapped float16 files.

A store is a folder named by the hash of its catalog and of every setting of its features. It is written to a
temporary folder and renamed whole under a file lock, so that a killed or concurrent build never leaves half a store.
"""

import json
import logging
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from birdclf.audio.clip import AudioError, Clip, Reader
from birdclf.catalog.catalog import Catalog
from birdclf.errors import UserError
from birdclf.features.mfcc import Analysis

log = logging.getLogger(__name__)

VERSION = 1
CLIPS_A_TASK = 16
WORTH_A_PROCESS = 100  # clips; below, starting a worker process costs more than it saves


class Analyser(Protocol):
    """What the store asks of features."""

    sample_rate_hz: int
    n_bands: int

    def analyse(self, waveform: Tensor) -> Analysis:
        """Return what is stored of a ``(samples,)`` waveform."""
        ...

    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes what is stored."""
        ...


@dataclass(frozen=True)
class FeatureStore:
    """A finished store, opened for reading.

    Attributes:
        folder: Where it lies.
        index: One row a recording: ``recording_id``, ``offset`` and ``frames`` (into the packed frames),
            ``duration_s``, and ``problem``, the reason why a recording was set aside (empty for most).
        n_bands: Values a frame.
    """

    folder: Path
    index: pd.DataFrame
    n_bands: int

    @cached_property
    def frames(self) -> NDArray[np.float16]:
        """Frames of all recordings, one after the other: ``(total, n_bands)``."""
        return np.memmap(self.folder / "frames.f16", dtype=np.float16, mode="r").reshape(-1, self.n_bands)

    @cached_property
    def level_db(self) -> NDArray[np.float16]:
        """Energy of each frame between 1 and 10 kHz, in dB: ``(total,)``."""
        return np.memmap(self.folder / "level.f16", dtype=np.float16, mode="r")

    @property
    def rejected(self) -> pd.DataFrame:
        """Recordings that were set aside: ``recording_id`` and ``problem``."""
        return self.index.loc[self.index.problem != "", ["recording_id", "problem"]].reset_index(drop=True)


def open_store(catalog: Catalog, analyser: Analyser, root: Path, workers: int | None = None) -> FeatureStore:
    """Return the feature store of a catalog, built first where there is none.

    Args:
        catalog: Recordings to hold; unusable ones are listed in the index with their reason.
        analyser: Features to hold.
        root: Folder of all stores; made where missing.
        workers: Processes that decode and analyse; None for one a core, 0 for this process.

    Raises:
        UserError: If no recording can be used, or the store cannot be written.
    """
    setting = f"{VERSION}|{catalog.content_hash}|{analyser.fingerprint()}"
    key = blake2b(setting.encode(), digest_size=12).hexdigest()
    folder = root / key
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{key}.lock"):
            if not (folder / "meta.json").is_file():
                _build(catalog, analyser, folder, workers)
    except OSError as error:
        raise UserError(
            f"The feature store {folder} cannot be written: {error.strerror or error}. "
            f"Free some space or choose another folder with store.dir=…"
        ) from error
    store = FeatureStore(folder, pd.read_parquet(folder / "index.parquet"), analyser.n_bands)
    if (store.index.problem != "").all():
        first = store.rejected.iloc[0]
        raise UserError(
            f"{catalog.name}: none of the {len(catalog)} recordings can be used; first, {first.recording_id} "
            f"{first.problem}. The list is {folder / 'index.parquet'}."
        )
    return store


def _build(catalog: Catalog, analyser: Analyser, folder: Path, workers: int | None) -> None:
    clips = catalog.clips()
    if workers is None:
        workers = min(os.cpu_count() or 1, len(clips) // WORTH_A_PROCESS)
    for stale in folder.parent.glob(f".{folder.name}.*"):  # of a build that was killed: the lock is ours
        shutil.rmtree(stale)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        rows, offset = [], 0
        with open(temporary / "frames.f16", "wb") as frames, open(temporary / "level.f16", "wb") as level:
            tasks = [clips[i : i + CLIPS_A_TASK] for i in range(0, len(clips), CLIPS_A_TASK)]
            with _progress() as progress:
                bar = progress.add_task(f"features of {catalog.name}", total=len(clips))
                for row, bands, loudness in _analysed(tasks, catalog.reader, analyser, workers):
                    frames.write(bands.tobytes())
                    level.write(loudness.tobytes())
                    rows.append({**row, "offset": offset, "frames": len(bands)})
                    offset += len(bands)
                    progress.advance(bar)
        pd.DataFrame(rows).to_parquet(temporary / "index.parquet")
        meta = {
            "version": VERSION,
            "catalog": catalog.name,
            "catalog_hash": catalog.content_hash,
            "reader": catalog.reader.fingerprint(),
            "features": analyser.fingerprint(),
            "recordings": len(clips),
            "n_bands": analyser.n_bands,
        }
        (temporary / "meta.json").write_text(json.dumps(meta, indent=1))
        os.chmod(temporary, 0o755)  # mkdtemp keeps other users out; a store is shared
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True
    )


Analysed = tuple[dict[str, Any], NDArray[np.float16], NDArray[np.float16]]


def _analysed(tasks: list[list[Clip]], reader: Reader, analyser: Analyser, workers: int) -> Iterator[Analysed]:
    """Yield every clip's row, frames and level in the order of the clips, few tasks in flight at a time."""
    if workers < 2:
        for task in tasks:
            yield from _analyse(task, reader, analyser)
        return
    # Forking a process that has started torch's threads can hang, so the workers are spawned.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        waiting = deque(tasks)
        running: deque[Future[list[Analysed]]] = deque()
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                running.append(pool.submit(_analyse, waiting.popleft(), reader, analyser))
            yield from running.popleft().result()


def _one_thread() -> None:
    torch.set_num_threads(1)  # a process a core already keeps every core busy


def _analyse(clips: list[Clip], reader: Reader, analyser: Analyser) -> list[Analysed]:
    return [_analyse_one(clip, reader, analyser) for clip in clips]


def _analyse_one(clip: Clip, reader: Reader, analyser: Analyser) -> Analysed:
    row: dict[str, Any] = {"recording_id": clip.recording_id, "duration_s": 0.0, "problem": ""}
    try:
        waveform = reader.read(clip, analyser.sample_rate_hz)
    except AudioError as error:
        empty = np.empty(0, np.float16)
        return {**row, "problem": str(error)}, empty.reshape(0, analyser.n_bands), empty
    row["duration_s"] = len(waveform) / analyser.sample_rate_hz
    bands, level_db = analyser.analyse(torch.from_numpy(waveform))
    return row, bands.T.contiguous().half().numpy(), level_db.half().numpy()
