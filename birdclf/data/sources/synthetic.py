"""Procedural aviary with the published study's species and counts, as a source and as files."""

import csv
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray
from rich.markup import escape
from rich.progress import track

from birdclf.audio.aviary.naming import SAMPLE_RATE_HZ, RecordingName, durations_s, slug_of
from birdclf.audio.aviary.scene import AviaryReader
from birdclf.audio.clip import AudioError
from birdclf.audio.resampling import read_waveform
from birdclf.checks import above, whole
from birdclf.data.catalog import Catalog, Selection, select
from birdclf.data.tables import safe_name
from birdclf.errors import UserError
from birdclf.random import key_of, stream, uniform
from birdclf.text import printable


@lru_cache(maxsize=1)
def study_counts() -> tuple[tuple[str, int], ...]:
    """Return the 90 species and their recordings, most frequent first; the study left out the last, which has one."""
    with (files("birdclf.data.sources") / "species_counts.csv").open(encoding="utf-8") as file:
        return tuple((row["species"], int(row["recordings"])) for row in csv.DictReader(file, strict=True))


def has_the_studys_counts(counts: Iterable[tuple[str, int]]) -> bool:
    """Return whether species and counts are the study's 89, ignoring case and hyphens."""
    kept = [(_plain(species), n) for species, n in study_counts() if n > 1]
    return sorted((_plain(species), n) for species, n in counts) == sorted(kept)


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s-]+", name.strip().lower()))


NUM_RECORDISTS = 400
MAX_SCALE = 10.0


def _recordists(slug: str, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``(n,)`` numbers of the recordists: a few contribute much, different ones for each species."""
    share = 1.0 / (np.arange(NUM_RECORDISTS) + 4.0)
    share = share * stream("aviary", "devotion", slug).gamma(0.35, size=NUM_RECORDISTS)
    edges = np.cumsum(share) / share.sum()
    chance = uniform(key_of("aviary", "recordists", slug), numbers)
    return np.minimum(np.searchsorted(edges, chance, side="right"), NUM_RECORDISTS - 1)


def synthetic_catalog(
    scale: float = 1.0,
    min_per_species: int = 4,
    num_species: int | None = None,
    snr_db: Sequence[float] = (0.0, 24.0),
    **selection: Unpack[Selection],
) -> Catalog:
    """Return the catalog of the procedural aviary.

    90 species and 11,076 recordings at ``scale=1``, from 1,216 of the house sparrow to one of the hooded merganser;
    mono at 32 kHz, 2 to 20 s long. Nothing is downloaded or rendered here. A smaller scale selects a subset of the
    recordings of a larger one. Metrics measured on it cannot be compared with those of a real collection.

    Args:
        scale: Fraction of each species' full count, above 0 and at most 10.
        min_per_species: No species is scaled below this number, or below its full count where that is less.
        num_species: Number of species from 2 to 90, taken at even steps of the ranking by frequency, which keeps the
            imbalance; ``None`` takes all.
        snr_db: Lowest and highest signal-to-noise ratio in dB, within [-40, 60]; lower is harder.
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If a value is out of its range.
    """
    full = study_counts()
    above("data.scale", scale, 0, MAX_SCALE)
    whole("data.min_per_species", min_per_species, 1, 10_000)
    if num_species is not None:
        whole("data.num_species", num_species, 2, len(full))
        full = tuple(full[i * len(full) // num_species] for i in range(num_species))

    rows = []
    for name, count in full:
        slug = slug_of(name)
        numbers = np.arange(max(round(scale * count), min(count, min_per_species)), dtype=np.int64)
        for n, (r, duration_s) in enumerate(zip(_recordists(slug, numbers), durations_s(slug, numbers), strict=True)):
            rows.append((str(RecordingName(slug, f"r{r:04d}", n)), name, f"r{r:04d}", duration_s, SAMPLE_RATE_HZ))
    table = pd.DataFrame(rows, columns=["recording_id", "species", "group", "duration_s", "sample_rate_hz"])
    return select(Catalog(table, AviaryReader(snr_db=snr_db), "synthetic"), **selection)


FORMATS = ("flac", "wav", "ogg")
SAMPLE_RATES_HZ = (8_000, 192_000)


def _file_name(text: str) -> str:
    """Return a name that is valid on every file system; a changed one gets a hash, to be unique."""
    safe = safe_name(text)
    return safe if safe == text else f"{safe}_{key_of(text):016x}"


def export_audio(catalog: Catalog, out: Path, *, sample_rate_hz: int = 32_000, format: str = "flac") -> Path:
    """Write every recording to ``out/<species>/<recording_id>.<format>`` and list them in ``out/manifest.csv``.

    The manifest has the columns ``recording_id``, ``path`` (relative to it), ``species`` and ``group``, for
    ``data=manifest``. A recording that cannot be read is left out and listed with its reason in ``out/audit.csv``.

    Args:
        catalog: Any catalog.
        out: Folder to write to; it must not exist or be empty.
        sample_rate_hz: Sample rate of the files in Hz, from 8,000 to 192,000.
        format: ``flac``, ``wav`` or ``ogg``; FLAC and WAV have 16 bits per sample.

    Returns:
        Path of the manifest.

    Raises:
        UserError: If the folder is not empty, the format or sample rate is not supported, or no recording can be read.
    """
    if format not in FORMATS:
        raise UserError(f"The audio format is {format!r}; give one of {', '.join(FORMATS)}.")
    low, high = SAMPLE_RATES_HZ
    if not low <= sample_rate_hz <= high:
        raise UserError(f"The sample rate is {sample_rate_hz} Hz; give one from {low} to {high} Hz.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder; nothing is overwritten, give a new folder.")
    out.mkdir(parents=True, exist_ok=True)

    written: list[tuple[str, str, str, str]] = []
    refused: list[tuple[str, str]] = []
    table = catalog.table
    rows = list(zip(catalog.clips(), table["species"], table["group"], strict=True))
    for clip, species, group in track(rows, description=escape(printable(f"Writing {catalog.name}"))):
        try:
            sound = read_waveform(catalog.reader, clip, sample_rate_hz)
        except AudioError as error:
            refused.append((clip.recording_id, str(error)))
            continue
        path = out / _file_name(species) / f"{_file_name(clip.recording_id)}.{format}"
        path.parent.mkdir(exist_ok=True)
        # Resampling can overshoot full scale, where integers would wrap.
        soundfile.write(path, np.clip(sound, -1.0, 1.0), sample_rate_hz)
        written.append((clip.recording_id, path.relative_to(out).as_posix(), species, group))

    if refused:
        _write_csv(out / "audit.csv", ("recording_id", "reason"), refused)
    if not written:
        raise UserError(f"{catalog.name}: none of its {len(rows)} recordings can be read; see {out / 'audit.csv'}.")
    manifest = out / "manifest.csv"
    _write_csv(manifest, ("recording_id", "path", "species", "group"), written)
    return manifest


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
