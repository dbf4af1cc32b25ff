"""Uploaded recordings, classified one after the other in a thread of their own."""

import io
import json
import logging
import os
import queue
import secrets
import threading
import unicodedata
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from matplotlib.image import imsave

from birdclf.detection.classifier import Classifier
from birdclf.detection.detections import Detection
from birdclf.detection.inputs import Recording
from birdclf.detection.results import Result
from birdclf.detection.stream import RecordingScores, StreamSettings, stream_scores
from birdclf.detection.thresholds import Thresholds
from birdclf.detection.timeline import Overview
from birdclf.errors import UserError
from birdclf.files import check_writable, lock_file, write_whole
from birdclf.serving.corrections import NO_BIRD, Corrections, Row, Saved, apply_verdicts, table_rows
from birdclf.serving.settings import Limits, RefusedError, RequestSettings
from birdclf.text import printable

MARK: Final = "serve.json"
LOCK: Final = "serve.lock"
RECORDINGS: Final = "recordings"
FORMAT: Final = 1
PREFIX: Final = 16
"""Hexadecimal digits of the content's SHA-256 in a name: 64 bits."""
LONGEST_STEM: Final = 50
"""Characters, of four bytes at most: with all that is put round them below the 255 bytes of a file's name."""


class KeptFolder:
    """Uploads and corrections.

    Raises:
        UserError: If it holds something else, or leads elsewhere by a link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recordings = path / RECORDINGS
        mark = path / MARK
        if not mark.is_file():
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise UserError(f"{path} exists and holds no uploads of birdclf serve. Choose a new folder: --folder.")
            check_writable(path)
            write_whole(mark, json.dumps({"format": FORMAT}))
        _check_format(mark)
        check_writable(self.recordings)
        if self.recordings.resolve().parent != path.resolve():
            raise UserError(f"{self.recordings} is a link to another folder, and is not written to. Put it back.")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out, and clear away what an upload left that was cut short.

        Raises:
            UserError: If another one is here.
        """
        message = f"{self.path} is used by another birdclf serve. End that one, or choose another --folder."
        with lock_file(self.path / LOCK, busy=UserError(message)):
            for left in self.recordings.glob(".upload.*.tmp"):
                left.unlink(missing_ok=True)
            yield

    def temporary(self) -> Path:
        """Return a new name for an upload that is not whole yet."""
        return self.recordings / f".upload.{secrets.token_hex(8)}.tmp"

    def keep(self, temporary: Path, digest: str, name: str, ending: str) -> tuple[Path, bool]:
        """Rename a complete upload, unless its content is there already; return the file, and whether it is new.

        ``digest`` is the SHA-256 of its content in hexadecimal digits, ``name`` what its user calls it, of which
        letters, digits and a few signs are used, ``ending`` such as ``.wav``.
        """
        prefix = digest[:PREFIX]
        there = sorted(self.recordings.glob(f"{prefix}_*"))
        if there:
            return there[0], False
        file = self.recordings / f"{prefix}_{safe_stem(name)}{ending}"
        os.replace(temporary, file)
        return file, True

    def relative(self, file: Path) -> str:
        """Return a kept file's path from the folder, with slashes."""
        return f"{RECORDINGS}/{file.name}"


def safe_stem(name: str) -> str:
    """Return a name without its folders and its ending, of letters, digits, spaces and ``-_.()`` alone.

    It begins with a letter or digit, and is ``recording`` where nothing is left.
    """
    base = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    stem = os.path.splitext(base)[0]
    tidy = "".join(c if c.isalnum() or c in "-_.()" else " " for c in stem)
    tidy = " ".join(tidy.split())[:LONGEST_STEM]
    while tidy and not tidy[0].isalnum():
        tidy = tidy[1:]
    return tidy.rstrip(" .") or "recording"


def _check_format(mark: Path) -> None:
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{mark} cannot be read: {error}. Restore it, or choose another --folder.") from error
    if found != FORMAT:
        raise UserError(
            f"{mark} is of format {found!r}; this birdclf knows {FORMAT}. Update it, or use another --folder."
        )


RANGE_DB: Final = 70.0


def spectrogram(overview: Overview) -> tuple[bytes, float]:
    """Return a PNG, low frequencies at the bottom and a column a column of the overview, and the seconds it shows."""
    db = overview.picture()
    high = float(np.percentile(db, 99.9))
    file = io.BytesIO()
    imsave(file, db, vmin=high - RANGE_DB, vmax=high, cmap="magma", origin="lower", format="png")
    return file.getvalue(), db.shape[1] * overview.column_s


WAITING: Final = "waiting"
LISTENING: Final = "listening"
DONE: Final = "done"
FAILED: Final = "failed"
MOST_WAITING: Final = 20
log = logging.getLogger(__name__)


@dataclass
class Entry:
    """A recording of this session."""

    id: str
    title: str
    file: Path
    media_type: str
    duration_s: float  # by its header, then as decoded
    fresh: bool  # not in the folder before this session
    asked: RequestSettings
    state: str = WAITING
    heard_s: float = 0.0
    problem: str = ""
    version: int = 0  # how often it was classified
    rows: list[Row] = field(default_factory=list)
    windows: int = 0
    picture: bytes = b""
    picture_s: float = 0.0
    high_hz: float = 0.0


class Session:
    """Recordings, and the one thread that classifies them."""

    def __init__(
        self, classifier: Classifier, folder: KeptFolder, limits: Limits,
        thresholds: Thresholds | None = None,
    ) -> None:  # fmt: skip
        self.classifier, self.folder, self.limits, self.thresholds = classifier, folder, limits, thresholds
        self.corrections = Corrections(folder.path)
        self.entries: dict[str, Entry] = {}
        self._waiting: queue.Queue[Entry | None] = queue.Queue(MOST_WAITING)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the species that the model knows."""
        return self.classifier.input_spec.classes

    def stop(self) -> None:
        """Stop, after the batch at work."""
        self._stopped.set()
        with suppress(queue.Full):
            self._waiting.put_nowait(None)  # it may be waiting for one
        self._thread.join(timeout=5)

    def entry(self, known: str) -> Entry:
        """Return a recording by what the page calls it.

        Raises:
            RefusedError: If there is none.
        """
        try:
            return self.entries[known]
        except KeyError:
            raise RefusedError("There is no such recording in this session. Choose it again.", 404) from None

    def add(self, entry: Entry) -> Entry:
        """Let a recording wait for its turn; one that was classified already is classified again.

        Raises:
            RefusedError: If too many wait.
        """
        with self._lock:
            there = self.entries.get(entry.id)
            if there is None or there.state == FAILED:
                self._put(entry)
                self.entries[entry.id] = entry
                return entry
            there.title, there.file = entry.title, entry.file  # the file may have been removed, and is back
        return self.again(there, entry.asked)

    def again(self, entry: Entry, asked: RequestSettings) -> Entry:
        """Classify a recording again, unless it waits already or has these very settings.

        Raises:
            RefusedError: If too many wait, or it is being classified with other settings.
        """
        with self._lock:
            if entry.state in (WAITING, LISTENING):
                if entry.asked != asked:
                    raise RefusedError("It is being classified with other settings. Wait for it.", 409)
                return entry
            if entry.state == DONE and entry.asked == asked:
                return entry
            if not entry.file.is_file():
                raise RefusedError("The recording is no longer in the server's folder. Choose it again.", 404)
            self._put(entry)
            entry.asked, entry.state, entry.heard_s, entry.problem = asked, WAITING, 0.0, ""
            return entry

    def save(self, entry: Entry, version: Any, given: Any) -> Saved:
        """Keep what the user says of a recording's rows.

        Raises:
            RefusedError: If it was classified again since the page showed them, or they cannot be read.
            UserError: If the files cannot be read.
        """
        with self._lock:
            if entry.state != DONE or version != entry.version:
                raise RefusedError("The recording was classified again meanwhile. Reload the page.", 409)
            rows = apply_verdicts(entry.rows, given, self.classes)
            saved = self.corrections.save(self.folder.relative(entry.file), rows)
            entry.rows = rows
        return saved

    def result(self, entry: Entry) -> Result:
        """Return the detections of a recording as they are saved: with corrected names, and none without a bird."""
        named = [
            Detection(row.start_s, row.end_s, name, row.confidence or 0.0, row.windows)
            for row in entry.rows
            if row.verdict != NO_BIRD
            for name in row.species or (row.predicted,)
        ]
        name = entry.file.name.partition("_")[2]  # what its user calls it, without what a table could trip over
        return Result(name, name, entry.duration_s, entry.windows, entry.problem, named)

    def _put(self, entry: Entry) -> None:
        try:
            self._waiting.put_nowait(entry)
        except queue.Full:
            raise RefusedError(f"{MOST_WAITING} recordings wait already. Come back when some are done.", 503) from None

    def _work(self) -> None:
        while not self._stopped.is_set():
            entry = self._waiting.get()
            if entry is None:
                return
            with self._lock:
                entry.state = LISTENING
            try:
                self._hear(entry)
            except RefusedError as error:
                self._fail(entry, error.message)
            except (UserError, OSError) as error:
                self._fail(entry, printable(error))
            except Exception:
                log.exception("while classifying %s", printable(entry.file))
                self._fail(entry, "Something went wrong in the server; its terminal says what.")

    def _hear(self, entry: Entry) -> None:
        recording = Recording(os.fspath(entry.file), entry.file.name, os.fspath(entry.file))
        how = StreamSettings(entry.asked.hop_s, overview=True)
        parts = cast("Generator[RecordingScores | float]", stream_scores([recording], self.classifier, how))
        with closing(parts):
            for part in parts:
                if self._stopped.is_set():
                    return
                if isinstance(part, RecordingScores):
                    self._done(entry, part)
                    return
                entry.heard_s += part
                if entry.heard_s > self.limits.minutes * 60:
                    raise self.limits.too_long("is longer than it says")

    def _done(self, entry: Entry, scores: RecordingScores) -> None:
        if not len(scores.start_s) or scores.overview is None:
            raise RefusedError(f"The recording {printable(scores.problem)}. Choose another file.")
        settings = replace(
            entry.asked.detection_settings,
            thresholds=self.thresholds.species if self.thresholds else None,
            task=self.classifier.input_spec.task,
        )
        found = settings.detections(scores.probabilities, scores.start_s, scores.end_s, self.classes)
        rows = table_rows(found, self.corrections.of(self.folder.relative(entry.file)))
        picture, picture_s = spectrogram(scores.overview)
        with self._lock:
            entry.rows, entry.picture, entry.picture_s = rows, picture, picture_s
            entry.duration_s, entry.windows = scores.duration_s, len(scores.start_s)
            entry.problem = printable(scores.problem)
            entry.version += 1
            entry.state = DONE

    def _fail(self, entry: Entry, message: str) -> None:
        if entry.fresh and not entry.version:  # there are no detections of it that could be corrected
            entry.file.unlink(missing_ok=True)
        entry.problem, entry.state = message, FAILED
