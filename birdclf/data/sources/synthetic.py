"""Procedural aviary with the published study's species and counts, as a source and as files."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
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
from birdclf.audio.aviary.soundscape import (
    Heard,
    SoundscapeSettings,
    background_name,
    render_background,
    render_soundscape,
)
from birdclf.audio.clip import AudioError, Waveform
from birdclf.audio.resampling import read_waveform, resample_blocks
from birdclf.checks import above, in_range, require, whole
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
    above("data.scale", scale, 0, MAX_SCALE)
    whole("data.min_per_species", min_per_species, 1, 10_000)
    rows = []
    for name, count in _some_species("data.num_species", num_species):
        slug = slug_of(name)
        numbers = np.arange(max(round(scale * count), min(count, min_per_species)), dtype=np.int64)
        for n, (r, duration_s) in enumerate(zip(_recordists(slug, numbers), durations_s(slug, numbers), strict=True)):
            rows.append((str(RecordingName(slug, f"r{r:04d}", n)), name, f"r{r:04d}", duration_s, SAMPLE_RATE_HZ))
    table = pd.DataFrame(rows, columns=["recording_id", "species", "group", "duration_s", "sample_rate_hz"])
    return select(Catalog(table, AviaryReader(snr_db=snr_db), "synthetic"), **selection)


def _some_species(key: str, number: int | None) -> tuple[tuple[str, int], ...]:
    """Return the species at even steps of the ranking and their counts; ``key`` names the number in its error."""
    full = study_counts()
    if number is None:
        return full
    whole(key, number, 2, len(full))
    return tuple(full[i * len(full) // number] for i in range(number))


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
    _prepare(out, sample_rate_hz, format)
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
        _write_sound(path, [sound], sample_rate_hz)
        written.append((clip.recording_id, path.relative_to(out).as_posix(), species, group))

    if refused:
        _write_csv(out / "audit.csv", ("recording_id", "reason"), refused)
    if not written:
        raise UserError(f"{catalog.name}: none of its {len(rows)} recordings can be read; see {out / 'audit.csv'}.")
    manifest = out / "manifest.csv"
    _write_csv(manifest, ("recording_id", "path", "species", "group"), written)
    return manifest


def export_soundscapes(
    out: Path,
    number: int,
    *,
    num_species: int | None = None,
    seed: int = 0,
    minutes: float = 5.0,
    empty: float = 0.5,
    overlap: float = 0.1,
    sample_rate_hz: int = 32_000,
    format: str = "flac",
) -> int:
    """Write soundscapes to ``out/<site>.<format>``, each with ``<site>.Table.1.selections.txt``, a Raven table.

    Every soundscape is another site, with its recordist, individuals and 8 to 15 species; all are unknown to the
    recordings of :func:`synthetic_catalog`. One depends on the seed and its own number: a larger ``number`` only adds.

    Args:
        out: Folder to write to; it must not exist or be empty.
        number: Number of soundscapes.
        num_species: Number of species, the same as of :func:`synthetic_catalog`.
        seed: Seed of the soundscapes.
        minutes: Length of each, 0.5 to 30.
        empty: Share of the segments of 5 s in which no species is heard.
        overlap: Share of the segments in which two or more species are heard.
        sample_rate_hz: Sample rate of the files in Hz, from 8,000 to 192,000.
        format: ``flac``, ``wav`` or ``ogg``; FLAC and WAV have 16 bits per sample.

    Returns:
        Number of annotations.

    Raises:
        UserError: If the folder is not empty, or a value is out of its range.
    """
    whole("--soundscapes", number, 1, MOST_FILES)
    whole("--seed", seed, 0)
    in_range("--minutes", minutes, 0.5, 30)
    in_range("--empty", empty, 0, 1)
    in_range("--overlap", overlap, 0, 1)
    require(overlap <= 1 - empty + 1e-9, "--overlap", overlap, f"at most {1 - empty:g}, the share that --empty leaves")
    species = _some_species("--num-species", num_species)
    _prepare(out, sample_rate_hz, format)
    settings = SoundscapeSettings(species, seed, minutes, empty, overlap)
    annotations = 0
    for i in track(range(number), description="Writing soundscapes"):
        sound, heard = render_soundscape(settings, i)
        name = settings.site(i)
        _write_sound(
            out / f"{name}.{format}", resample_blocks(_minutes(sound), SAMPLE_RATE_HZ, sample_rate_hz), sample_rate_hz
        )
        _write_csv(out / f"{name}.Table.1.selections.txt", RAVEN, _selections(heard), delimiter="\t")
        annotations += len(heard)
    return annotations


def export_background(
    out: Path, number: int, *, seed: int = 0, sample_rate_hz: int = 32_000, format: str = "flac"
) -> None:
    """Write recordings of 10 to 30 s without any bird to ``out/<name>.<format>``, each by another recordist.

    Raises:
        UserError: If the folder is not empty, or a value is out of its range, as for :func:`export_soundscapes`.
    """
    whole("--background", number, 1, MOST_FILES)
    whole("--seed", seed, 0)
    _prepare(out, sample_rate_hz, format)
    for i in track(range(number), description="Writing background"):
        blocks = resample_blocks([render_background(seed, i)], SAMPLE_RATE_HZ, sample_rate_hz)
        _write_sound(out / f"{background_name(seed, i)}.{format}", blocks, sample_rate_hz)


MOST_FILES = 100_000
RAVEN = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)", "Species",
)  # fmt: skip


def _selections(heard: Iterable[Heard]) -> list[tuple[str, ...]]:
    return [
        (str(n), "Spectrogram 1", "1", *(f"{t:.3f}" for t in (one.start_s, one.end_s)),
         *(f"{hz:.1f}" for hz in (one.low_hz, one.high_hz)), one.species)
        for n, one in enumerate(heard, start=1)
    ]  # fmt: skip


def _prepare(out: Path, sample_rate_hz: int, format: str) -> None:
    """Make an output folder, or refuse it, a sample rate or a format."""
    if format not in FORMATS:
        raise UserError(f"The audio format is {format!r}; give one of {', '.join(FORMATS)}.")
    low, high = SAMPLE_RATES_HZ
    if not low <= sample_rate_hz <= high:
        raise UserError(f"The sample rate is {sample_rate_hz} Hz; give one from {low} to {high} Hz.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder; nothing is overwritten, give a new folder.")
    out.mkdir(parents=True, exist_ok=True)


def _minutes(sound: Waveform) -> Iterator[Waveform]:
    """Yield a sound minute by minute: libsndfile cannot write hours of OGG at once."""
    for start in range(0, len(sound), 60 * SAMPLE_RATE_HZ):
        yield sound[start : start + 60 * SAMPLE_RATE_HZ]


def _write_sound(path: Path, blocks: Iterable[Waveform], sample_rate_hz: int) -> None:
    with soundfile.SoundFile(path, "w", sample_rate_hz, channels=1) as file:
        for block in blocks:
            # Resampling can overshoot full scale, where integers would wrap.
            file.write(np.clip(block, -1.0, 1.0))


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
