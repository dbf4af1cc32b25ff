"""Arguments of ``birdclf evaluate``."""

import argparse
import sys
from pathlib import Path

from birdclf.commands.options import add_checkpoint, add_embedder, add_trust, search_current_folder
from birdclf.errors import UserError

SUMMARY = "evaluate a run's checkpoint again, or several runs as an ensemble"
DESCRIPTION = (
    "Evaluate a run's checkpoint. Without other options the metrics must equal those in the run's metrics.json, or the "
    "exit status is 1. With another checkpoint, window or source they are written to a new folder. Several runs with "
    "the same split are evaluated as an ensemble, from their saved predictions where these suffice; birdclf report "
    "reads the ensemble's folder like a run."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder; several form an ensemble")
    parser.add_argument(
        "--average", choices=("probabilities", "logits"), help="what an ensemble averages (default: probabilities)"
    )
    parser.add_argument(
        "--weights", choices=("equal", "tuned"),
        help="weights of an ensemble's runs: equal, or tuned on the validation split (default: equal)",
    )  # fmt: skip
    add_checkpoint(parser)
    parser.add_argument(
        "--window",
        choices=("first", "center", "loudest", "all"),
        help="part of each recording to classify; all: the average over all windows (default: as in the run)",
    )
    parser.add_argument(
        "--source", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="where the run's recordings are now (data.root=DIR), or another source with the same species, all "
        "of it used as test data (data=folder data.root=DIR)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help="new folder for the results (default: RUN/evaluations/NAME; for an ensemble outputs/ensembles/TIME)",
    )  # fmt: skip
    add_embedder(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, and leave with status 1 where the figures had to be those of the run and are not."""
    if len(arguments.runs) == 1 and (arguments.average or arguments.weights):
        option = "--average" if arguments.average else "--weights"
        raise UserError(f"{option} says how several runs are averaged; one is given: {arguments.runs[0]}.")
    if len(arguments.runs) > 1 and arguments.embedder:
        raise UserError("--embedder says where one run's frozen network is; evaluate each run by itself with it.")
    search_current_folder(arguments.trust)
    out = arguments.out.expanduser() if arguments.out else None
    runs = [run.expanduser() for run in arguments.runs]
    how = (arguments.checkpoint, arguments.window, arguments.source, out, arguments.trust)
    if len(runs) > 1:
        from birdclf.runs.ensemble import evaluate_together

        evaluate_together(runs, arguments.average or "probabilities", arguments.weights or "equal", *how)
        return
    from birdclf.runs.evaluate import evaluate

    if not evaluate(runs[0], *how, arguments.embedder):
        sys.exit(1)
