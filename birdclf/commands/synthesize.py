"""Arguments of ``birdclf synthesize``."""

import argparse
from pathlib import Path

from birdclf.errors import UserError

SUMMARY = "write synthetic bird sounds (the procedural aviary) as files"
DESCRIPTION = (
    "Write the procedural aviary, a synthetic data set, as one folder of sound files per species, with a manifest."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("out", type=Path, help="output folder, which must be new or empty")
    parser.add_argument(
        "--scale",
        type=float,
        default=0.02,
        help="number of recordings, as a share of the published counts (default: 0.02)",
    )
    parser.add_argument("--num-species", type=int, default=None, help="number of species (default: all 90)")
    parser.add_argument(
        "--sample-rate", type=int, default=32_000, metavar="HZ", help="sample rate of the files (default: 32000)"
    )
    parser.add_argument("--format", choices=("flac", "wav", "ogg"), default="flac", help="file format (default: flac)")


def run(arguments: argparse.Namespace) -> None:
    """Write the sound files and say how to train on them."""
    from birdclf.data.sources.synthetic import export_audio, synthetic_catalog

    try:
        catalog = synthetic_catalog(scale=arguments.scale, num_species=arguments.num_species)
    except UserError as error:  # worded for the configuration
        raise UserError(str(error).replace("data.num_species", "--num-species").replace("data.", "--")) from error
    manifest = export_audio(catalog, arguments.out, sample_rate_hz=arguments.sample_rate, format=arguments.format)
    print(f"{len(catalog)} recordings of {len(catalog.classes)} species; train on them with")
    print(f"  birdclf train data=manifest data.path={manifest}")
