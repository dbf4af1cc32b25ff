"""A trained model for programs: sound in, tables out."""

import os
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.audio.clip import Waveform
from birdclf.audio.resampling import resample_blocks
from birdclf.audio.windows import windows_of
from birdclf.detection.classifier import Classifier, Vectors, open_classifier
from birdclf.detection.detections import DetectionSettings
from birdclf.detection.held_out import set_thresholds
from birdclf.detection.inputs import known_species, recordings_of
from birdclf.detection.results import Result, detections_table
from birdclf.detection.stream import BATCH, RecordingScores, StreamSettings, stream_scores
from birdclf.detection.thresholds import Thresholds, find_thresholds
from birdclf.errors import UserError

Audio = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Detector:
    """A trained model.

    Example:
        >>> model = load("outputs/run/2026-01-31_12-00-00")
        >>> table = model.predict("song.wav", hop=1.0)
    """

    def __init__(
        self, classifier: Classifier, thresholds: Thresholds | None = None, source: Path | None = None
    ) -> None:
        self.classifier, self.thresholds, self.source = classifier, thresholds, source

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return self.classifier.input_spec.classes

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of the waveforms that it wants."""
        return self.classifier.input_spec.sample_rate_hz

    @property
    def window_s(self) -> float:
        """Length of a window in seconds."""
        return self.classifier.input_spec.window_s

    def predict(
        self,
        audio: Audio,
        hop: float | None = None,
        min_confidence: float = 0.25,
        top_k: int = 3,
        merge: bool = True,
        smooth: float = 0.0,
        species: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return the detections in recordings of any length.

        Args:
            audio: A file, a folder or a pattern, or several of them.
            hop: Seconds from the beginning of one window to that of the next; None for a window.
            min_confidence: Least calibrated probability, from 0 to 1, of species without a threshold.
            top_k: Most species in one window.
            merge: Whether detections of one species in windows that overlap or touch are one.
            smooth: Logits are averaged over so many seconds; 0 for none.
            species: Species that occur; None for all.

        Returns:
            Columns ``path``, ``start_s``, ``end_s``, ``species``, ``confidence`` and ``windows``; with thresholds also
            ``p_right``, the probability that the species is right.

        Raises:
            UserError: If a value is out of range, a file is missing, or none can be decoded. Some
                files that cannot be decoded give a warning.
        """
        known = None if species is None else known_species(species, self.classes, "species")
        task = self.classifier.input_spec.task
        thresholds = self.thresholds.species if self.thresholds else None
        detection_settings = DetectionSettings(min_confidence, top_k, merge, smooth, known, task, thresholds)
        return detections_table(
            [Result.of(scores, detection_settings, self.classes) for scores in self._scores(audio, hop)]
        )

    def sets(self, audio: Audio, coverage: float = 0.9, hop: float | None = None) -> pd.DataFrame:
        """Return the set of species of each window, which holds each that is there with a stated probability.

        Args:
            audio: A file, a folder or a pattern, or several of them.
            coverage: The probability, above 0 and below 1; it holds for clips like those of validation.
            hop: Seconds from the beginning of one window to that of the next; None for a window.

        Returns:
            Columns ``path``, ``start_s``, ``end_s`` and ``species``, a list, the most probable first.

        Raises:
            UserError: As :meth:`predict`, and if the model is no run folder with validation predictions.
        """
        if self.source is None:
            raise UserError("The sets need the run folder that birdclf.load opens.")
        least, _ = set_thresholds(self.source, self.classes, self.classifier.input_spec.task, coverage)
        settings, scores = DetectionSettings(sets=least), self._scores(audio, hop)
        frames = [
            self._windows(one).assign(species=pd.Series(settings.species_sets(one.probabilities, self.classes)))
            for one in scores
        ]
        return pd.concat(frames, ignore_index=True)

    def probabilities(self, audio: Audio, hop: float | None = None) -> pd.DataFrame:
        """Return calibrated probabilities, one row per window: ``path``, ``start_s``, ``end_s`` and a column per class.

        Raises:
            UserError: As :meth:`predict`.
        """
        scores = self._scores(audio, hop)
        frames = [
            self._windows(one).join(pd.DataFrame(one.probabilities, columns=list(self.classes))) for one in scores
        ]
        return pd.concat(frames, ignore_index=True)

    def embeddings(self, audio: Audio, hop: float | None = None) -> tuple[pd.DataFrame, Vectors]:
        """Return what the network's last layer sees: ``path``, ``start_s`` and ``end_s`` of windows, and ``(n, D)``.

        Raises:
            UserError: As :meth:`predict`.
        """
        scores = self._scores(audio, hop, embeddings=True)
        return (
            pd.concat([self._windows(one) for one in scores], ignore_index=True),
            np.concatenate([one.embeddings for one in scores]),
        )

    def classify(self, waveform: NDArray[np.floating], sample_rate_hz: int) -> Vectors:
        """Return calibrated probabilities ``(n, K)`` of the windows, side by side, of ``(samples,)`` mono in [-1, 1].

        Raises:
            UserError: If the waveform is no row of finite samples, or its rate is not above 0.
        """
        sound = np.asarray(waveform)
        if sound.ndim != 1 or not len(sound) or not np.isfinite(sound).all() or sample_rate_hz <= 0:
            raise UserError(
                f"waveform has shape {sound.shape} at {sample_rate_hz} Hz; it must be one row of finite samples, mono, "
                f"at a rate above 0."
            )
        input_spec = self.classifier.input_spec
        blocks: list[Waveform] = [sound.astype(np.float32)]
        resampled = resample_blocks(blocks, sample_rate_hz, input_spec.sample_rate_hz)
        parts = windows_of(
            resampled, input_spec.sample_rate_hz, input_spec.samples, input_spec.samples, input_spec.padding
        )
        windows = np.stack([window.samples for window in parts])
        batches = (windows[first : first + BATCH] for first in range(0, len(windows), BATCH))
        return np.concatenate([self.classifier(batch)[0] for batch in batches])

    def _scores(self, audio: Audio, hop: float | None, embeddings: bool = False) -> list[RecordingScores]:
        given = [os.fspath(one) for one in ([audio] if isinstance(audio, str | os.PathLike) else audio)]
        how = StreamSettings(self.window_s if hop is None else hop, embeddings)
        scored = [
            one for one in stream_scores(recordings_of(given), self.classifier, how) if isinstance(one, RecordingScores)
        ]
        bad = [f"{one.recording.path} {one.problem}" for one in scored if one.problem]
        if not any(len(one.start_s) for one in scored):
            raise UserError(f"Nothing could be decoded: {'; '.join(bad)}.")
        for problem in bad:
            warnings.warn(problem, stacklevel=3)
        return scored

    @staticmethod
    def _windows(scores: RecordingScores) -> pd.DataFrame:
        return pd.DataFrame({"path": scores.recording.path, "start_s": scores.start_s, "end_s": scores.end_s})


def load(
    run: str | os.PathLike[str],
    checkpoint: str = "best",
    device: str | None = None,
    trust: Collection[str] = (),
    embedder: str | os.PathLike[str] | None = None,
    thresholds: str | os.PathLike[str] | None = None,
) -> Detector:
    """Return the trained model of a run folder, or of a file that ``birdclf export --format onnx`` wrote.

    Args:
        run: Run folder or ``.onnx`` file. Nothing in it is executed.
        checkpoint: ``best`` or ``last``, of a run folder.
        device: Such as ``cpu`` or ``cuda``; None takes the fastest there is.
        trust: Top-level packages beside ``birdclf`` whose networks may be built.
        embedder: File of the frozen network that it takes its features from, if it is not where it was in training.
        thresholds: File of ``birdclf thresholds``, or ``none``; None for ``thresholds.json`` of the run folder, if it
            is there.

    Raises:
        UserError: If it is neither, or cannot be used.
    """
    file, source = None if embedder is None else Path(embedder).expanduser(), Path(run).expanduser()
    classifier = open_classifier(source, checkpoint, device, trust, file)
    given = None if thresholds is None else os.fspath(thresholds)
    found = find_thresholds(source, classifier.input_spec.classes, given, checkpoint)
    return Detector(classifier, found[0] if found else None, source)
