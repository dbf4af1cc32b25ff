"""Arguments of ``birdclf soup``."""

import argparse
from pathlib import Path

from birdclf.commands.options import add_trust, search_current_folder

SUMMARY = "average the weights of several runs into one network"
DESCRIPTION = (
    "Average the best weights of runs with one architecture, one split and one set of classes (a model soup), and "
    "write them as a run folder if they are better than the best run on validation. This works for runs that started "
    "from the same weights, such as fine-tunings of one network, and rarely for runs with different seeds. If the "
    "average is not better, a message says so, nothing is written, and the exit status is 0."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder, two or more")
    parser.add_argument(
        "--recipe", choices=("greedy", "uniform"), default="greedy",
        help="greedy: from the best run down, add each that does not lower the score; uniform: average all "
        "(default: greedy)",
    )  # fmt: skip
    parser.add_argument(
        "--source", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="where the runs' recordings are now (data.root=DIR)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="new run folder (default: outputs/soups/TIME)")
    parser.add_argument("--keep", action="store_true", help="write the average even if it is not better")
    add_trust(parser)


def run(arguments: argparse.Namespace) -> None:
    """Make the soup."""
    from birdclf.runs.soup import soup

    search_current_folder(arguments.trust)
    out = arguments.out.expanduser() if arguments.out else None
    runs = [run.expanduser() for run in arguments.runs]
    soup(runs, arguments.recipe, arguments.source, out, arguments.keep, arguments.trust)
