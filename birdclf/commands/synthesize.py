"""Arguments of ``birdclf synthesize``."""

import argparse
from pathlib import Path
from typing import Any

from birdclf.errors import UserError

OPTIONS = ("scale", "num_species", "seed", "minutes", "empty", "overlap")
SUMMARY = "write synthetic bird sounds (the procedural aviary) as files"
DESCRIPTION = (
    "Write the procedural aviary, a synthetic data set, as one folder of sound files per species, with a manifest; or "
    "soundscapes of its species with Raven selection tables; or recordings without birds."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("out", type=Path, help="output folder, which must be new or empty")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--soundscapes", type=int, metavar="N",
        help="write N recordings in which several species, or none, are heard, each with a Raven selection table",
    )  # fmt: skip
    instead.add_argument("--background", type=int, metavar="N", help="write N recordings of 10 to 30 s without birds")
    parser.add_argument(
        "--scale", type=float, help="number of recordings, as a share of the published counts (default: 0.02)"
    )
    parser.add_argument("--num-species", type=int, help="number of species (default: all 90)")
    parser.add_argument("--seed", type=int, help="seed of the soundscapes or the background (default: 0)")
    parser.add_argument("--minutes", type=float, help="length of a soundscape in minutes (default: 5)")
    parser.add_argument(
        "--empty", type=float, metavar="SHARE",
        help="share of a soundscape's segments of 5 s in which no species is heard (default: 0.5)",
    )  # fmt: skip
    parser.add_argument(
        "--overlap", type=float, metavar="SHARE",
        help="share of a soundscape's segments of 5 s in which two or more species are heard (default: 0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--sample-rate", type=int, default=32_000, metavar="HZ", help="sample rate of the files (default: 32000)"
    )
    parser.add_argument("--format", choices=("flac", "wav", "ogg"), default="flac", help="file format (default: flac)")


def run(arguments: argparse.Namespace) -> None:
    """Write the sound files and say how to use them."""
    from birdclf.data.sources.synthetic import export_audio, export_background, export_soundscapes, synthetic_catalog

    out = arguments.out
    files: dict[str, Any] = {"sample_rate_hz": arguments.sample_rate, "format": arguments.format}
    if arguments.soundscapes is not None:
        chosen = _given(arguments, "with --soundscapes", "num_species", "seed", "minutes", "empty", "overlap")
        annotations = export_soundscapes(out, arguments.soundscapes, **chosen, **files)
        print(f"{arguments.soundscapes} soundscapes with {annotations} annotations; evaluate a run on them with")
        print(f"  birdclf evaluate RUN --soundscapes {out}")
    elif arguments.background is not None:
        export_background(out, arguments.background, **_given(arguments, "with --background", "seed"), **files)
        print(f"{arguments.background} recordings without birds; add them to a training with")
        print(f"  birdclf train data.background={out}")
    else:
        chosen = {"scale": 0.02, **_given(arguments, "without --soundscapes or --background", "scale", "num_species")}
        try:
            catalog = synthetic_catalog(**chosen)
        except UserError as error:  # worded for the configuration
            raise UserError(str(error).replace("data.num_species", "--num-species").replace("data.", "--")) from error
        manifest = export_audio(catalog, out, **files)
        print(f"{len(catalog)} recordings of {len(catalog.classes)} species; train on them with")
        print(f"  birdclf train data=manifest data.path={manifest}")


def _given(arguments: argparse.Namespace, mode: str, *allowed: str) -> dict[str, Any]:
    """Return the given ones of the options ``allowed``, and refuse those that would do nothing."""
    given = {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}
    for name in given:
        if name not in allowed:
            raise UserError(f"--{name.replace('_', '-')} has no effect {mode}; leave it out.")
    return given
