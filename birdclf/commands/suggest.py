"""Arguments of ``birdclf suggest``."""

import argparse
import sys
from pathlib import Path

from birdclf.commands.options import add_model, add_recordings, listed_lines, open_model, search_current_folder
from birdclf.errors import UserError
from birdclf.files import refuse_existing

SUMMARY = "choose clips of recordings to label"
DESCRIPTION = (
    "Choose the clips of unlabelled recordings that are most useful to label: those that the model is uncertain about "
    "and that differ from each other. Writes suggestions.csv, a manifest with an empty species column, and index.html, "
    "a page to play and label the clips."
)
UNCERTAINTIES = ("entropy", "margin", "least_confidence")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    add_recordings(parser, "probabilities are computed among them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for the table and the page")
    parser.add_argument("--n", type=int, default=50, metavar="N", help="number of clips (default: 50)")
    parser.add_argument(
        "--uncertainty", choices=UNCERTAINTIES,
        help="measure of uncertainty: of all probabilities, the difference of the two highest, or the highest alone; "
        "of a multi-label model the mean over species, the least certain one, or the most probable (default: entropy)",
    )  # fmt: skip
    parser.add_argument(
        "--pool", type=int, default=10, metavar="FACTOR",
        help="choose diverse clips among the FACTOR x N most uncertain; 1 uses uncertainty alone (default: 10)",
    )  # fmt: skip
    parser.add_argument(
        "--near-thresholds", nargs="?", const="", metavar="FILE",
        help="choose clips near the thresholds of birdclf thresholds instead, most for the species whose precision is "
        "least sure (default file: thresholds.json of the run folder)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="random seed (default: 1)")


def run(arguments: argparse.Namespace) -> None:
    """Choose clips."""
    search_current_folder(arguments.trust)
    from birdclf.detection.inputs import read_species
    from birdclf.detection.stream import StreamSettings
    from birdclf.labelling.clips import NEW_FOLDER
    from birdclf.labelling.suggest import SuggestSettings, suggest

    out = arguments.out.expanduser()
    refuse_existing(out, NEW_FOLDER)
    if arguments.near_thresholds is not None and arguments.uncertainty:
        raise UserError("--near-thresholds takes the place of --uncertainty. Leave one of them out.")
    uncertainty = arguments.uncertainty or "entropy"
    SuggestSettings(arguments.n, uncertainty, arguments.pool)  # before the model is opened, which takes seconds
    classifier = open_model(arguments)
    input_spec, listed = classifier.input_spec, arguments.species_list
    species = None if listed is None else read_species(listed.expanduser(), input_spec.classes)
    thresholds = None
    if arguments.near_thresholds is not None:
        from birdclf.detection.thresholds import THRESHOLDS, Thresholds

        file = Path(arguments.near_thresholds or arguments.run / THRESHOLDS).expanduser()
        thresholds = Thresholds.read(file, input_spec.classes)
    settings = SuggestSettings(arguments.n, uncertainty, arguments.pool, arguments.seed, species, thresholds)
    how = StreamSettings(input_spec.window_s if arguments.hop is None else arguments.hop, batch=arguments.batch_size)
    how.check(input_spec)
    lines = listed_lines(arguments.audio)
    chosen = suggest(classifier, arguments.audio, lines, out, how, settings)
    found = len(chosen.suggestions)
    if thresholds:
        listen = sum(one.listen for name, one in thresholds.species.items() if species is None or name in species)
        print(f"{listen:,} clips in all make every interval 5 points wide on either side; --n says how many are chosen")
    elif found < settings.n:
        print(f"--n {settings.n} asks for more clips than there are: {found}, no two of which overlap", file=sys.stderr)
    print(f"{found:,} clips of {chosen.windows:,} windows in {chosen.recordings:,} recordings")
    if chosen.problems:
        print(f"{len(chosen.problems):,} recordings could not be decoded, or not to their end")
    print(f"label them on {out / 'index.html'}, or in {out / 'suggestions.csv'}")
