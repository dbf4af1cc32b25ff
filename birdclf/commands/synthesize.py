"""The words of ``birdclf synthesize``."""

import argparse
from pathlib import Path

from birdclf.errors import UserError

SUMMARY = "write the procedural aviary as sound files"
DESCRIPTION = "Write the procedural aviary as a folder a species, with a manifest."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("out", type=Path, help="folder to write, which must be new or empty")
    parser.add_argument("--scale", type=float, default=0.02, help="share of the published counts (0.02)")
    parser.add_argument("--num-species", type=int, default=None, help="how many species (all 90)")
    parser.add_argument("--sample-rate", type=int, default=32_000, metavar="HZ", help="rate of the files (32000)")
    parser.add_argument("--format", choices=("flac", "wav", "ogg"), default="flac", help="kind of file (flac)")


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
