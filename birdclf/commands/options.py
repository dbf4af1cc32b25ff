"""Options that every command on a run folder has, in the same words."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birdclf.detection.classifier import Classifier


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


def listed_lines(audio: list[str]) -> list[str]:
    """Return the lines of standard input where ``-`` asks for them.

    Names of files are bytes to the system, and only a line's end separates them.
    """
    return os.fsdecode(sys.stdin.buffer.read()).split("\n") if "-" in audio else []
