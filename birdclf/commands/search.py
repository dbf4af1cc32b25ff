"""Arguments of ``birdclf search``."""

import argparse
import sys
from pathlib import Path

from birdclf.commands.options import add_device, add_embedder, add_trust, open_model, search_current_folder
from birdclf.errors import UserError
from birdclf.files import refuse_existing
from birdclf.text import printable

SUMMARY = "find the clips of recordings that sound like an example"
DESCRIPTION = (
    "Rank the windows of recordings by the cosine of their embedding and an example's. EMBEDDINGS is a folder that "
    "birdclf predict RUN AUDIO --out EMBEDDINGS --embeddings has written; the example is embedded by the same run. "
    "Writes matches.csv, a manifest with an empty species column, and index.html, a page to play and label the clips."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "embeddings", type=Path, metavar="EMBEDDINGS", help="folder of birdclf predict --out --embeddings"
    )
    parser.add_argument("query", metavar="QUERY", help="sound file to look for, best cut to the call itself")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for the table and the page")
    parser.add_argument("--n", type=int, default=50, metavar="N", help="number of clips (default: 50)")
    parser.add_argument(
        "--run", type=Path, metavar="RUN",
        help="run folder or ONNX file that made the embeddings, if it is not where it was",
    )  # fmt: skip
    add_device(parser)
    add_embedder(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> None:
    """Find clips."""
    if arguments.n < 1:
        raise UserError(f"--n {arguments.n}: a whole number, 1 or more.")
    search_current_folder(arguments.trust)
    from birdclf.detection.predict import Embedded
    from birdclf.labelling.clips import NEW_FOLDER
    from birdclf.labelling.search import TABLE, search

    out = arguments.out.expanduser()
    refuse_existing(out, NEW_FOLDER)
    embedded = Embedded.read(arguments.embeddings.expanduser())
    arguments.checkpoint = "best"
    source = embedded.source
    if source is not None and source.suffix == ".ckpt":  # RUN/checkpoints/best.ckpt
        source, arguments.checkpoint = source.parent.parent, source.stem
    arguments.run = arguments.run or source
    if arguments.run is None or not arguments.run.expanduser().exists():
        noted = f"it was {arguments.run}, which does not exist" if arguments.run else "which one is not noted"
        raise UserError(
            f"The run that made {embedded.folder} must embed the example too; {noted}. Say where it is: --run RUN"
        )
    classifier, query = open_model(arguments), printable(arguments.query)
    window_s, padding = classifier.input_spec.window_s, classifier.input_spec.padding
    found = search(embedded, classifier, arguments.query, out, arguments.n)
    if found.example.shortest_s < window_s - 1e-6:
        print(f"{query} is shorter than a window of {window_s:g} s, and filled up by {padding}", file=sys.stderr)
    print(f"{found.clips:,} clips of {found.windows:,} windows in {found.recordings:,} recordings")
    print(f"listen to them and label them on {out / 'index.html'}, or in {out / TABLE}")
