"""Write a catalog's sound to audio files, one folder a species, with a manifest beside them."""

import csv
from pathlib import Path

import numpy as np
import soundfile
from rich.markup import escape
from rich.progress import track

from birdclf.audio.clip import AudioError
from birdclf.audio.waveform import read_waveform
from birdclf.catalog.catalog import Catalog
from birdclf.catalog.naming import safe_name
from birdclf.errors import UserError
from birdclf.quoting import shown
from birdclf.randomness import key_of

FORMATS = ("flac", "wav", "ogg")
SAMPLE_RATES_HZ = (8_000, 192_000)


def _file_name(text: str) -> str:
    """Return a name that is safe on every file system; a changed one gets a hash, so that no two collide."""
    safe = safe_name(text)
    return safe if safe == text else f"{safe}_{key_of(text):016x}"


def export_audio(catalog: Catalog, out: Path, *, sample_rate_hz: int = 32_000, format: str = "flac") -> Path:
    """Write every recording to ``out/<species>/<recording_id>.<format>`` and list them in ``out/manifest.csv``.

    The manifest has the columns ``recording_id``, ``path`` (relative to it), ``species`` and ``group``, and
    opens with ``data=manifest``. A recording that cannot be read is left out and listed with its reason in
    ``out/audit.csv``.

    Args:
        catalog: Any catalog.
        out: Folder to write to; it must not exist or be empty.
        sample_rate_hz: Sample rate of the files in Hz, from 8,000 to 192,000.
        format: ``flac``, ``wav`` or ``ogg``; FLAC and WAV hold 16 bits a sample.

    Returns:
        Path of the manifest.

    Raises:
        UserError: If the folder holds something, the format or sample rate is not supported, or no
            recording can be read.
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
    for clip, species, group in track(rows, description=escape(shown(f"Writing {catalog.name}"))):
        try:
            sound = read_waveform(catalog.reader, clip, sample_rate_hz)
        except AudioError as error:
            refused.append((clip.recording_id, str(error)))
            continue
        path = out / _file_name(species) / f"{_file_name(clip.recording_id)}.{format}"
        path.parent.mkdir(exist_ok=True)
        # A band-limited step overshoots when it is resampled; whole numbers would wrap or distort there.
        soundfile.write(path, np.clip(sound, -1.0, 1.0), sample_rate_hz)
        written.append((clip.recording_id, path.relative_to(out).as_posix(), species, group))

    if refused:
        _write_csv(out / "audit.csv", ("recording_id", "reason"), refused)
    if not written:
        raise UserError(f"{catalog.name}: none of its {len(rows)} recordings can be read; see {out / 'audit.csv'}.")
    manifest = out / "manifest.csv"
    _write_csv(manifest, ("recording_id", "path", "species", "group"), written)
    return manifest


def _write_csv(
    path: Path, header: tuple[str, ...], rows: list[tuple[str, str, str, str]] | list[tuple[str, str]]
) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
