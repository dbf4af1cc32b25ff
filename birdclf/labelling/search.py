"""The ``search`` command: an example and embedded recordings in, the clips that sound most like it out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from birdclf.audio.windows import Window
from birdclf.detection.classifier import Classifier, Vectors
from birdclf.detection.inputs import Recording, recordings_of
from birdclf.detection.predict import Embedded
from birdclf.detection.stream import RecordingScores, StreamSettings, stream_scores
from birdclf.errors import UserError
from birdclf.labelling.clips import Candidate, Pool, Suggestion, Words, is_silent, new_folder, write_clips
from birdclf.text import printable

TABLE: Final = "matches.csv"
SHOWN_S: Final = 30.0
"""Of the example, on the page."""


@dataclass
class Example:
    """Windows of a recording that are not silent.

    Attributes:
        vectors: Embedding of each, of length 1.
        end_s: Where the last window ends, in seconds.
        shortest_s: The least seconds of sound in a window.
    """

    recording: Recording
    vectors: list[Vectors] = field(default_factory=list)
    end_s: float = 0.0
    shortest_s: float = np.inf


class Matches(NamedTuple):
    """Clips that were found, and what they were found in."""

    example: Example
    recordings: int
    windows: int
    clips: int


def search(embedded: Embedded, classifier: Classifier, query: str, out: Path, n: int) -> Matches:
    """Rank embedded windows by the cosine of their embedding and the nearest of an example's windows.

    Writes a table of the ``n`` likest, no two of which overlap, and a page to listen to them. Windows of the example's
    own file are left out.

    Raises:
        UserError: If a model other than the classifier embedded the recordings, the example cannot be used, there is
            nothing to search in, or the folder exists or cannot be written.
    """
    if classifier.fingerprint() != embedded.model:
        raise UserError(
            f"{embedded.folder} holds embeddings of another model than {classifier.source}, and they cannot be "
            f"compared. Give the run that made them with --run, or embed the recordings again."
        )
    example = example_of(classifier, query)
    vectors, pool, windows = np.stack(example.vectors), Pool(n), 0
    with new_folder(out) as folder:
        recordings = [one for one in embedded.recordings if one.file != example.recording.file]
        for recording in recordings:
            theirs, start_s, end_s = embedded.windows(recording)
            if theirs.shape[1] != vectors.shape[1]:
                raise UserError(
                    f"{embedded.folder}: the embeddings of {printable(recording.path)} have {theirs.shape[1]} values; "
                    f"the model's have {vectors.shape[1]}. Embed the recordings again."
                )
            windows += len(theirs)
            likeness = (unit_length(theirs) @ vectors.T).max(axis=1)
            for row in np.flatnonzero(pool.accepts(likeness)):
                score = float(likeness[row])
                pool.add(Candidate(recording, float(start_s[row]), float(end_s[row]), NONE, theirs[row], score))
        best = pool.best()
        if not best:
            raise UserError(f"{embedded.folder} holds no other recording than the example. Embed more recordings.")
        found = [Suggestion.of(rank, one, (), "likeness") for rank, one in enumerate(best, start=1)]
        shown = Suggestion(0, example.recording, 0.0, min(example.end_s, SHOWN_S), (), 1.0)
        words = Words(f"the one most like {printable(example.recording.name)} first", TABLE, shown)
        write_clips(folder, found, classifier.input_spec.classes, classifier.input_spec.mix, words)
    return Matches(example, len(recordings), windows, len(found))


NONE: Final = np.empty(0, np.float32)


def example_of(classifier: Classifier, query: str) -> Example:
    """Return the windows, side by side, of a recording.

    Raises:
        UserError: If it is not one recording, cannot be decoded or is silent.
    """
    recordings = recordings_of([query])
    if len(recordings) != 1:
        raise UserError(f"{query} names {len(recordings)} recordings. Give the one that shows what to look for.")
    example = Example(recordings[0])

    def each(recording: Recording, window: Window, p: Vectors, embedding: Vectors) -> None:
        example.end_s = window.end_s
        example.shortest_s = min(example.shortest_s, window.end_s - window.start_s)
        if not is_silent(window.samples, classifier.input_spec.sample_rate_hz):
            example.vectors.append(unit_length(embedding))

    how = StreamSettings(classifier.input_spec.window_s, each=each)
    scores = [one for one in stream_scores(recordings, classifier, how) if isinstance(one, RecordingScores)]
    if not example.end_s:
        raise UserError(f"{query} {scores[0].problem}: it cannot be the example. Give another recording.")
    if not example.vectors:
        raise UserError(f"{query} is silent: nothing sounds like it. Give another recording.")
    return example


def unit_length(vectors: Vectors) -> Vectors:
    """Return vectors ``(..., D)`` of length 1, in float32."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
