"""Agreement of an exported file with the checkpoint, on real recordings."""

import math
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdclf.audio.clip import AudioError, Clip, Reader, Samples, Waveform
from birdclf.audio.files import FileReader
from birdclf.audio.resampling import resample_blocks
from birdclf.audio.windows import windows_of
from birdclf.data.catalog import Catalog
from birdclf.data.labels import targets_of
from birdclf.data.splits import FileSplit
from birdclf.detection.classifier import InputSpec, Vectors
from birdclf.detection.inputs import recordings_of
from birdclf.errors import UserError
from birdclf.runs.opening import NAMED, read_settings, run_catalog
from birdclf.targets import NONE
from birdclf.text import printable

RECORDINGS: Final = 16
"""Recordings of the run that verify a file, where none are named."""
WINDOWS: Final = 12
"""Of each of them, a minute: some are hours long."""


class SoundWindow(NamedTuple):
    """A window of sound."""

    recording: str  # which recording it is of
    window: Waveform  # `(samples,)`
    target: Any = None  # of the recording: number of its class, or ``(K,)`` of a set; None where it is not known


def windows_of_files(given: Sequence[str], input_spec: InputSpec) -> Iterator[SoundWindow]:
    """Yield all windows, side by side, of files and of those in folders; one that cannot be decoded is skipped.

    Raises:
        UserError: If there is no sound file, or none of them can be decoded.
    """
    clips = [Clip(one.path, one.path) for one in recordings_of(given)]
    yield from _of_clips(clips, FileReader(), input_spec, None, "--verify")


@dataclass(frozen=True)
class OwnRecordings:
    """The recordings of a run, where its source still has them."""

    catalog: Catalog  # the source
    stages: NDArray[np.str_]  # `(n,)` split of each row of its table; empty where the run has not used it
    input_spec: InputSpec  # sound that the run's classifier takes

    def some(self, stage: str, most: int = RECORDINGS) -> Iterator[SoundWindow]:
        """Yield windows of some recordings of a split, taken at even steps, with a minute of each at most.

        Raises:
            UserError: If none of them can be decoded.
        """
        rows = np.flatnonzero(self.stages == stage)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]
        clips = self.catalog.clips()
        yield from _of_clips(
            [clips[row] for row in rows], self.catalog.reader, self.input_spec, WINDOWS, self.catalog.name
        )

    def middles(self, stage: str, most: int | None = None) -> Iterator[SoundWindow]:
        """Yield the middle window of every recording of a split that can be decoded, or of some at even steps."""
        rows = np.flatnonzero(self.stages == stage)
        if most is not None and len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
        clips = self.catalog.clips()
        targets = targets_of(self.catalog.table.iloc[rows], self.input_spec.classes, self.input_spec.task)
        for row, target in zip(rows, targets, strict=True):
            try:
                window = next(_windows(clips[row], self.catalog.reader, self.input_spec, middle=True))
            except AudioError:
                continue
            yield SoundWindow(clips[row].recording_id, window, target)


def own_recordings(
    run: Path, input_spec: InputSpec, source: Sequence[str] = (), trusted: Collection[str] = ()
) -> OwnRecordings:
    """Return a run's own recordings, in its own splits.

    Raises:
        UserError: If its settings or its split are missing, or the recordings are gone.
    """
    try:
        cfg = read_settings(run, source, trusted)
        catalog = run_catalog(cfg, run, bool(source), trusted)
        split = FileSplit(str(run / "split.csv")).assign(catalog, cfg.seed)
    except UserError as error:
        raise UserError(f"{error} Or name other sound files to hold the export to: --verify AUDIO") from error
    ids = catalog.table.recording_id
    absent = sorted(set(split.index[split == "val"]) - set(ids))
    if absent:
        raise UserError(
            f"{catalog.name} lacks {len(absent)} validation recordings of {run / 'split.csv'}, such as "
            f"{', '.join(map(repr, absent[:NAMED]))}. Say where they are with --source data.root=DIR, or name other "
            f"sound files to hold the export to: --verify AUDIO"
        )
    known = {*input_spec.classes, *([NONE] if input_spec.task == "multi_label" else [])}
    if unknown := sorted(set(catalog.table.species[ids.isin(split.index)]) - known):
        raise UserError(f"{catalog.name} has species that the checkpoint does not know: {', '.join(unknown[:NAMED])}.")
    stages = ids.map(split.to_dict()).fillna("").to_numpy(dtype=np.str_)
    if not (stages == "val").any():
        raise UserError(f"{run / 'split.csv'} has no validation recording. Name sound files: --verify AUDIO")
    return OwnRecordings(catalog, stages, input_spec)


def _of_clips(
    clips: Sequence[Clip], reader: Reader, input_spec: InputSpec, most: int | None, where: str
) -> Iterator[SoundWindow]:
    decoded, problem = 0, ""
    for clip in clips:
        try:
            for window in islice(_windows(clip, reader, input_spec), most):
                decoded += 1
                yield SoundWindow(clip.recording_id, window)
        except AudioError as error:
            problem = f"{clip.recording_id} {error}"
            print(f"birdclf: {printable(problem)}", file=sys.stderr)
    if not decoded:
        raise UserError(
            f"{where}: none of {len(clips)} recordings can be decoded, the last: {problem}. The file is not written, "
            f"since nothing shows that it is right. Name sound files: --verify AUDIO"
        )


def _windows(clip: Clip, reader: Reader, input_spec: InputSpec, middle: bool = False) -> Iterator[Waveform]:
    """Yield the windows of a clip, side by side, or those from the middle one on."""
    with reader.open(clip) as sound:
        mixer = input_spec.mix.mixer(reader, clip, sound.channels)
        blocks = resample_blocks(map(mixer, sound.blocks), sound.sample_rate_hz, input_spec.sample_rate_hz)
        duration_s = sound.header_duration_s if middle and math.isfinite(sound.header_duration_s) else 0.0
        skipped = max(0, round(duration_s * input_spec.sample_rate_hz) - input_spec.samples) // 2
        cut = windows_of(
            _after(blocks, skipped),
            input_spec.sample_rate_hz,
            input_spec.samples,
            input_spec.samples,
            input_spec.padding,
        )
        yield from (window.samples for window in cut)


def _after(blocks: Iterator[Waveform], skipped: int) -> Iterator[Waveform]:
    for block in blocks:
        dropped = min(skipped, len(block))
        skipped -= dropped
        yield block[dropped:]


LIMIT: Final = 1e-4
"""Largest difference of a probability."""
LIMIT_EMBEDDING: Final = 1e-3
"""Largest difference of an embedding's value, as a share of the largest value of any."""
BATCH: Final = 16

Answers = Callable[[Samples], tuple[Vectors, Vectors]]
"""Windows ``(B, samples)`` to probabilities ``(B, K)`` and embeddings ``(B, D)``."""


@dataclass(frozen=True)
class Agreement:
    """Differences between a file and the checkpoint."""

    recordings: int
    windows: int
    probability: float  # largest difference of one
    embedding: float  # largest difference of a value, as a share of the largest value
    alone: float  # largest difference of a probability between a window by itself and the same in a batch

    def __str__(self) -> str:
        return (
            f"{self.windows:,} windows of {self.recordings:,} recordings: probabilities differ by at most "
            f"{self.probability:.1e}, embeddings by {self.embedding:.1e} of the largest value; alone and in a batch by "
            f"{self.alone:.1e}"
        )

    def check(self, what: str) -> None:
        """Refuse a file that says something else; not-a-number is something else."""
        for text, value, limit in (
            ("its probabilities differ from the checkpoint's", self.probability, LIMIT),
            (
                "its embeddings differ from the checkpoint's, as a share of the largest,",
                self.embedding,
                LIMIT_EMBEDDING,
            ),
            ("a window's probabilities differ between a batch of one and a larger one", self.alone, LIMIT),
        ):
            if not value <= limit:
                raise UserError(
                    f"The {what} file is not written: {text} by {value:.1e} on {self.windows} windows, where {limit:g} "
                    f"is allowed. Use another format, or birdclf predict with the run folder itself."
                )


def compare(checkpoint: Answers, exported: Answers, sounds: Iterable[SoundWindow]) -> Agreement:
    """Return how far an exported file agrees with its checkpoint on some sounds."""
    recordings: set[str] = set()
    differences: list[tuple[float, float, float]] = []
    windows, largest = 0, 0.0
    for batch in batches(_counted(sounds, recordings)):
        windows += len(batch)
        if len(batch) == 1:
            batch = np.concatenate([batch, batch[:, ::-1]])  # backwards: another sound to share a batch with
        p, e = checkpoint(batch)
        their_p, their_e = exported(batch)
        alone, _ = exported(batch[:1])
        largest = max(largest, float(np.abs(e).max()))
        differences.append((_apart(p, their_p), _apart(e, their_e), _apart(their_p[:1], alone)))
    probability, embedding, by_itself = np.max(differences, axis=0).tolist() if differences else (np.nan,) * 3
    return Agreement(len(recordings), windows, probability, embedding / (largest or 1.0), by_itself)


def batches(sounds: Iterable[SoundWindow], size: int = BATCH) -> Iterator[Samples]:
    """Yield the windows of sounds as batches ``(B, samples)`` that reach across recordings."""
    waiting: list[Samples] = []
    for sound in sounds:
        waiting.append(sound.window)
        if len(waiting) == size:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


def _counted(sounds: Iterable[SoundWindow], recordings: set[str]) -> Iterator[SoundWindow]:
    for sound in sounds:
        recordings.add(sound.recording)
        yield sound


def _apart(one: Vectors, other: Vectors) -> float:
    return float(np.abs(one.astype(np.float64) - other).max())
