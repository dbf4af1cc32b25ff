"""Arguments of ``birdclf thresholds``."""

import argparse
from pathlib import Path

from birdclf.commands.options import (
    add_device,
    add_embedder,
    add_soundscapes,
    add_trust,
    check_soundscapes,
    search_current_folder,
    soundscape_settings,
)

SUMMARY = "choose a threshold for each species that keeps a stated precision"
DESCRIPTION = (
    "Choose for each species the lowest probability from which its detections are right with a stated precision, on "
    "annotated soundscapes, or on the run's own validation clips. Species with few positives learn from the others. "
    "Prints the thresholds, the precision with its interval, and how many more clips to listen to for an interval of "
    "5 points on either side; writes thresholds.json to the run folder, which birdclf predict and birdclf serve use."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, or a file of birdclf export --format onnx")
    parser.add_argument(
        "--precision", type=float, default=0.9, metavar="P", help="share of right detections to keep (default: 0.9)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="new file for the thresholds (default: RUN/thresholds.json)"
    )
    add_device(parser)
    add_embedder(parser)
    add_trust(parser)
    add_soundscapes(parser.add_argument_group("soundscapes"), "choose on")


def run(arguments: argparse.Namespace) -> None:
    """Choose thresholds."""
    check_soundscapes(arguments)
    search_current_folder(arguments.trust)
    from birdclf.detection.classifier import open_classifier
    from birdclf.detection.thresholds import choose_thresholds, new_file

    source = arguments.run.expanduser()
    out = arguments.out.expanduser() if arguments.out else None
    new_file(source, arguments.precision, out)  # before the model is opened, which takes seconds
    settings = soundscape_settings(arguments) if arguments.soundscapes else None
    classifier = open_classifier(source, "best", arguments.device, arguments.trust, arguments.embedder)
    choose_thresholds(source, classifier, arguments.precision, settings, out)
