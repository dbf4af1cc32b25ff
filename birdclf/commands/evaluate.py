"""Arguments of ``birdclf evaluate``."""

import argparse
import sys
from pathlib import Path

from birdclf.commands.options import add_checkpoint, add_embedder, add_trust, search_current_folder
from birdclf.errors import UserError

SUMMARY = "evaluate a run's checkpoint again, on annotated soundscapes, or several runs as an ensemble"
DESCRIPTION = (
    "Evaluate a run's checkpoint. Without other options the metrics must equal those in the run's metrics.json, or the "
    "exit status is 1. With another checkpoint, window or source they are written to a new folder. Several runs with "
    "the same split are evaluated as an ensemble, from their saved predictions where these suffice; birdclf report "
    "reads the ensemble's folder like a run. With --soundscapes a run is judged on long recordings with annotations of "
    "any number of species at a time, beside other programs whose detections are given as tables."
)
ON_SOUNDSCAPES = ("annotations", "labels", "segment", "hop", "min_overlap", "unannotated", "columns", "detections")
COLUMNS = {"start": "start_s", "end": "end_s"}
"""Short names of the columns of an annotation table."""


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
    group.add_argument(
        "--soundscapes", type=_path, metavar="DIR",
        help="judge on the long recordings below this folder, with annotations beside them: Raven selection tables, "
        "Audacity labels or CSV files",
    )  # fmt: skip
    group.add_argument("--annotations", type=_path, metavar="TABLE", help="one table with all annotations")
    group.add_argument(
        "--columns", type=_columns, metavar="NAME=COLUMN,...",
        help="columns of annotation tables with other names than usual, such as file=Recording,start=From,end=To,"
        "label=Bird",
    )  # fmt: skip
    group.add_argument(
        "--labels", type=_path, metavar="TABLE",
        help="CSV file with the columns label and species, for labels that are not named as the run's species",
    )  # fmt: skip
    group.add_argument("--segment", type=float, metavar="SECONDS", help="length of a segment (default: 5)")
    group.add_argument(
        "--hop", type=float, metavar="SECONDS",
        help="time from the start of one window to the start of the next (default: at most a window, so that one "
        "begins with each segment)",
    )  # fmt: skip
    group.add_argument(
        "--min-overlap", type=float, metavar="SECONDS",
        help="overlap from which a segment has the label of an annotation (default: 0.25)",
    )  # fmt: skip
    group.add_argument(
        "--unannotated", choices=("refuse", "empty", "skip"),
        help="recordings without an annotation: an error, nothing is heard in them, or left out (default: refuse)",
    )  # fmt: skip
    group.add_argument(
        "--detections", nargs="+", action="extend", metavar="[NAME=]TABLE",
        help="detections of other programs in the same recordings, such as BirdNET's CSV or Raven table, judged beside "
        "the run by their confidence",
    )  # fmt: skip


def _path(word: str) -> Path:
    return Path(word).expanduser()


def _columns(text: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in text.split(",")]
    names = {COLUMNS.get(name, name): column for name, _, column in pairs}
    known = ("file", "start_s", "end_s", "label", "confidence", "annotator")
    if not all(names.values()) or len(names) < len(pairs) or names.keys() - set(known):
        raise argparse.ArgumentTypeError(f"{text}: NAME=COLUMN for some of file, start, end, label, each once")
    return names


def _tables(words: list[str]) -> dict[str, Path]:
    """Return the tables of detections by name, that of the file where none is given."""
    tables: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        given = bool(equals) and bool(name) and not Path(word).expanduser().exists()
        file = _path(path if given else word)
        name = name if given else file.stem
        if name in tables or name == "soundscape":
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
    given = [name for name in ON_SOUNDSCAPES if getattr(arguments, name) is not None]
    if given and not arguments.soundscapes:
        raise UserError(f"--{given[0].replace('_', '-')} belongs to --soundscapes DIR, the folder of the recordings.")
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
    from birdclf.data.soundscapes import Columns, SegmentSettings
    from birdclf.detection.evaluate import SoundscapeSettings, evaluate_soundscapes

    named = {"segment_s": "segment", "min_overlap_s": "min_overlap", "unannotated": "unannotated"}
    chosen = {key: value for key, name in named.items() if (value := getattr(arguments, name)) is not None}
    settings = SoundscapeSettings(
        arguments.soundscapes,
        arguments.annotations,
        Columns(**(arguments.columns or {})),
        arguments.labels,
        SegmentSettings(**chosen),
        arguments.hop,
        _tables(arguments.detections or []),
    )
    source = arguments.runs[0].expanduser()
    folder = settings.folder(source, arguments.checkpoint, arguments.out.expanduser() if arguments.out else None)
    from birdclf.detection.classifier import open_classifier

    classifier = open_classifier(source, arguments.checkpoint, None, arguments.trust, arguments.embedder)
    evaluate_soundscapes(source, classifier, settings, folder, arguments.checkpoint)
