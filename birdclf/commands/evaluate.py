"""The words of ``birdclf evaluate``."""

import argparse
import sys
from pathlib import Path

from birdclf.commands.options import add_checkpoint, add_trust, search_current_folder
from birdclf.errors import UserError

SUMMARY = "judge a run's checkpoint again, or several runs as one"
DESCRIPTION = (
    "Predict with a run's checkpoint. With nothing changed the figures have to be those of its metrics.json, else the "
    "exit status is 1; with another checkpoint, window or source they are written to a folder of their own. Several "
    "runs with one split are averaged, by the predictions that they saved where that is what is asked for, and "
    "written to a folder that birdclf report reads like a run."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder; several are averaged")
    parser.add_argument(
        "--average", choices=("probabilities", "logits"), help="what is averaged over several runs (probabilities)"
    )
    parser.add_argument(
        "--weights", choices=("equal", "tuned"),
        help="how much each of several runs counts: the same, or as validation has it (equal)",
    )  # fmt: skip
    add_checkpoint(parser)
    parser.add_argument(
        "--window", choices=("first", "center", "loudest", "all"), help="window of a recording (as in the run)"
    )
    parser.add_argument(
        "--source", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="where the run's recordings are now (data.root=DIR), or another source with the same species, all of it "
        "test (data=folder data.root=DIR)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help="new folder for the figures (RUN/evaluations/NAME; of several runs outputs/ensembles/TIME)",
    )  # fmt: skip
    add_trust(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, and leave with status 1 where the figures had to be those of the run and are not."""
    if len(arguments.runs) == 1 and (arguments.average or arguments.weights):
        option = "--average" if arguments.average else "--weights"
        raise UserError(f"{option} says how several runs are averaged; one is given: {arguments.runs[0]}.")
    search_current_folder(arguments.trust)
    out = arguments.out.expanduser() if arguments.out else None
    runs = [run.expanduser() for run in arguments.runs]
    how = (arguments.checkpoint, arguments.window, arguments.source, out, arguments.trust)
    if len(runs) > 1:
        from birdclf.runs.ensemble import evaluate_together

        evaluate_together(runs, arguments.average or "probabilities", arguments.weights or "equal", *how)
        return
    from birdclf.runs.evaluate import evaluate

    if not evaluate(runs[0], *how):
        sys.exit(1)
