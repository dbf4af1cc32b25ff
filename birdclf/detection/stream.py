"""Recordings to probabilities: decoded in the background, classified in batches that reach across files."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from birdclf.audio.clip import AudioError, Clip, Waveform
from birdclf.audio.files import FileReader
from birdclf.audio.resampling import resample_blocks
from birdclf.audio.windows import Window, windows_of
from birdclf.detection.classifier import Classifier, InputSpec, Vectors
from birdclf.detection.inputs import Recording
from birdclf.detection.timeline import Overview
from birdclf.errors import UserError

BATCH: Final = 16
AHEAD: Final = 3
"""Batches that may wait: with the one at work about 50 MB of sound."""


@dataclass
class RecordingScores:
    """Scores of the windows of one recording."""

    recording: Recording  # which one
    start_s: NDArray[np.float64]  # `(n,)` begins of its windows, in seconds
    end_s: NDArray[np.float64]  # `(n,)` ends, in seconds
    probabilities: Vectors  # `(n, K)`
    embeddings: Vectors  # `(n, D)`; no rows where they were not requested
    duration_s: float  # how long it is, as far as it could be decoded
    problem: str  # why it could not be decoded, or not all of it; empty where it could
    overview: Overview | None  # its spectrogram; None where it was not requested


@dataclass
class _Open:
    """A recording in progress; results of its batches are collected here."""

    recording: Recording
    overview: Overview | None
    start_s: list[float] = field(default_factory=list)
    end_s: list[float] = field(default_factory=list)
    probabilities: list[Vectors] = field(default_factory=list)
    embeddings: list[Vectors] = field(default_factory=list)


@dataclass
class _End:
    """The end of a recording in the queue: why there is no more of it, and how many samples all of it had."""

    problem: str = ""
    samples: int | None = None


@dataclass(frozen=True)
class StreamSettings:
    """Settings of the stream of windows.

    Attributes:
        hop_s: Seconds from the beginning of one window to that of the next.
        embeddings: Also collect embeddings.
        overview: Also compute spectrograms.
        batch: Windows that are classified together.
        each: Is given each window in turn with its recording, probabilities ``(K,)`` and embedding ``(D,)``.
    """

    hop_s: float
    embeddings: bool = False
    overview: bool = False
    batch: int = BATCH
    each: Callable[[Recording, Window, Vectors, Vectors], None] | None = None

    def check(self, input_spec: InputSpec) -> None:
        """Refuse a hop that is no stretch of time."""
        if not 1 / input_spec.sample_rate_hz <= self.hop_s < float("inf"):
            raise UserError(f"--hop {self.hop_s:g}: seconds from window to window, above 0; a window unless given.")
        if self.batch < 1:
            raise UserError(f"--batch-size {self.batch}: windows that are classified together, 1 or more.")


def stream_scores(
    recordings: Sequence[Recording], classifier: Classifier, how: StreamSettings, before: int = 0
) -> Iterator[RecordingScores | float]:
    """Yield the scores of each recording, in their order; in between, the seconds of sound classified since.

    One thread decodes while another computes, and no recording is ever held whole. ``before`` is the number of windows
    that an earlier call classified. A window keeps its row in its batch then: the last bits of a matrix product depend
    on the row, and an interrupted call is to give the figures of an undisturbed one.

    Raises:
        UserError: If the hop is no stretch of time.
    """
    how.check(classifier.input_spec)
    waiting: queue.Queue[tuple[Recording, list[Window] | _End] | BaseException | None] = queue.Queue(AHEAD)
    stop = threading.Event()
    decoder = threading.Thread(
        target=_decode, args=(recordings, classifier.input_spec, how, waiting, stop), daemon=True
    )
    decoder.start()
    try:
        yield from _classified(waiting, classifier, how, before % how.batch)
    finally:
        stop.set()
        while decoder.is_alive():  # it may wait for room
            try:
                waiting.get(timeout=0.05)
            except queue.Empty:
                continue


def _classified(
    waiting: "queue.Queue[tuple[Recording, list[Window] | _End] | BaseException | None]",
    classifier: Classifier,
    how: StreamSettings,
    skipped: int,
) -> Iterator[RecordingScores | float]:
    pending: list[tuple[_Open, _End | None]] = []  # recordings whose last windows may still wait for a batch
    batch: list[tuple[_Open, Window]] = []
    while (item := waiting.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        recording, part = item
        if not pending or pending[-1][1] is not None:
            rate = classifier.input_spec.sample_rate_hz
            pending.append((_Open(recording, Overview(rate) if how.overview else None), None))
        if isinstance(part, _End):
            pending[-1] = (pending[-1][0], part)
        else:
            batch += [(pending[-1][0], window) for window in part]
        while len(batch) >= (room := how.batch - skipped):
            yield _classify(batch[:room], classifier, how, skipped)
            batch, skipped = batch[room:], 0
        waits = {id(owner) for owner, _ in batch}
        while pending and pending[0][1] is not None and id(pending[0][0]) not in waits:
            yield _closed(*pending.pop(0), classifier.input_spec)
    if batch:
        yield _classify(batch, classifier, how, skipped)
    for owner, end in pending:
        yield _closed(owner, end, classifier.input_spec)


def _classify(batch: list[tuple[_Open, Window]], classifier: Classifier, how: StreamSettings, skipped: int) -> float:
    """Add the results of a batch, but for rows skipped, to its recordings; return the new seconds of sound."""
    samples = [window.samples for _, window in batch]
    probabilities, embeddings = (rows[skipped:] for rows in classifier(np.stack(samples[:1] * skipped + samples)))
    seconds = 0.0
    for row, (owner, window) in enumerate(batch):
        new_s = window.end_s - max(window.start_s, owner.end_s[-1] if owner.end_s else 0.0)
        seconds += new_s
        owner.start_s.append(window.start_s)
        owner.end_s.append(window.end_s)
        owner.probabilities.append(probabilities[row])
        if how.each is not None:
            how.each(owner.recording, window, probabilities[row], embeddings[row])
        if how.embeddings:
            owner.embeddings.append(embeddings[row])
        if owner.overview is not None:
            new_samples = round((window.end_s - window.start_s) * owner.overview.rate_hz)
            owner.overview.add(window.start_s, window.samples[:new_samples])
    return seconds


def _closed(part: _Open, end: _End | None, input_spec: InputSpec) -> RecordingScores:
    duration_s = max(part.end_s, default=0.0)
    if end and end.samples is not None:  # windows far apart may end before the recording does
        duration_s = end.samples / input_spec.sample_rate_hz
    return RecordingScores(
        part.recording, np.asarray(part.start_s), np.asarray(part.end_s),
        np.asarray(part.probabilities, np.float32).reshape(-1, len(input_spec.classes)),
        np.stack(part.embeddings) if part.embeddings else np.empty((0, 0), np.float32), duration_s,
        end.problem if end else "", part.overview,
    )  # fmt: skip


def _decode(
    recordings: Sequence[Recording],
    input_spec: InputSpec,
    how: StreamSettings,
    waiting: "queue.Queue[tuple[Recording, list[Window] | _End] | BaseException | None]",
    stop: threading.Event,
) -> None:
    """Put the windows of recordings, and the end of each, into a queue, until all is read or the consumer stops."""
    try:
        for recording in recordings:
            end = _End()
            part: list[Window] = []
            try:
                for window in _windows(recording, input_spec, how.hop_s, end):
                    part.append(window)
                    if len(part) == how.batch:
                        waiting.put((recording, part))
                        part = []
                    if stop.is_set():
                        return
            except AudioError as error:
                end.problem = str(error)
            if part:
                waiting.put((recording, part))
            waiting.put((recording, end))
        waiting.put(None)
    except BaseException as error:  # the consumer raises it
        waiting.put(error)


def _windows(recording: Recording, input_spec: InputSpec, hop_s: float, end: _End) -> Iterator[Window]:
    """Yield the windows of a recording, and count its samples."""
    samples = 0

    def counted(blocks: Iterable[Waveform]) -> Iterator[Waveform]:
        nonlocal samples
        for block in blocks:
            samples += len(block)
            yield block

    reader, clip = FileReader(), Clip(recording.name, recording.path)
    with reader.open(clip) as sound:
        mixer = input_spec.mix.mixer(reader, clip, sound.channels)
        blocks = resample_blocks(map(mixer, sound.blocks), sound.sample_rate_hz, input_spec.sample_rate_hz)
        hop = max(1, round(hop_s * input_spec.sample_rate_hz))
        yield from windows_of(counted(blocks), input_spec.sample_rate_hz, input_spec.samples, hop, input_spec.padding)
        end.samples, end.problem = samples, sound.missing_part(samples / input_spec.sample_rate_hz)
