"""Arguments of ``birdclf export``."""

import argparse
from pathlib import Path

from birdclf.commands.options import add_checkpoint, add_embedder, add_trust, search_current_folder
from birdclf.errors import UserError
from birdclf.export import OTHER_FILE
from birdclf.files import refuse_existing

SUMMARY = "write a run's network for other programs, or its model card"
DESCRIPTION = (
    "Export a trained network as one file that takes a waveform and returns probabilities; features, normalisation and "
    "calibration are included. The file is compared with the checkpoint on real recordings, and is not written if a "
    "probability differs by more than 0.0001. birdclf predict accepts the ONNX file in place of the run folder."
)
FILES = {"onnx": "model.onnx", "torch_export": "model.pt2", "card": "model_card.md"}
"""Formats, and the file that each goes to in the run's folder export."""
INT8 = "model_int8.onnx"
NETWORKS = ("onnx", "torch_export")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--format", nargs="+", action="extend", choices=tuple(FILES), metavar="FORMAT", dest="formats",
        help="onnx, torch_export (a .pt2 file for PyTorch) or card (a model card in Markdown); several are separated "
        "by spaces (default: onnx)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="new file (default: RUN/export/model.onnx, model.pt2 or model_card.md)"
    )
    parser.add_argument(
        "--verify", nargs="+", action="extend", default=[], metavar="AUDIO",
        help="sound files, folders or quoted patterns on which the file is compared with the checkpoint (default: "
        "validation recordings of the run)",
    )  # fmt: skip
    parser.add_argument(
        "--quantize",
        choices=("int8",),
        help="store the network's weights and activations as 8-bit integers; needs the run's recordings",
    )
    parser.add_argument("--licence", metavar="TEXT", help="licence of the model, for the model card")
    add_checkpoint(parser)
    parser.add_argument(
        "--source", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="where the run's recordings are now, such as data.root=DIR",
    )  # fmt: skip
    add_embedder(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> None:
    """Export, and say what was written."""
    formats = list(dict.fromkeys(arguments.formats or ["onnx"]))
    _check(arguments, formats)
    folder = arguments.run.expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder. Give the folder of a run, such as outputs/run/2026-01-31_12-00-00.")
    outs = {name: _out(arguments, folder, name) for name in formats}
    for out in outs.values():
        refuse_existing(out, OTHER_FILE)
    search_current_folder(arguments.trust)
    if "card" in outs:
        from birdclf.export.card import card

        text = card(folder, arguments.licence)  # a run that can have none is refused before minutes are spent
    if set(formats) & set(NETWORKS):
        from birdclf.export.network import Origin, export_network

        where = (arguments.source, arguments.trust, arguments.embedder)
        origin = Origin(folder, arguments.checkpoint, arguments.verify, *where)
        for form in NETWORKS:
            if form in outs:
                export_network(origin, form, outs[form], int8=arguments.quantize == "int8")
    if "card" in outs:
        from birdclf.export.card import write_card

        write_card(outs["card"], text)
    for out in outs.values():
        print(f"written: {out}")


def _out(arguments: argparse.Namespace, folder: Path, name: str) -> Path:
    """Return the file of a format."""
    if arguments.out is None:
        return folder / "export" / (INT8 if name == "onnx" and arguments.quantize else FILES[name])
    out: Path = arguments.out.expanduser()
    ending = Path(FILES[name]).suffix
    if name != "card" and out.suffix.lower() != ending:
        raise UserError(f"--out {out}: the name of a file of --format {name} must end in {ending}.")
    return out


def _check(arguments: argparse.Namespace, formats: list[str]) -> None:
    """Refuse options that would change nothing."""
    networks = set(formats) & set(NETWORKS)
    for option, given, fits, way in (
        ("--out", arguments.out is not None, len(formats) == 1, "names one file; give one --format, or leave it out"),
        ("--quantize", arguments.quantize, networks == {"onnx"}, "is for --format onnx alone"),
        ("--licence", arguments.licence is not None, "card" in formats, "is for the card: add --format card"),
        ("--verify", arguments.verify, networks, "is for --format onnx and torch_export"),
        ("--source", arguments.source, networks, "is for --format onnx and torch_export"),
        ("--embedder", arguments.embedder, networks, "is for --format onnx and torch_export"),
        ("--trust", arguments.trust, networks, "is for --format onnx and torch_export"),
        ("--checkpoint last", arguments.checkpoint == "last", "card" not in formats, "has no card: its figures are "
         "those of the best one"),
    ):  # fmt: skip
        if given and not fits:
            raise UserError(f"{option} {way}.")
    if arguments.source and arguments.verify and not arguments.quantize:
        raise UserError(
            "--source says where the run's recordings are; --verify takes others instead. Give one of them."
        )
    if arguments.licence is not None and not arguments.licence.strip():
        raise UserError("--licence is empty. Give its name, such as --licence 'CC BY 4.0', or leave it out.")
