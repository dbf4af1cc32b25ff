"""Options that every command on a run folder has, in the same words."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from birdclf.errors import UserError

if TYPE_CHECKING:
    from birdclf.detection.classifier import Classifier
    from birdclf.detection.soundscapes import SoundscapeSettings
    from birdclf.detection.thresholds import Thresholds


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Declare ``--checkpoint``: which weights."""
    parser.add_argument(
        "--checkpoint",
        choices=("best", "last"),
        default="best",
        help="weights to use: of the best epoch or of the last (default: best)",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare ``--trust``: packages whose code the run folder may name."""
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE",
        help="allow classes and functions of this Python package that the run's settings name; it may lie in the "
        "current folder; may be given several times",
    )  # fmt: skip


def add_embedder(parser: argparse.ArgumentParser) -> None:
    """Declare ``--embedder``: the file of a frozen network."""
    parser.add_argument(
        "--embedder", type=lambda word: Path(word).expanduser(), metavar="FILE",
        help="file of the frozen network that the model takes its features from, if it is not where it was in training",
    )  # fmt: skip


def search_current_folder(trusted: Sequence[str]) -> None:
    """Look for trusted packages in the current folder too, as training does: a user's own source or network."""
    if trusted:
        sys.path.append(os.getcwd())


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare ``--device``."""
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda (default: a GPU if there is one)")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and how it is opened."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, or a file of birdclf export --format onnx")
    add_device(parser)
    add_embedder(parser)
    add_checkpoint(parser)
    add_trust(parser)


def open_model(arguments: argparse.Namespace) -> "Classifier":
    """Return the classifier of :func:`add_model`'s options.

    Raises:
        UserError: If it cannot be opened.
    """
    from birdclf.detection.classifier import open_classifier

    source = arguments.run.expanduser()
    return open_classifier(source, arguments.checkpoint, arguments.device, arguments.trust, arguments.embedder)


def add_recordings(parser: argparse.ArgumentParser, listed: str) -> None:
    """Declare the recordings, and how they are cut into windows; after the run, for arguments keep their order."""
    parser.add_argument(
        "audio", nargs="+", metavar="AUDIO", 
        help="sound files, folders or quoted patterns; - reads a list of them from standard input",
    )  # fmt: skip
    parser.add_argument(
        "--hop",
        type=float,
        metavar="SECONDS",
        help="time from the start of one window to the start of the next (default: the window's length)",
    )
    parser.add_argument(
        "--species-list", type=Path, metavar="FILE",
        help=f"species that occur at the site, one per line or in the column species of a CSV file; {listed}",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="windows per batch (default: 16)")


def add_thresholds(parser: argparse.ArgumentParser) -> None:
    """Declare ``--thresholds``."""
    parser.add_argument(
        "--thresholds", metavar="FILE|none",
        help="thresholds by species of birdclf thresholds, used in place of a least confidence; none uses none "
        "(default: thresholds.json of the run folder, if it is there)",
    )  # fmt: skip


def open_thresholds(arguments: argparse.Namespace, classes: Sequence[str]) -> "Thresholds | None":
    """Return the thresholds that a command uses, and say on standard error which.

    Raises:
        UserError: If the file is missing, damaged or of another model.
    """
    from birdclf.detection.thresholds import describe, find_thresholds

    found = find_thresholds(arguments.run.expanduser(), classes, arguments.thresholds, arguments.checkpoint)
    if found is None:
        return None
    print(f"birdclf: {describe(*found)}", file=sys.stderr)
    return found[0]


def listed_lines(audio: list[str]) -> list[str]:
    """Return the lines of standard input where ``-`` asks for them.

    Names of files are bytes to the system, and only a line's end separates them.
    """
    return os.fsdecode(sys.stdin.buffer.read()).split("\n") if "-" in audio else []


def add_soundscapes(group: argparse._ArgumentGroup, purpose: str) -> None:
    """Declare annotated soundscapes, and how they are cut into segments; ``purpose`` is such as ``judge on``."""
    group.add_argument(
        "--soundscapes", type=_path, metavar="DIR",
        help=f"{purpose} the long recordings below this folder, with annotations beside them: Raven selection tables, "
        "Audacity labels or CSV files",
    )  # fmt: skip
    group.add_argument("--annotations", type=_path, metavar="TABLE", help="one table with all annotations")
    group.add_argument(
        "--columns", type=_column_names, metavar="NAME=COLUMN,...",
        help="columns of annotation tables with other names than usual, such as file=Recording,start=From,end=To,"
        "label=Bird",
    )  # fmt: skip
    group.add_argument(
        "--labels", type=_path, metavar="TABLE",
        help="CSV file with the columns label and species, for labels that are not named as the run's species",
    )  # fmt: skip
    group.add_argument("--segment", type=float, metavar="SECONDS", help="length of a segment (default: 5)")
    group.add_argument(
        "--hop", type=float, metavar="SECONDS",
        help="time from the start of one window to the start of the next (default: at most a window, so that one "
        "begins with each segment)",
    )  # fmt: skip
    group.add_argument(
        "--min-overlap", type=float, metavar="SECONDS",
        help="overlap from which a segment has the label of an annotation (default: 0.25)",
    )  # fmt: skip
    group.add_argument(
        "--unannotated", choices=("refuse", "empty", "skip"),
        help="recordings without an annotation: an error, nothing is heard in them, or left out (default: refuse)",
    )  # fmt: skip


def check_soundscapes(arguments: argparse.Namespace, more: Sequence[str] = ()) -> None:
    """Refuse options on soundscapes, and ``more`` of them, without a folder of soundscapes."""
    names = ("annotations", "labels", "segment", "hop", "min_overlap", "unannotated", "columns", *more)
    given = [name for name in names if getattr(arguments, name) is not None]
    if given and not arguments.soundscapes:
        raise UserError(f"--{given[0].replace('_', '-')} belongs to --soundscapes DIR, the folder of the recordings.")


def soundscape_settings(
    arguments: argparse.Namespace, detections: Mapping[str, Path] | None = None
) -> "SoundscapeSettings":
    """Return the settings of :func:`add_soundscapes`'s options, with tables of detections by name."""
    from birdclf.data.soundscapes import Columns, SegmentSettings
    from birdclf.detection.soundscapes import SoundscapeSettings

    named = {"segment_s": "segment", "min_overlap_s": "min_overlap", "unannotated": "unannotated"}
    chosen = {key: value for key, name in named.items() if (value := getattr(arguments, name)) is not None}
    return SoundscapeSettings(
        arguments.soundscapes,
        arguments.annotations,
        Columns(**(arguments.columns or {})),
        arguments.labels,
        SegmentSettings(**chosen),
        arguments.hop,
        detections or {},
    )


COLUMNS = {"start": "start_s", "end": "end_s"}
"""Short names of the columns of an annotation table."""


def _path(word: str) -> Path:
    return Path(word).expanduser()


def _column_names(text: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in text.split(",")]
    names = {COLUMNS.get(name, name): column for name, _, column in pairs}
    known = ("file", "start_s", "end_s", "label", "confidence", "annotator")
    if not all(names.values()) or len(names) < len(pairs) or names.keys() - set(known):
        raise argparse.ArgumentTypeError(f"{text}: NAME=COLUMN for some of file, start, end, label, each once")
    return names
