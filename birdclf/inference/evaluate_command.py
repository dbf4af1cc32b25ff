"""The words of ``birdclf evaluate``."""

import argparse
import os
import sys
from pathlib import Path

SUMMARY = "judge a run's checkpoint again"
DESCRIPTION = (
    "Predict with a run's checkpoint. With nothing changed the figures have to be those of its metrics.json, else the "
    "exit status is 1; with another checkpoint, window or source they are written to a folder of their own."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which weights (best)")
    parser.add_argument(
        "--window", choices=("first", "center", "loudest", "all"), help="window of a recording (as in the run)"
    )
    parser.add_argument(
        "--source", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="where the run's recordings are now (data.root=DIR), or another source with the same species, all of it "
        "test (data=folder data.root=DIR)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder for the figures (RUN/evaluations/NAME)")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="package of code that the run folder may name; the current folder is searched as well",
    )


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, and leave with status 1 where the figures had to be those of the run and are not.

    Raises:
        UserError: As :func:`birdclf.inference.evaluate.evaluate`.
    """
    from birdclf.inference.evaluate import evaluate

    if arguments.trust:
        sys.path.append(os.getcwd())  # a user's own source or network, as in training
    out = arguments.out.expanduser() if arguments.out else None
    folder = arguments.run.expanduser()
    if not evaluate(folder, arguments.checkpoint, arguments.window, arguments.source, out, arguments.trust):
        sys.exit(1)
