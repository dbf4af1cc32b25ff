"""The words of ``birdclf serve``."""

import argparse
import importlib.util
from pathlib import Path

from birdclf.commands.options import add_model, search_current_folder
from birdclf.errors import UserError

SUMMARY = "a local page: drop a recording, see and hear what is detected, correct it"
DESCRIPTION = (
    "Serve a page on this machine. A recording that is dropped there is shown as a spectrogram with what is detected "
    "in it; each detection can be heard and corrected, and corrections are saved as a manifest to train on: birdclf "
    "train data=manifest data.path=DIR/corrections.csv"
)
NEEDED = ("starlette", "uvicorn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (127.0.0.1, this machine alone)"
    )
    parser.add_argument("--port", type=int, default=7860, metavar="N", help="port, 0 for any that is free (7860)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where uploads and corrections are kept (RUN/serve)")
    parser.add_argument("--max-upload-mb", type=float, default=200, metavar="MB", help="largest upload (200)")
    parser.add_argument("--max-minutes", type=float, default=60, metavar="N", help="longest recording (60)")


def run(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    if not 0 <= arguments.port <= 65535:
        raise UserError(f"--port {arguments.port}: a number from 0 to 65535.")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UserError(f"birdclf serve needs {' and '.join(missing)}. Install it: pip install 'birdclf[serve]'")
    search_current_folder(arguments.trust)
    from birdclf.detection.classifier import open_classifier
    from birdclf.serving.server import serve
    from birdclf.serving.settings import Limits

    limits = Limits(arguments.max_upload_mb, arguments.max_minutes)
    source: Path = arguments.run.expanduser()
    classifier = open_classifier(source, arguments.checkpoint, arguments.device, arguments.trust)
    serve(classifier, arguments.host, arguments.port, folder_of(source, arguments.folder), limits)


def folder_of(source: Path, given: Path | None) -> Path:
    """Return where uploads and corrections are kept: as given, else in the run folder or beside the file."""
    if given is not None:
        return given.expanduser()
    return source / "serve" if source.is_dir() else source.with_name(f"{source.stem}_serve")
