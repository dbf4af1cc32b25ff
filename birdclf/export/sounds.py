"""The windows of sound that an exported file is held to: of files that are named, or of the run's own recordings."""

import math
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdclf.audio.clip import AudioError, Clip, Reader, Waveform
from birdclf.audio.files import FileReader
from birdclf.audio.resampling import resampled
from birdclf.data.catalog import Catalog
from birdclf.data.splits import FileSplit
from birdclf.detection.classifier import Hearing
from birdclf.detection.inputs import recordings_of
from birdclf.detection.windows import windows_of
from birdclf.errors import UserError
from birdclf.runs.opening import NAMED, read_settings, run_catalog
from birdclf.text import shown

RECORDINGS: Final = 16
"""Of the run's own that a file is held to, where none are named."""
WINDOWS: Final = 12
"""Of each of them, a minute: some are hours long."""


class Heard(NamedTuple):
    """A window of sound.

    Attributes:
        recording: Which recording it is of.
        window: ``(samples,)``.
        target: Number of the recording's class; -1 where it is not known.
    """

    recording: str
    window: Waveform
    target: int = -1


def windows_of_files(given: Sequence[str], hearing: Hearing) -> Iterator[Heard]:
    """Yield all windows, side by side, of files and of those in folders; one that cannot be decoded is passed over.

    Args:
        given: Files, folders and patterns.
        hearing: What the classifier wants to hear.

    Raises:
        UserError: If there is no sound file, or none of them can be decoded.
    """
    clips = [Clip(one.path, one.path) for one in recordings_of(given)]
    yield from _of_clips(clips, FileReader(), hearing, None, "--verify")


@dataclass(frozen=True)
class OwnRecordings:
    """The recordings of a run, where its source still has them.

    Attributes:
        catalog: The source.
        stages: ``(n,)`` split of each row of its table; empty where the run has not used it.
        hearing: What the run's classifier wants to hear.
    """

    catalog: Catalog
    stages: NDArray[np.str_]
    hearing: Hearing

    def some(self, stage: str, most: int = RECORDINGS) -> Iterator[Heard]:
        """Yield windows of some recordings of a split, taken at even steps, with a minute of each at most.

        Raises:
            UserError: If none of them can be decoded.
        """
        rows = np.flatnonzero(self.stages == stage)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]
        clips = self.catalog.clips()
        yield from _of_clips(
            [clips[row] for row in rows], self.catalog.reader, self.hearing, WINDOWS, self.catalog.name
        )

    def middles(self, stage: str, most: int | None = None) -> Iterator[Heard]:
        """Yield the middle window of every recording of a split that can be decoded, or of some at even steps."""
        rows = np.flatnonzero(self.stages == stage)
        if most is not None and len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
        clips, species = self.catalog.clips(), self.catalog.table.species.to_numpy()
        number = {name: k for k, name in enumerate(self.hearing.classes)}
        for row in rows:
            try:
                window = next(_windows(clips[row], self.catalog.reader, self.hearing, middle=True))
            except AudioError:
                continue
            yield Heard(clips[row].recording_id, window, number[species[row]])


def own_recordings(
    run: Path, hearing: Hearing, source: Sequence[str] = (), trusted: Collection[str] = ()
) -> OwnRecordings:
    """Return a run's own recordings, in its own splits.

    Args:
        run: The run folder.
        hearing: What its classifier wants to hear.
        source: Settings that say where the recordings are now, such as ``data.root=DIR``.
        trusted: Top-level packages beside ``birdclf`` whose sources may be built.

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
    if unknown := sorted(set(catalog.table.species[ids.isin(split.index)]) - set(hearing.classes)):
        raise UserError(f"{catalog.name} has species that the checkpoint does not know: {', '.join(unknown[:NAMED])}.")
    stages = ids.map(split.to_dict()).fillna("").to_numpy(dtype=np.str_)
    if not (stages == "val").any():
        raise UserError(f"{run / 'split.csv'} has no validation recording. Name sound files: --verify AUDIO")
    return OwnRecordings(catalog, stages, hearing)


def _of_clips(clips: Sequence[Clip], reader: Reader, hearing: Hearing, most: int | None, where: str) -> Iterator[Heard]:
    heard, problem = 0, ""
    for clip in clips:
        try:
            for window in islice(_windows(clip, reader, hearing), most):
                heard += 1
                yield Heard(clip.recording_id, window)
        except AudioError as error:
            problem = f"{clip.recording_id} {error}"
            print(f"birdclf: {shown(problem)}", file=sys.stderr)
    if not heard:
        raise UserError(
            f"{where}: none of {len(clips)} recordings can be decoded, the last: {problem}. The file is not written, "
            f"since nothing shows that it is right. Name sound files: --verify AUDIO"
        )


def _windows(clip: Clip, reader: Reader, hearing: Hearing, middle: bool = False) -> Iterator[Waveform]:
    """Yield the windows of a clip, side by side; from the middle one on where that is wanted."""
    with reader.open(clip) as sound:
        mixer = hearing.mix.mixer(reader, clip, sound.channels)
        blocks = resampled(map(mixer, sound.blocks), sound.sample_rate_hz, hearing.sample_rate_hz)
        duration_s = sound.header_duration_s if middle and math.isfinite(sound.header_duration_s) else 0.0
        skipped = max(0, round(duration_s * hearing.sample_rate_hz) - hearing.samples) // 2
        cut = windows_of(
            _after(blocks, skipped), hearing.sample_rate_hz, hearing.samples, hearing.samples, hearing.padding
        )
        yield from (window.samples for window in cut)


def _after(blocks: Iterator[Waveform], skipped: int) -> Iterator[Waveform]:
    for block in blocks:
        dropped = min(skipped, len(block))
        skipped -= dropped
        yield block[dropped:]
