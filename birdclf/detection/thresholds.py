"""``thresholds.json``: thresholds by species, written beside a run and used by whatever detects with it."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from birdclf.checks import is_number, is_whole
from birdclf.detection.classifier import Classifier
from birdclf.detection.held_out import HeldOut, validation
from birdclf.detection.soundscapes import SoundscapeSettings, decoded_scores, read_truth, unknown_labels
from birdclf.detection.stream import StreamSettings
from birdclf.errors import UserError
from birdclf.files import refuse_existing, refuse_pointer, write_whole
from birdclf.metrics.thresholds import SpeciesThreshold, fit_thresholds
from birdclf.targets import NONE
from birdclf.text import printable

THRESHOLDS: Final = "thresholds.json"
UNUSED: Final = "none"
"""Word for no thresholds."""
FORMAT: Final = 1
CONFIDENCE: Final = 0.95
"""Coverage of the intervals."""
LISTED: Final = 5
MOVE: Final = "Move it away, or choose another file with --out FILE."
REMEDY: Final = "Correct it, or make it again with: birdclf thresholds RUN"
COUNTS: Final = ("positives", "detections", "listen")


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of a model's species for one precision."""

    precision: float  # the share of right detections that each threshold is for
    confidence: float  # coverage of the intervals
    source: str  # clips that they were chosen on
    species: dict[str, SpeciesThreshold]

    def write(self, file: Path) -> None:
        """Write a new file atomically.

        Raises:
            UserError: If it exists.
        """
        refuse_existing(file, MOVE)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, self._text())

    def _text(self) -> str:
        rows = {
            name: {key: None if _is_nan(value) else value for key, value in asdict(one).items()}
            for name, one in self.species.items()
        }
        content = {"format": FORMAT, "precision": self.precision, "confidence": self.confidence, "source": self.source}
        return json.dumps(content | {"species": rows}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, file: Path, classes: Sequence[str]) -> "Thresholds":
        """Return what a file holds.

        Args:
            file: A file that :meth:`write` made, and a user may have edited.
            classes: Names of the model's species.

        Raises:
            UserError: If it cannot be read, is damaged or a newer birdclf's, or names a species that the model lacks.
        """
        refuse_pointer(file)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(f"{file} cannot be read as thresholds: {why}. {REMEDY}") from error
        if not isinstance(content, dict) or not is_whole(content.get("format")):
            raise UserError(f"{file} holds no thresholds: its format is missing. {REMEDY}")
        if content["format"] > FORMAT:
            raise UserError(f"{file} has format {content['format']}; this birdclf knows {FORMAT}. Update birdclf.")
        for key in ("precision", "confidence"):
            value: Any = content.get(key)
            _require(is_number(value) and 0 < value < 1, file, key, value, "a number between 0 and 1")
        rows: Any = content.get("species")
        _require(isinstance(rows, dict), file, "species", rows, "an object with an entry for each species")
        unknown = [name for name in rows if name not in classes]
        if unknown:
            more = f" and {len(unknown) - 1} more" if unknown[1:] else ""
            raise UserError(
                f"{file} names {unknown[0]!r}{more}, none of the model's {len(classes)} species. Use the file of this "
                f"model, or --thresholds none."
            )
        species = {name: _species(row, file, name) for name, row in rows.items()}
        return cls(content["precision"], content["confidence"], str(content.get("source", "")), species)


def find_thresholds(
    source: Path, classes: Sequence[str], given: str | None = None, checkpoint: str = "best"
) -> tuple[Thresholds, Path] | None:
    """Return the thresholds that a model is used with, and their file; None to use none.

    Args:
        source: Run folder or ONNX file.
        classes: Names of its species.
        given: A file, or ``none``; None for ``thresholds.json`` of a run folder, if it is there.
        checkpoint: Weights that are used; the file of a run folder is for the best.

    Raises:
        UserError: If a file was given that is not there, or cannot be used.
    """
    if given == UNUSED:
        return None
    file = source / THRESHOLDS if given is None else Path(given).expanduser()
    if given is None and (checkpoint != "best" or not file.is_file()):
        return None
    return Thresholds.read(file, classes), file


def describe(found: Thresholds, file: Path) -> str:
    """Return the line that says which thresholds are used, and which species they leave out."""
    never = [name for name, one in found.species.items() if math.isnan(one.threshold)]
    text = f"thresholds of {file} for precision {found.precision:g} are used in place of a least confidence"
    if never:
        more = f" and {len(never) - 5} more" if len(never) > 5 else ""
        text += f"; {len(never)} species cannot reach it and are not reported: {', '.join(never[:5])}{more}"
    return f"{text}; --thresholds none uses none"


def _species(row: Any, file: Path, name: str) -> SpeciesThreshold:
    """Return a species' entry, checked key by key."""
    where = f"{name}: "
    _require(isinstance(row, dict), file, f"{where}entry", row, "an object")
    values: dict[str, Any] = {}
    for key in (field.name for field in fields(SpeciesThreshold)):
        value = row.get(key)
        if key in COUNTS:
            _require(is_whole(value) and value >= 0, file, where + key, value, "a whole number of 0 or more")
        elif key == "slope":
            _require(is_number(value) and value > 0, file, where + key, value, "a number above 0")
        elif key == "intercept":
            _require(is_number(value), file, where + key, value, "a number")
        elif key == "threshold":
            fits = key in row and (value is None or (is_number(value) and 0 <= value <= 1))
            _require(fits, file, where + key, value, "a number from 0 to 1, or null to report it never")
        else:
            _require(is_number(value) and 0 <= value <= 1, file, where + key, value, "a number from 0 to 1")
        values[key] = math.nan if value is None else value
    return SpeciesThreshold(**values)


def _require(holds: bool, file: Path, key: str, value: object, allowed: str) -> None:
    if not holds:
        found = "missing or null" if value is None else repr(value)[:80]
        raise UserError(f"{file}: {key} is {found}; it must be {allowed}. {REMEDY}")


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def choose_thresholds(
    source: Path, classifier: Classifier, precision: float, settings: SoundscapeSettings | None, out: Path | None
) -> None:
    """Choose thresholds on annotated soundscapes, or on the run's validation clips: print a table, and write a file.

    In soundscapes every species of the model is judged: one that is annotated nowhere is heard nowhere.

    Args:
        source: Run folder or ONNX file of the classifier.
        classifier: Gives the probabilities of windows.
        precision: To be reached, in (0, 1).
        settings: Recordings, annotations and segments; None for the validation clips.
        out: File to write; None for ``thresholds.json`` in the run folder.

    Raises:
        UserError: If something is missing or does not fit together, or no species reaches the precision.
    """
    file = new_file(source, precision, out)
    input_spec = classifier.input_spec
    if settings is None:
        clips = validation(source, input_spec.classes, input_spec.task)
        chosen_on = f"{len(clips.target):,} validation clips"
    else:
        clips = _on_soundscapes(classifier, settings)
        chosen_on = f"{len(clips.target):,} segments of {settings.root.resolve().name}"
    kept = [k for k, name in enumerate(input_spec.classes) if name != NONE]
    names = [input_spec.classes[k] for k in kept]
    fitted = fit_thresholds(clips.probabilities[:, kept], clips.target[:, kept], clips.cluster, precision, CONFIDENCE)
    found = Thresholds(precision, CONFIDENCE, chosen_on, dict(zip(names, fitted, strict=True)))
    print(_table(found))
    if all(math.isnan(one.threshold) for one in fitted):
        best = sorted(found.species.items(), key=lambda row: -row[1].precision)[:LISTED]
        could = ", ".join(f"{name} {one.precision:.2f}" for name, one in best)
        raise UserError(
            f"No species reaches precision {precision} on {chosen_on}. The highest that they reach: {could}. Ask for "
            f"less with --precision, or annotate more."
        )
    found.write(file)
    print(describe(found, file))


def new_file(source: Path, precision: float, out: Path | None) -> Path:
    """Return the file that thresholds are written to.

    Raises:
        UserError: If it exists, there is no place for it, or the precision is out of range.
    """
    if not is_number(precision) or not 0 < precision < 1:
        raise UserError(f"--precision {precision}: the share of right detections, above 0 and below 1, such as 0.9.")
    if out is None and source.is_file():
        raise UserError(f"{source} is a file: say where to write the thresholds with --out FILE.")
    file = source / THRESHOLDS if out is None else out
    refuse_existing(file, MOVE)
    return file


def _on_soundscapes(classifier: Classifier, settings: SoundscapeSettings) -> HeldOut:
    input_spec = classifier.input_spec
    how = StreamSettings(settings.hop(input_spec.window_s))
    how.check(input_spec)
    truth = read_truth(
        settings.root, input_spec.classes, settings.segments, settings.annotations, settings.columns, settings.labels
    )
    truth, scores = decoded_scores(classifier, truth, how)
    for note in unknown_labels(truth.unmapped) + truth.notes:
        print(printable(note), file=sys.stderr)
    target = np.zeros(scores.shape, np.int8)
    target[:, [input_spec.classes.index(name) for name in truth.classes]] = truth.target
    return HeldOut(scores.astype(np.float64), target, truth.segments.path.to_numpy(dtype=object))


def _table(found: Thresholds) -> str:
    """Return the species, those with most positives first, as lines of a table."""
    wide = max(len("species"), *(len(name) for name in found.species))
    lines = [
        f"{'species':{wide}}  threshold  precision [{100 * found.confidence:g} %]    positives  detections  listen"
    ]
    for name, one in sorted(found.species.items(), key=lambda row: (-row[1].positives, row[0])):
        least = "never" if math.isnan(one.threshold) else f"{one.threshold:.4g}"
        share = f"{one.precision:.2f} [{one.low:.2f}, {one.high:.2f}]"
        counts = f"{one.positives:9,}  {one.detections:10,}  {one.listen:6,}"
        lines.append(f"{printable(name):{wide}}  {least:>9}  {share:19}  {counts}")
    return "\n".join(lines)
