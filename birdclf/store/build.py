"""Building a feature store: worker processes decode, this process appends and keeps a journal.

A build that was killed resumes after the last recording in its journal, and gives the same bytes.
"""

import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from birdclf.audio.clip import Clip
from birdclf.checks import most_processes, whole
from birdclf.cores import usable_cores
from birdclf.store.extraction import (
    LEVEL_FILE,
    Analyser,
    Extraction,
    begin_worker,
    frame_bytes,
    frames_file,
    write_in_worker,
)
from birdclf.store.plan import JOURNAL, Journal, Rows

CLIPS_A_TASK: Final = 8
WORTH_A_PROCESS: Final = 100
"""Clips; with fewer, starting a worker process takes more time than it saves, unless their files are large."""
WORTH_A_PROCESS_BYTES: Final = 100 * 2**20
"""Total size of the files of fewer clips that is worth a process."""
Files = tuple[BinaryIO, BinaryIO]
"""Frames and level, open for appending."""


def build(
    clips: list[Clip], extraction: Extraction, folder: Path, scratch: Path, title: str, workers: int | None
) -> Rows:
    """Decode clips and write their packed frames and levels to a folder, resuming an earlier build.

    Returns:
        One row per clip: ``recording_id``, ``frames`` and the measurement.
    """

    def decoded(done: int, files: Files) -> Iterator[Rows]:
        left = clips[done:]
        tasks = _tasks(left, processes := _processes(left, workers))
        for rows, parts in _extracted(tasks, extraction, scratch, processes):
            for file, part in zip(files, parts, strict=True):
                with open(part, "rb") as source:
                    shutil.copyfileobj(source, file, 2**20)
                part.unlink()
            yield rows

    return fill(clips, folder, extraction.analyser, title, decoded)


def fill(
    clips: list[Clip], folder: Path, analyser: Analyser, title: str, append: Callable[[int, Files], Iterator[Rows]]
) -> Rows:
    """Write packed frames, levels and the journal of some clips to a folder, resuming an earlier build.

    The journal is kept; :meth:`birdclf.store.plan.StorePlan.finish` removes it. ``append`` is given the number of
    finished clips and the files, appends the data of the others in parts and yields the rows of each part.

    Returns:
        One row per clip.
    """
    folder.mkdir(exist_ok=True)
    with (
        Journal(folder / JOURNAL) as journal,
        open(folder / frames_file(analyser.stored_type), "ab") as frames,
        open(folder / LEVEL_FILE, "ab") as level,
    ):
        journal.recover({frames: frame_bytes(analyser), level: 2}, clips)
        with _progress() as progress:
            bar = progress.add_task(title, total=len(clips), completed=len(journal.rows))
            for rows in append(len(journal.rows), (frames, level)):
                journal.add(rows, (frames, level))
                progress.advance(bar, len(rows))
        journal.keep((frames, level))
    return journal.rows


@contextmanager
def scratch_folder(prefix: Path) -> Iterator[Path]:
    """Make a temporary folder whose path begins with ``prefix``, and remove those that killed builds left."""
    for stale in prefix.parent.glob(f"{prefix.name}*"):
        shutil.rmtree(stale, ignore_errors=True)
    with TemporaryDirectory(prefix=prefix.name, dir=prefix.parent, ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


def _processes(clips: list[Clip], workers: int | None) -> int:
    """Return the number of worker processes; 0 if this process does the work."""
    if workers is None:
        workers = min(usable_cores(), len(clips))
        if len(clips) < WORTH_A_PROCESS:
            size = sum(os.path.getsize(path) for path in {clip.path for clip in clips} if os.path.isfile(path))
            workers = workers if size > WORTH_A_PROCESS_BYTES else 0
    return workers if whole("store.workers", workers, 0, most_processes()) > 1 else 0


def _tasks(clips: list[Clip], processes: int) -> list[list[Clip]]:
    size = max(1, min(CLIPS_A_TASK, len(clips) // (4 * max(processes, 1))))
    return [clips[i : i + size] for i in range(0, len(clips), size)]


def _extracted(
    tasks: list[list[Clip]], extraction: Extraction, scratch: Path, processes: int
) -> Iterator[tuple[Rows, tuple[Path, Path]]]:
    """Yield every task's rows and files in the order of the clips, with few tasks queued at a time."""
    paths = [scratch / str(number) for number in range(len(tasks))]
    parts = [(path.with_suffix(".frames"), path.with_suffix(".level")) for path in paths]
    if not processes:
        for task, path, files in zip(tasks, paths, parts, strict=True):
            yield extraction.write(task, path), files
        return
    # Forking a process that has started torch's threads can hang, so the workers are spawned.
    spawn = get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, begin_worker, (scratch, extraction)) as pool:
        waiting = deque(zip(tasks, paths, strict=True))
        running: deque[Future[Rows]] = deque()
        try:
            for files in parts:
                with _ignoring_interrupts():
                    while waiting and len(running) < 2 * processes:
                        running.append(pool.submit(write_in_worker, *waiting.popleft()))
                yield running.popleft().result(), files
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C in processes started here: a terminal sends it to all, and this process ends them in order."""
    if threading.current_thread() is not threading.main_thread():  # signal handlers can be set only there
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _progress() -> Progress:
    return Progress(
        *(TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
        *(TextColumn("left"), TimeRemainingColumn()),
        transient=True,
    )
