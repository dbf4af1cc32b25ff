"""The words of ``birdclf report``."""

import argparse
from pathlib import Path

from birdclf.text import printable

SUMMARY = "compare runs and sweeps"
DESCRIPTION = (
    "Write report.md, report.html and comparison.csv on run folders and sweeps: what is better than what, how surely, "
    "for which species, and what the mistakes sound like."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="run folder, or a folder of them (a sweep)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the report to")
    parser.add_argument("--reference", metavar="NAME", help="configuration to test the others against (the best)")
    parser.add_argument("--no-gallery", action="store_true", help="embed no sounds and spectrograms")


def run(arguments: argparse.Namespace) -> None:
    """Write the report and say where it is."""
    from birdclf.report.report import report

    done = report(arguments.paths, arguments.out, arguments.reference, not arguments.no_gallery)
    for folder, reason in done.left_out:
        print(printable(f"left out: {folder}: {reason}"))
    print(f"report on {len(done.configurations)} configuration(s): {printable(done.folder / 'report.html')}")
