"""Arguments of ``birdclf evaluate``."""

import argparse
import sys
from pathlib import Path

from birdclf.commands.options import (
    add_checkpoint,
    add_embedder,
    add_soundscapes,
    add_trust,
    check_soundscapes,
    search_current_folder,
    soundscape_settings,
)
from birdclf.errors import UserError

SUMMARY = "evaluate a run's checkpoint again, on annotated soundscapes, or several runs as an ensemble"
DESCRIPTION = (
    "Evaluate a run's checkpoint. Without other options the metrics must equal those in the run's metrics.json, or the "
    "exit status is 1. With another checkpoint, window or source they are written to a new folder. Several runs with "
    "the same split are evaluated as an ensemble, from their saved predictions where these suffice; birdclf report "
    "reads the ensemble's folder like a run. With --soundscapes a run is judged on long recordings with annotations of "
    "any number of species at a time, beside other programs whose detections are given as tables."
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
    _add_soundscapes(parser.add_argument_group("soundscapes"))


def _add_soundscapes(group: argparse._ArgumentGroup) -> None:
    add_soundscapes(group, "judge on")
    group.add_argument(
        "--detections", nargs="+", action="extend", metavar="[NAME=]TABLE",
        help="detections of other programs in the same recordings, such as BirdNET's CSV or Raven table, judged beside "
        "the run by their confidence",
    )  # fmt: skip


def _tables(words: list[str], run: str) -> dict[str, Path]:
    """Return the tables of detections by name, that of the file where none is given; not that of the run."""
    tables: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        given = bool(equals) and bool(name) and not Path(word).expanduser().exists()
        file = Path(path if given else word).expanduser()
        name = name if given else file.stem
        if name in tables or name in ("soundscape", run):
            raise UserError(f"--detections: {name} names two tables or the run. Give another name: NAME={file}.")
        tables[name] = file
    return tables


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, and leave with status 1 where the figures had to be those of the run and are not."""
    if len(arguments.runs) == 1 and (arguments.average or arguments.weights):
        option = "--average" if arguments.average else "--weights"
        raise UserError(f"{option} says how several runs are averaged; one is given: {arguments.runs[0]}.")
    if len(arguments.runs) > 1 and arguments.embedder:
        raise UserError("--embedder says where one run's frozen network is; evaluate each run by itself with it.")
    check_soundscapes(arguments, ("detections",))
    search_current_folder(arguments.trust)
    if arguments.soundscapes:
        _on_soundscapes(arguments)
        return
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


def _on_soundscapes(arguments: argparse.Namespace) -> None:
    """Judge a run on soundscapes.

    Raises:
        UserError: If several runs or options of another evaluation are given, or something is wrong with the files.
    """
    if len(arguments.runs) > 1:
        raise UserError("--soundscapes judges one run; evaluate several by themselves, and birdclf report shows them.")
    if arguments.window or arguments.source:
        option = "--window" if arguments.window else "--source"
        raise UserError(f"{option} is for an evaluation on clips; leave it out with --soundscapes.")
    from birdclf.detection.evaluate import evaluate_soundscapes
    from birdclf.detection.thresholds import find_thresholds

    source = arguments.runs[0].expanduser()
    settings = soundscape_settings(arguments, _tables(arguments.detections or [], source.resolve().name))
    folder = settings.folder(source, arguments.checkpoint, arguments.out.expanduser() if arguments.out else None)
    from birdclf.detection.classifier import open_classifier

    classifier = open_classifier(source, arguments.checkpoint, None, arguments.trust, arguments.embedder)
    known = find_thresholds(source, classifier.input_spec.classes, None, arguments.checkpoint)
    evaluate_soundscapes(source, classifier, settings, folder, arguments.checkpoint, known[0] if known else None)
