"""Arguments of ``birdclf report``."""

import argparse
from pathlib import Path

from birdclf.errors import UserError
from birdclf.text import printable

SUMMARY = "compare runs and sweeps"
DESCRIPTION = (
    "Compare run folders and sweeps in report.md, report.html and comparison.csv: metrics with confidence intervals, "
    "paired tests, results per species, and spectrograms and sounds of misclassified recordings."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="run folder, or a folder of them (a sweep)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write the report to")
    parser.add_argument(
        "--reference", metavar="NAME", help="configuration to test the others against (default: the best)"
    )
    parser.add_argument(
        "--plan", action="store_true", help="print how many seeds show a difference, from these runs as a pilot"
    )
    parser.add_argument(
        "--difference", type=float, metavar="POINTS", help="difference for --plan (default: evaluation.margin)"
    )
    parser.add_argument("--no-gallery", action="store_true", help="leave out the sounds and spectrograms")


def run(arguments: argparse.Namespace) -> None:
    """Write the report and say where it is."""
    if arguments.plan:
        if arguments.out or arguments.no_gallery:
            raise UserError("--plan prints and writes no report; leave out --out and --no-gallery.")
        from birdclf.report.plan import plan

        print(plan(arguments.paths, arguments.difference, arguments.reference))
        return
    if not arguments.out:
        raise UserError("--out is missing: name the folder to write the report to, such as --out outputs/report.")
    if arguments.difference is not None:
        raise UserError("--difference belongs to --plan; a report judges by evaluation.margin.")
    from birdclf.report.report import report

    done = report(arguments.paths, arguments.out, arguments.reference, not arguments.no_gallery)
    for folder, reason in done.left_out:
        print(printable(f"left out: {folder}: {reason}"))
    print(f"report on {len(done.configurations)} configuration(s): {printable(done.folder / 'report.html')}")
