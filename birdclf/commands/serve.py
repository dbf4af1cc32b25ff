"""Arguments of ``birdclf serve``."""

import argparse
import importlib.util
from pathlib import Path

from birdclf.commands.options import add_model, add_thresholds, open_model, open_thresholds, search_current_folder
from birdclf.errors import UserError

SUMMARY = "serve a local web page to view, play and correct detections"
DESCRIPTION = (
    "Serve a web page on this machine. A recording that is dropped on it is shown as a spectrogram with its "
    "detections. Each can be played and corrected; corrections are saved as a manifest to train on: birdclf "
    "train data=manifest data.path=DIR/corrections.csv"
)
NEEDED = ("starlette", "uvicorn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    add_thresholds(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="network address of the server (default: 127.0.0.1, reachable from this machine only)",
    )
    parser.add_argument(
        "--port", type=int, default=7860, metavar="N", help="port; 0 takes any free one (default: 7860)"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="folder for uploads and corrections (default: RUN/serve)"
    )
    parser.add_argument(
        "--max-upload-mb", type=float, default=200, metavar="MB", help="largest upload in MB (default: 200)"
    )
    parser.add_argument(
        "--max-minutes", type=float, default=60, metavar="N", help="longest recording in minutes (default: 60)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    if not 0 <= arguments.port <= 65535:
        raise UserError(f"--port {arguments.port}: a number from 0 to 65535.")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UserError(f"birdclf serve needs {' and '.join(missing)}. Install it: pip install 'birdclf[serve]'")
    search_current_folder(arguments.trust)
    from birdclf.serving.server import serve
    from birdclf.serving.settings import Limits

    limits = Limits(arguments.max_upload_mb, arguments.max_minutes)
    folder = folder_of(arguments.run.expanduser(), arguments.folder)
    classifier = open_model(arguments)
    thresholds = open_thresholds(arguments, classifier.input_spec.classes)
    serve(classifier, arguments.host, arguments.port, folder, limits, thresholds)


def folder_of(source: Path, given: Path | None) -> Path:
    """Return where uploads and corrections are kept: as given, else in the run folder or beside the file."""
    if given is not None:
        return given.expanduser()
    return source / "serve" if source.is_dir() else source.with_name(f"{source.stem}_serve")
