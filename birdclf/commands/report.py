"""Arguments of ``birdclf report``."""

import argparse
from pathlib import Path

from birdclf.text import printable

SUMMARY = "compare runs and sweeps"
DESCRIPTION = (
    "Compare run folders and sweeps in report.md, report.html and comparison.csv: metrics with confidence intervals, "
    "paired tests, results per species, and spectrograms and sounds of misclassified recordings."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="run folder, or a folder of them (a sweep)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the report to")
    parser.add_argument(
        "--reference", metavar="NAME", help="configuration to test the others against (default: the best)"
    )
    parser.add_argument("--no-gallery", action="store_true", help="leave out the sounds and spectrograms")


def run(arguments: argparse.Namespace) -> None:
    """Write the report and say where it is."""
    from birdclf.report.report import report

    done = report(arguments.paths, arguments.out, arguments.reference, not arguments.no_gallery)
    for folder, reason in done.left_out:
        print(printable(f"left out: {folder}: {reason}"))
    print(f"report on {len(done.configurations)} configuration(s): {printable(done.folder / 'report.html')}")
