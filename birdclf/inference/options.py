"""Options that every command on a run folder has, in the same words."""

import argparse
import os
import sys
from collections.abc import Sequence


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Declare ``--checkpoint``: which weights."""
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which weights (best)")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare ``--trust``: packages whose code the run folder may name."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="package of code that the run folder may name; the current folder is searched as well",
    )


def search_current_folder(trusted: Sequence[str]) -> None:
    """Look for trusted packages in the current folder too, as training does: a user's own source or network."""
    if trusted:
        sys.path.append(os.getcwd())
