"""Arguments of ``birdclf predict``."""

import argparse
import sys
from pathlib import Path

from birdclf.commands.options import (
    add_model,
    add_recordings,
    add_thresholds,
    listed_lines,
    open_model,
    open_thresholds,
    search_current_folder,
)
from birdclf.errors import UserError

SUMMARY = "find the species in recordings"
DESCRIPTION = (
    "Find species in recordings of any length. Without --out a table is printed while the recordings are processed. "
    "With --out, the detections, a summary and a picture of each recording are written to a folder; give the same "
    "command again to resume an interrupted one."
)
FORMATS = ("csv", "parquet", "raven", "audacity", "jsonl")
ON_SCREEN = ("csv", "jsonl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    add_recordings(parser, "no other species is reported")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: they are printed)")
    parser.add_argument(
        "--format", nargs="+", action="extend", choices=FORMATS, type=_format, metavar="FORMAT",
        dest="formats", help=f"{', '.join(FORMATS)}; several are separated by spaces (default: csv, or with --out csv "
        "raven audacity)",
    )  # fmt: skip
    parser.add_argument(
        "--min-confidence",
        type=float,
        default=0.25,
        metavar="P",
        help="lowest calibrated probability of a detection, of species without a threshold (default: 0.25)",
    )
    add_thresholds(parser)
    parser.add_argument(
        "--sets", type=float, metavar="COVERAGE",
        help="also give each window a set of species that holds each species that is there with this probability, in "
        "sets.csv; without --out the sets are printed in place of detections",
    )  # fmt: skip
    parser.add_argument("--top-k", type=int, default=3, metavar="K", help="most species per window (default: 3)")
    parser.add_argument(
        "--no-merge",
        action="store_true",
        help="report each window on its own, instead of merging adjacent windows of a species",
    )
    parser.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="average logits over this time (default: 0, no smoothing)",
    )
    parser.add_argument(
        "--embeddings",
        action="store_true",
        help="write the embedding of each window (the input of the network's last layer) as .npz",
    )
    parser.add_argument("--no-timelines", action="store_true", help="write no pictures")


def run(arguments: argparse.Namespace) -> None:
    """Find species, and leave with status 1 where no recording could be decoded."""
    out = arguments.out.expanduser() if arguments.out else None
    formats = _formats(arguments, out)
    search_current_folder(arguments.trust)
    from birdclf.detection.detections import DetectionSettings
    from birdclf.detection.inputs import read_species
    from birdclf.detection.predict import check_any, predict_to_folder, predict_to_screen, summary
    from birdclf.detection.stream import StreamSettings

    classifier = open_model(arguments)
    input_spec = classifier.input_spec
    listed = arguments.species_list
    thresholds, sets = open_thresholds(arguments, input_spec.classes), None
    if arguments.sets is not None:
        from birdclf.detection.held_out import set_thresholds

        source = arguments.run.expanduser()
        sets, text = set_thresholds(source, input_spec.classes, input_spec.task, arguments.sets)
        print(f"birdclf: {text}", file=sys.stderr)
    detection_settings = DetectionSettings(
        arguments.min_confidence,
        arguments.top_k,
        not arguments.no_merge,
        arguments.smooth,
        None if listed is None else read_species(listed.expanduser(), input_spec.classes),
        input_spec.task,
        thresholds.species if thresholds else None,
        sets,
    )
    hop_s = input_spec.window_s if arguments.hop is None else arguments.hop
    timelines = out is not None and not arguments.no_timelines
    how = StreamSettings(hop_s, arguments.embeddings, timelines, arguments.batch_size)
    how.check(input_spec)
    lines = listed_lines(arguments.audio)
    if out is None:
        results = predict_to_screen(classifier, arguments.audio, lines, how, detection_settings, formats[0])
        check_any(results)
        return
    results = predict_to_folder(classifier, arguments.audio, lines, out, how, detection_settings, formats)
    check_any(results)
    print(summary(results))
    print(f"results: {out}")


def _format(word: str) -> str:
    if "," in word:
        raise argparse.ArgumentTypeError(f"{word}: separate formats by spaces, such as --format csv raven")
    return word


def _formats(arguments: argparse.Namespace, out: Path | None) -> list[str]:
    formats: list[str] = list(dict.fromkeys(arguments.formats or ()))
    if out is not None:
        return formats or ["csv", "raven", "audacity"]
    for option, given in (
        ("--embeddings", arguments.embeddings),
        ("--no-timelines", arguments.no_timelines),
        (f"--format {' '.join(formats)}", len(formats) > 1 or not set(formats) <= set(ON_SCREEN)),
    ):
        if given:
            raise UserError(f"{option} is for results in a folder: give one with --out DIR.")
    return formats or ["csv"]
