"""The ``predict`` command: recordings in, detections out, on the screen or in a folder."""

import io
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from birdclf.audio.files import read_header
from birdclf.detection.classifier import Classifier
from birdclf.detection.detections import Detecting
from birdclf.detection.folder import results_folder, write_bytes
from birdclf.detection.formats import FORMATS, Range, Written, json_lines
from birdclf.detection.inputs import Recording, files_of, named_apart, recordings_of
from birdclf.detection.results import Result, detections_table, files_table, species_table
from birdclf.detection.stream import Heard, Listening, listen
from birdclf.errors import UserError
from birdclf.files import writing_to
from birdclf.output import print_result
from birdclf.text import shown

FORMAT: Final = 2
"""Of the folder of results: raise it when the same settings come to give other detections."""
LISTED: Final = 5
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is written to a folder.

    Attributes:
        formats: Names of formats.
        embeddings: Whether embeddings are.
        timelines: Whether a picture of each recording is.
    """

    formats: Sequence[str]
    embeddings: bool = False
    timelines: bool = True


def predict_to_folder(
    classifier: Classifier,
    given: Sequence[str],
    listed: Sequence[str],
    out: Path,
    how: Listening,
    detecting: Detecting,
    wanted: Wanted,
) -> list[Result]:
    """Detect species in recordings, and write what is found; goes on where an earlier call was stopped.

    Args:
        classifier: Gives probabilities.
        given: Files, folders and patterns.
        listed: Lines for ``-`` among them.
        out: Folder of the results.
        how: Hop and batches.
        detecting: What makes a detection.
        wanted: What is written.

    Returns:
        What was found in each recording of the folder, those of earlier calls included.

    Raises:
        UserError: If there is no recording, the folder is of something else, or it cannot be written to.
    """
    settings = _settings(classifier, how, detecting, wanted)
    files = files_of(given, listed)
    way = "the same command goes on where this one stopped."
    with writing_to(out, way), results_folder(out, settings) as folder:
        recordings = named_apart(files, folder.names())
        left = folder.left(recordings)
        if len(left) < len(recordings):
            done = len(recordings) - len(left)
            print(f"{done} of {len(recordings)} recordings are done already", file=sys.stderr)
        for heard in with_progress(left, classifier, how, sum(one.windows for one in folder.results())):
            result = Result.of(heard, detecting, classifier.hearing.classes)
            write_apart(out, heard, result, wanted)
            folder.add(heard.recording, result)
            _tell(result)
        results = folder.results()
        kept = folder.write(_files(results, wanted, heard_range(classifier)))
    for name in kept:
        print(f"{shown(out / name)} was changed since it was written, and is left as it is", file=sys.stderr)
    return results


def predict_to_screen(
    classifier: Classifier,
    given: Sequence[str],
    listed: Sequence[str],
    how: Listening,
    detecting: Detecting,
    as_lines: str,
) -> list[Result]:
    """Detect species in recordings, and print what is found of each as soon as it is known.

    Args:
        classifier: Gives probabilities.
        given: Files, folders and patterns.
        listed: Lines for ``-`` among them.
        how: Hop and batches.
        detecting: What makes a detection.
        as_lines: ``csv`` or ``jsonl``.

    Raises:
        BrokenPipeError: If nobody reads on.
        UserError: If there is no recording, or standard output is full or closed.
    """
    results: list[Result] = []
    for heard in with_progress(recordings_of(given, listed), classifier, how):
        result = Result.of(heard, detecting, classifier.hearing.classes)
        if as_lines == "jsonl":
            print_result(json_lines(result))
        else:
            print_result(detections_table([result]).to_csv(index=False, header=not results))
        results.append(result)
        _tell(result)
    return results


def check_any(results: Sequence[Result]) -> None:
    """Refuse results of recordings none of which could be heard.

    Raises:
        UserError: If there is none; it lists some with the reason.
    """
    if not any(result.windows for result in results):
        bad = "; ".join(f"{result.path} {result.problem}" for result in results[:LISTED])
        more = f"; and {len(results) - LISTED} more" if len(results) > LISTED else ""
        raise UserError(f"None of the {len(results)} recordings could be heard: {bad}{more}.")


def summary(results: Sequence[Result]) -> str:
    """Return the lines that end a command: what was heard and found, species by species."""
    heard = [result for result in results if result.windows]
    hours = sum(result.duration_s for result in heard) / 3600
    species = species_table(results)
    detections = int(species.detections.sum())
    lines = [f"{len(heard):,} recordings, {hours:.2f} hours: {detections:,} detections of {len(species):,} species"]
    if bad := [result for result in results if result.problem]:
        lines.append(f"{len(bad):,} recordings could not be decoded, or not wholly")
    for row in species.head(LISTED).itertuples():
        surest = f"surest {row.confidence:.2f}, {row.path} at {row.start_s:g} s"
        lines.append(f"  {row.detections:6,}  {row.species} ({surest})")
    if len(species) > LISTED:
        lines.append(f"  and {len(species) - LISTED:,} more species")
    return shown("\n".join(lines), keep="\n")


def heard_range(classifier: Classifier) -> Range:
    """Return the frequencies that a classifier hears."""
    return Range(0.0, classifier.hearing.sample_rate_hz / 2)


def write_apart(out: Path, heard: Heard, result: Result, wanted: Wanted) -> None:
    """Write the picture and the embeddings of a recording.

    Raises:
        OSError: If one cannot be written.
    """
    if not result.windows:
        return
    name = shown(result.name)
    if wanted.timelines and heard.overview is not None:
        from birdclf.detection.timeline import timeline

        picture = timeline(result.name, result.duration_s, result.detections, heard.overview)
        write_bytes(out / "timelines" / f"{name}.png", picture)
    if wanted.embeddings:
        file = io.BytesIO()
        np.savez(file, start_s=heard.start_s, end_s=heard.end_s, embeddings=heard.embeddings)
        write_bytes(out / "embeddings" / f"{name}.npz", file.getvalue())


def _files(results: Sequence[Result], wanted: Wanted, heard: Range) -> Iterator[Written]:
    for name in wanted.formats:
        yield from FORMATS[name](results, heard)
    for name, table in (("files.csv", files_table(results)), ("summary.csv", species_table(results))):
        yield Written(name, table.to_csv(index=False, lineterminator="\n").encode())


def _settings(classifier: Classifier, how: Listening, detecting: Detecting, wanted: Wanted) -> dict[str, Any]:
    """Return what decides the results: the same settings may go on in one folder."""
    return {
        "format": FORMAT,
        "model": classifier.fingerprint(),
        "hop": how.hop_s,
        "embeddings": wanted.embeddings,
        "timelines": wanted.timelines,
    } | asdict(detecting)


def _tell(result: Result) -> None:
    if result.problem:
        done = f"; {result.duration_s:g} s of it were heard" if result.windows else ""
        print(f"birdclf: {shown(result.path)} {shown(result.problem)}{done}", file=sys.stderr)


def with_progress(
    recordings: Sequence[Recording], classifier: Classifier, how: Listening, before: int = 0
) -> Iterator[Heard]:
    """Yield what :func:`listen` hears, under a bar with the time left where somebody watches."""
    with _bar(recordings) as advance:
        for heard in listen(recordings, classifier, how, before):
            if isinstance(heard, float):
                advance(heard)
            else:
                yield heard


@contextmanager
def _bar(recordings: Sequence[Recording]) -> "Iterator[Any]":
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda seconds: None
        return
    headers = (read_header(Path(one.path)) for one in recordings)
    total_s = sum(header.duration_s for header in headers if header is not None and header.duration_s > 0)  # not NaN
    columns = (
        TextColumn("{task.fields[hours]:.2f} of {task.fields[of]:.2f} hours"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total_s, hours=0.0, of=total_s / 3600)

        def advance(seconds: float) -> None:
            done_s = progress.tasks[0].completed + seconds
            progress.update(task, completed=done_s, hours=done_s / 3600)

        yield advance
