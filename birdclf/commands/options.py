"""Options that every command on a run folder has, in the same words."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Declare ``--checkpoint``: which weights."""
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which weights (best)")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare ``--trust``: packages whose code the run folder may name."""
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE",
        help="package of code that the run folder may name; the current folder is searched as well",
    )  # fmt: skip


def search_current_folder(trusted: Sequence[str]) -> None:
    """Look for trusted packages in the current folder too, as training does: a user's own source or network."""
    if trusted:
        sys.path.append(os.getcwd())


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and how it is opened."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, or a file of birdclf export --format onnx")
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda (the fastest there is)")
    add_checkpoint(parser)
    add_trust(parser)


def add_recordings(parser: argparse.ArgumentParser, listed: str) -> None:
    """Declare the recordings, and how they are listened to; after the run, for arguments keep their order."""
    parser.add_argument(
        "audio", nargs="+", metavar="AUDIO", help="files, folders, patterns in quotes; - for a list on standard input",
    )  # fmt: skip
    parser.add_argument(
        "--hop", type=float, metavar="SECONDS", help="from the beginning of a window to that of the next (a window)"
    )
    parser.add_argument(
        "--species-list", type=Path, metavar="FILE",
        help=f"species that occur there, one a line or the column species of a CSV; {listed}",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="windows classified together (16)")


def listed_lines(audio: list[str]) -> list[str]:
    """Return the lines of standard input where ``-`` asks for them.

    Names of files are bytes to the system, and only a line's end separates them.
    """
    return os.fsdecode(sys.stdin.buffer.read()).split("\n") if "-" in audio else []
