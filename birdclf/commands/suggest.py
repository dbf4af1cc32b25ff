"""The words of ``birdclf suggest``."""

import argparse
import sys
from pathlib import Path

from birdclf.commands.options import add_model, add_recordings, listed_lines, search_current_folder
from birdclf.files import refuse_existing

SUMMARY = "choose clips of recordings to label"
DESCRIPTION = (
    "Listen to recordings without labels, and choose the clips most worth one: those that the model is unsure of, and "
    "that differ from each other. The folder gets suggestions.csv, a manifest without species, and index.html, a page "
    "to listen to the clips and to label them."
)
UNCERTAINTIES = ("entropy", "margin", "least_confidence")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    add_recordings(parser, "the model is asked among them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder of the table and the page")
    parser.add_argument("--n", type=int, default=50, metavar="N", help="how many clips (50)")
    parser.add_argument(
        "--uncertainty", choices=UNCERTAINTIES, default="entropy",
        help="how unsure the model is: all of its probabilities, the two highest, or the highest (entropy)",
    )  # fmt: skip
    parser.add_argument(
        "--pool", type=int, default=10, metavar="FACTOR",
        help="choose among so many times as many of the most uncertain clips; 1: uncertainty alone (10)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="where the choice begins (1)")


def run(arguments: argparse.Namespace) -> None:
    """Choose clips."""
    search_current_folder(arguments.trust)
    from birdclf.detection.classifier import open_classifier
    from birdclf.detection.inputs import read_species
    from birdclf.detection.stream import StreamSettings
    from birdclf.labelling.suggest import NEW_FOLDER, SuggestSettings, suggest

    out = arguments.out.expanduser()
    refuse_existing(out, NEW_FOLDER)
    SuggestSettings(
        arguments.n, arguments.uncertainty, arguments.pool
    )  # before the model is opened, which takes seconds
    classifier = open_classifier(arguments.run.expanduser(), arguments.checkpoint, arguments.device, arguments.trust)
    input_spec, listed = classifier.input_spec, arguments.species_list
    species = None if listed is None else read_species(listed.expanduser(), input_spec.classes)
    settings = SuggestSettings(arguments.n, arguments.uncertainty, arguments.pool, arguments.seed, species)
    how = StreamSettings(input_spec.window_s if arguments.hop is None else arguments.hop, batch=arguments.batch_size)
    how.check(input_spec)
    lines = listed_lines(arguments.audio)
    chosen = suggest(classifier, arguments.audio, lines, out, how, settings)
    found = len(chosen.suggestions)
    if found < settings.n:
        print(f"--n {settings.n} asks for more clips than there are: {found}, no two of which overlap", file=sys.stderr)
    print(f"{found:,} clips of {chosen.windows:,} windows in {chosen.recordings:,} recordings")
    if chosen.problems:
        print(f"{len(chosen.problems):,} recordings could not be heard, or not to their end")
    print(f"label them on {out / 'index.html'}, or in {out / 'suggestions.csv'}")
