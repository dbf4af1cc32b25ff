"""The ``predict`` command: recordings in, detections out, on the screen or in a folder."""

import io
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from birdclf.audio.files import read_header
from birdclf.data.tree import stamp_of
from birdclf.detection.classifier import Classifier, Vectors
from birdclf.detection.detections import DetectionSettings
from birdclf.detection.inputs import Recording, assign_names, files_of, recordings_of
from birdclf.detection.results import (
    FORMATS,
    Range,
    Result,
    Written,
    detections_table,
    files_table,
    json_lines,
    set_lines,
    sets_table,
    species_table,
)
from birdclf.detection.stream import RecordingScores, StreamSettings, stream_scores
from birdclf.errors import UserError
from birdclf.files import digest, file_hash, lock_file, write_whole, writing_to
from birdclf.output import print_result
from birdclf.text import printable

SETTINGS: Final = "predict.json"
JOURNAL: Final = "predict.jsonl"
LOCK: Final = "predict.lock"


@contextmanager
def results_folder(path: Path, settings: Mapping[str, Any], source: Path | None = None) -> "Iterator[ResultsFolder]":
    """Open a folder of results, made if it is not there, and keep other processes out while it is open.

    ``source`` is the file of the classifier, which the folder notes.

    Raises:
        UserError: If another process writes there, or it holds something else, results of other settings, or a journal
            that cannot be read.
    """
    if path.exists() and not (path.is_dir() and _is_ours(path)):
        raise UserError(f"{path} exists and holds no results of birdclf predict. Choose a new folder with --out.")
    path.mkdir(parents=True, exist_ok=True)
    with lock_file(path / LOCK, busy=UserError(f"{path} is being written to by another process. Wait for it.")):
        yield ResultsFolder(path, settings, source)


def _is_ours(path: Path) -> bool:
    """Return whether a folder holds results, or nothing but what a start that was cut short leaves."""
    return (path / SETTINGS).exists() or all(
        name == LOCK or name.startswith(f".{SETTINGS}.") for name in os.listdir(path)
    )


class ResultsFolder:
    """Results below one folder that no other process writes to, see :func:`results_folder`.

    Raises:
        UserError: If it holds results of other settings, or a journal that cannot be read.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], source: Path | None = None) -> None:
        self.path = path
        self._source = None if source is None else os.path.abspath(source)
        self._known: dict[str, list[str]] = {}
        """Hashes of each file as we wrote it: what is there, and what may be taking its place."""
        self._settings = json.loads(json.dumps(settings))
        self._stamps: dict[str, str] = {}
        if (path / SETTINGS).exists():
            self._go_on()
        else:
            self._save()
        self._done = self._read()

    def _go_on(self) -> None:
        file = self.path / SETTINGS
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            was, self._known = dict(content["settings"]), {k: list(v) for k, v in content["written"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file} cannot be read: {error}. Choose a new folder with --out.") from error
        for name in sorted(was.keys() | self._settings.keys()):
            if was.get(name) != self._settings.get(name):
                raise UserError(
                    f"{self.path} holds results of other settings: {name} was {was.get(name)!r} and is "
                    f"{self._settings.get(name)!r} now. Choose a new folder with --out, or set it back."
                )

    def _save(self) -> None:
        content = {"settings": self._settings, "source": self._source, "written": self._known}
        _write_alone(self.path / SETTINGS, json.dumps(content, indent=1).encode())

    def _read(self) -> dict[str, tuple[str, Result]]:
        """Return what the journal holds; a line that a kill cut short is taken off."""
        done, length = read_journal(self.path / JOURNAL)
        if length is not None:
            os.truncate(self.path / JOURNAL, length)
        return done

    def names(self) -> dict[str, str]:
        """Return the name of each recording by its real path."""
        return {file: result.name for file, (_, result) in self._done.items()}

    def left(self, recordings: Iterable[Recording]) -> list[Recording]:
        """Return the recordings that are not done, or have changed since."""
        left = []
        for one in recordings:
            self._stamps[one.file] = stamp = stamp_of(one.file)  # as it is before it is decoded
            if self._done.get(one.file, ("",))[0] != stamp:
                left.append(one)
        return left

    def add(self, recording: Recording, result: Result) -> None:
        """Keep the result of a recording that was left to do."""
        stamp = self._stamps[recording.file]
        line = json.dumps({"file": recording.file, "stamp": stamp} | result.as_dict())
        with open(self.path / JOURNAL, "ab") as journal:
            journal.write(line.encode() + b"\n")
        self._done[recording.file] = (stamp, result)

    def results(self) -> list[Result]:
        """Return all results, each recording's last, in the order in which recordings were first processed."""
        return [result for _, result in self._done.values()]

    def write(self, files: Iterable[Written]) -> list[str]:
        """Write files, each whole; those that the user changed since are kept as they are.

        Returns:
            Names of those that were left.
        """
        kept = []
        waiting: list[Written] = []
        for file in files:
            own = digest(file.content)
            there = file_hash(self.path / file.name) if (self.path / file.name).exists() else None
            if there == own or (there is None and not file.needed):
                continue
            if there is not None and there not in self._known.get(file.name, ()):
                kept.append(file.name)
                continue
            self._known[file.name] = [one for one in (there, own) if one is not None]
            waiting.append(file)
        self._save()  # before they are written: a kill in between leaves no file without its hash
        for file in waiting:
            _write_alone(self.path / file.name, file.content)
        return kept


def read_journal(file: Path) -> tuple[dict[str, tuple[str, Result]], int | None]:
    """Return stamp and result of each recording by its real path, and the length of what is whole if not all is.

    Raises:
        UserError: If a line is damaged.
    """
    data = file.read_bytes() if file.exists() else b""
    whole, done = data.rfind(b"\n") + 1, {}
    for number, line in enumerate(data[:whole].splitlines(), start=1):
        try:
            values = json.loads(line)
            done[values["file"]] = values["stamp"], Result.read(values)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}: line {number} is damaged. Restore it, or choose a new folder.") from error
    return done, None if whole == len(data) else whole


@dataclass(frozen=True)
class Embedded:
    """Recordings whose windows ``birdclf predict RUN AUDIO --out DIR --embeddings`` has embedded."""

    folder: Path
    model: str  # fingerprint of the classifier
    source: Path | None  # its file; None where that is not noted
    recordings: tuple[Recording, ...]  # those of which a window is there

    @classmethod
    def read(cls, folder: Path) -> "Embedded":
        """Return what a folder holds.

        Raises:
            UserError: If it is no such folder, cannot be read, or holds no embedding.
        """
        way = "Make it with: birdclf predict RUN AUDIO --out DIR --embeddings"
        if not (folder / SETTINGS).is_file():
            raise UserError(f"{folder} holds no results of birdclf predict. {way}")
        try:
            content = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            settings, source = content["settings"], content.get("source")
            model, embeds = str(settings["model"]), bool(settings["embeddings"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder / SETTINGS} cannot be read: {error}. Restore it.") from error
        done, _ = read_journal(folder / JOURNAL)
        found = tuple(Recording(one.path, one.name, file) for file, (_, one) in done.items() if one.windows)
        if not embeds or not found:
            raise UserError(f"{folder} holds no embedding of a recording. {way}")
        return cls(folder, model, Path(source) if isinstance(source, str) else None, found)

    def windows(self, recording: Recording) -> tuple[Vectors, NDArray[np.float64], NDArray[np.float64]]:
        """Return embeddings ``(n, D)`` of a recording's windows, and their begins and ends ``(n,)`` in seconds.

        Raises:
            UserError: If the file is missing or damaged.
        """
        file = _embeddings_file(self.folder, recording.name)
        try:
            with np.load(file, allow_pickle=False) as held:
                vectors, start_s, end_s = (held[name] for name in ("embeddings", "start_s", "end_s"))
            if vectors.ndim != 2 or start_s.shape != end_s.shape or start_s.shape != vectors.shape[:1]:
                raise ValueError("its arrays do not fit together")
            if not all(np.isfinite(one).all() for one in (vectors, start_s, end_s)):
                raise ValueError("a value is not finite")
        except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise UserError(f"{file} cannot be read: {error}. Restore it, or embed the recordings again.") from error
        return vectors, start_s, end_s


def _embeddings_file(folder: Path, name: str) -> Path:
    return folder / "embeddings" / f"{printable(name)}.npz"


def _write_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content, alone=True)


FORMAT: Final = 2
"""Of the folder of results: raise it when the same settings come to give other detections."""
LISTED: Final = 5
log = logging.getLogger(__name__)


def predict_to_folder(
    classifier: Classifier,
    given: Sequence[str],
    listed: Sequence[str],
    out: Path,
    how: StreamSettings,
    detection_settings: DetectionSettings,
    formats: Sequence[str],
) -> list[Result]:
    """Detect species in recordings, and write what is found; resumes where an earlier call was stopped.

    Returns:
        What was found in each recording of the folder, those of earlier calls included.

    Raises:
        UserError: If there is no recording, the folder is of something else, or it cannot be written to.
    """
    settings = _settings(classifier, how, detection_settings)
    files = files_of(given, listed)
    way = "the same command resumes where this one stopped."
    with writing_to(out, way), results_folder(out, settings, classifier.source) as folder:
        recordings = assign_names(files, folder.names())
        left = folder.left(recordings)
        if len(left) < len(recordings):
            done = len(recordings) - len(left)
            print(f"{done} of {len(recordings)} recordings are done already", file=sys.stderr)
        for scores in with_progress(left, classifier, how, sum(one.windows for one in folder.results())):
            result = Result.of(scores, detection_settings, classifier.input_spec.classes)
            write_apart(out, scores, result)
            folder.add(scores.recording, result)
            _tell(result)
        results = folder.results()
        kept = folder.write(_files(results, formats, frequency_range(classifier)))
    for name in kept:
        print(f"{printable(out / name)} was changed since it was written, and is left as it is", file=sys.stderr)
    return results


def predict_to_screen(
    classifier: Classifier,
    given: Sequence[str],
    listed: Sequence[str],
    how: StreamSettings,
    detection_settings: DetectionSettings,
    as_lines: str,
) -> list[Result]:
    """Detect species in recordings, and print what is found of each, or the sets, as soon as it is known.

    Raises:
        BrokenPipeError: If the reader of standard output is gone.
        UserError: If there is no recording, or standard output is full or closed.
    """
    results: list[Result] = []
    for scores in with_progress(recordings_of(given, listed), classifier, how):
        result = Result.of(scores, detection_settings, classifier.input_spec.classes)
        lines, table = (json_lines, detections_table) if result.sets is None else (set_lines, sets_table)
        if as_lines == "jsonl":
            print_result(lines(result))
        else:
            print_result(table([result]).to_csv(index=False, header=not results))
        results.append(result)
        _tell(result)
    return results


def check_any(results: Sequence[Result]) -> None:
    """Refuse results of recordings none of which could be decoded."""
    if not any(result.windows for result in results):
        bad = "; ".join(f"{result.path} {result.problem}" for result in results[:LISTED])
        more = f"; and {len(results) - LISTED} more" if len(results) > LISTED else ""
        raise UserError(f"None of the {len(results)} recordings could be decoded: {bad}{more}.")


def summary(results: Sequence[Result]) -> str:
    """Return the lines that end a command: recordings, hours, and detections of each species."""
    decoded = [result for result in results if result.windows]
    hours = sum(result.duration_s for result in decoded) / 3600
    species = species_table(results)
    detections = int(species.detections.sum())
    lines = [f"{len(decoded):,} recordings, {hours:.2f} hours: {detections:,} detections of {len(species):,} species"]
    if bad := [result for result in results if result.problem]:
        lines.append(f"{len(bad):,} recordings could not be decoded, or not wholly")
    for row in species.head(LISTED).itertuples():
        best = f"best {row.confidence:.2f}, {row.path} at {row.start_s:g} s"
        lines.append(f"  {row.detections:6,}  {row.species} ({best})")
    if len(species) > LISTED:
        lines.append(f"  and {len(species) - LISTED:,} more species")
    return printable("\n".join(lines), keep="\n")


def frequency_range(classifier: Classifier) -> Range:
    """Return the frequency range that a classifier takes in."""
    return Range(0.0, classifier.input_spec.sample_rate_hz / 2)


def write_apart(out: Path, scores: RecordingScores, result: Result) -> None:
    """Write the picture and the embeddings of a recording, where they were requested."""
    if not result.windows:
        return
    name = printable(result.name)
    if scores.overview is not None:
        from birdclf.detection.timeline import timeline

        picture = timeline(result.name, result.duration_s, result.detections, scores.overview)
        _write_alone(out / "timelines" / f"{name}.png", picture)
    if len(scores.embeddings):
        file = io.BytesIO()
        np.savez(file, start_s=scores.start_s, end_s=scores.end_s, embeddings=scores.embeddings)
        _write_alone(_embeddings_file(out, result.name), file.getvalue())


def _files(results: Sequence[Result], formats: Sequence[str], band: Range) -> Iterator[Written]:
    for name in formats:
        yield from FORMATS[name](results, band)
    tables = {"files.csv": files_table(results), "summary.csv": species_table(results)}
    if any(one.sets is not None for one in results):
        tables["sets.csv"] = sets_table(results)
    for name, table in tables.items():
        yield Written(name, table.to_csv(index=False, lineterminator="\n").encode())


def _settings(classifier: Classifier, how: StreamSettings, detection_settings: DetectionSettings) -> dict[str, Any]:
    """Return what decides the results: a folder resumes with equal settings alone."""
    own = asdict(detection_settings)
    for name in ("thresholds", "sets"):
        if own[name] is not None:
            own[name] = digest(json.dumps(own[name]).encode())
    if own["task"] == "single_label":
        del own["task"]  # which older folders do not name
    return {
        "format": FORMAT,
        "model": classifier.fingerprint(),
        "hop": how.hop_s,
        "embeddings": how.embeddings,
        "timelines": how.overview,
    } | own


def _tell(result: Result) -> None:
    if result.problem:
        done = f"; {result.duration_s:g} s of it were decoded" if result.windows else ""
        print(f"birdclf: {printable(result.path)} {printable(result.problem)}{done}", file=sys.stderr)


def with_progress(
    recordings: Sequence[Recording], classifier: Classifier, how: StreamSettings, before: int = 0
) -> Iterator[RecordingScores]:
    """Yield the scores of :func:`stream_scores`, under a progress bar in a terminal."""
    with _bar(recordings) as advance:
        for scores in stream_scores(recordings, classifier, how, before):
            if isinstance(scores, float):
                advance(scores)
            else:
                yield scores


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
