"""Seeded fakes of the layouts that public sources have: real names and columns, tiny made-up sound."""

import csv
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

CODES = {"aldfly": "Alder Flycatcher", "redcro": "Red Crossbill", "wooduc": "Wood Duck"}
LATIN = {"aldfly": "Empidonax alnorum", "redcro": "Loxia curvirostra", "wooduc": "Aix sponsa"}
EACH = 6  # recordings of each species
RATE_HZ = 16_000

BIRDCLEF = {
    2021: "primary_label secondary_labels type latitude longitude scientific_name common_name author date filename "
    "license rating time url",
    2022: "primary_label secondary_labels type latitude longitude scientific_name common_name author license rating "
    "time url filename",
    2025: "primary_label secondary_labels type filename collection rating url latitude longitude scientific_name "
    "common_name author license",
}
KAGGLE = (
    "rating playback_used ebird_code channels date duration filename species title secondary_labels bird_seen sci_name "
    "location latitude sampling_rate type elevation bitrate_of_mp3 file_type background xc_id url country author "
    "primary_label longitude time recordist license"
)
RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")


def sound(path: Path, hz: float, seconds: float = 1.5, seed: int = 0, **options: str) -> Path:
    """Write a tone in noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, round(hz)])
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    wave = 0.3 * np.sin(2 * np.pi * hz * rng.uniform(0.97, 1.03) * t) + 0.02 * rng.standard_normal(len(t))
    soundfile.write(path, wave.astype(np.float32), RATE_HZ, **options)
    return path


def write_csv(path: Path, header: str | list[str], rows: list[dict[str, object]], encoding: str = "utf-8") -> Path:
    """Write rows under a header; values that a row lacks are empty."""
    names = header.split() if isinstance(header, str) else header
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([[row.get(name, "") for name in names] for row in rows])
    return path


def birdclef(root: Path, year: int = 2025, encoding: str = "utf-8", labels: dict[str, str] | None = None) -> Path:
    """Write the layout of a year: 2021, 2022 (to 2024) or 2025."""
    audio = root / ("train_short_audio" if year == 2021 else "train_audio")
    rows: list[dict[str, object]] = []
    for kind, (code, name) in enumerate((labels or CODES).items()):
        for i in range(EACH):
            file = f"XC{1000 * kind + i}.ogg"
            sound(audio / code / file, 900.0 * (kind + 1), seed=i, format="OGG", subtype="VORBIS")
            rows.append(
                {
                    "primary_label": code,
                    "secondary_labels": "['redcro', 'houspa']" if i == 0 else "['']" if year == 2025 else "[]",
                    "type": "['call', 'song']",
                    "latitude": 47.5,
                    "longitude": -8.25,
                    "scientific_name": LATIN.get(code, name),
                    "common_name": name,
                    "author": f"Zoë Müller, {i % 3}",
                    "date": "2019-05-01",
                    "filename": file if year == 2021 else f"{code}/{file}",
                    "license": "Creative Commons Attribution-NonCommercial-ShareAlike 3.0",
                    "rating": (0, 3.5)[i % 2],
                    "collection": "XC",
                }
            )
    write_csv(root / ("train.csv" if year == 2025 else "train_metadata.csv"), BIRDCLEF[year], rows, encoding)
    if year == 2025:
        taxa = [{"primary_label": code, "class_name": "Aves"} for code in (labels or CODES)]
        write_csv(root / "taxonomy.csv", "primary_label inat_taxon_id scientific_name common_name class_name", taxa)
    return root


def kaggle_extended(root: Path, halves: tuple[str, ...] = ("A-M", "N-Z"), apart: bool = False) -> Path:
    """Write one half or both; each CSV lists all rows, with ``apart`` in a folder for each download."""
    rows: list[dict[str, object]] = []
    for kind, (code, name) in enumerate(CODES.items()):
        half = "A-M" if code[0] <= "m" else "N-Z"
        for i in range(EACH):
            number = 100 * kind + i
            home = root / half.lower() if apart else root
            if half in halves:
                sound(home / half / code / f"XC{number}.mp3", 900.0 * (kind + 1), seed=i, format="MP3")
            rows.append(
                {
                    "rating": (0.0, 4.5)[i % 2],
                    "ebird_code": code,
                    "channels": "1 (mono)" if i else "2 (stereo)",
                    "duration": 2,
                    "filename": f"XC{number}.mp3",
                    "species": name,
                    "secondary_labels": "['Loxia curvirostra_Red Crossbill']" if i == 0 else "[]",
                    "sci_name": LATIN[code],
                    "sampling_rate": "44100 (Hz)" if i else "16000 (Hz)",
                    "xc_id": number,
                    "recordist": f"recordist {i % 3}",
                    "license": "CC BY-NC 4.0",
                }
            )
    for half in halves:
        home = root / half.lower() if apart else root
        write_csv(home / ("train_extended.csv" if apart else f"{half} train_extended.csv"), KAGGLE, rows)
    return root


def selections(path: Path, rows: list[tuple[object, ...]], *more: str) -> Path:
    """Write a Raven selection table with further columns ``more``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(map(str, row)) for row in ((*RAVEN, *more), *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def long_recordings(root: Path, count: int = EACH, seconds: float = 6.0) -> list[Path]:
    """Write recordings with awkward names, in two folders."""
    names = ("plain", "with space", "a,b", "x=1", 'it\'s "so"', "Grünspecht")
    return [
        sound(root / f"site {i % 2}" / f"{names[i % 6]}{i}.wav", 1500.0, seconds=seconds, seed=i) for i in range(count)
    ]


def raven(root: Path) -> Path:
    """Write a table beside each recording: two species each, every selection in two views."""
    for file in long_recordings(root):
        rows: list[tuple[object, ...]] = []
        for number, (start, species) in enumerate([(0.5, "Alauda arvensis"), (2.5, "Bubo bubo")], start=1):
            for view in ("Waveform 1", "Spectrogram 1"):
                rows.append((number, view, 1, start, start + 1.5, 1000.0, 4000.0, species))
        selections(file.with_name(f"{file.stem}.Table.1.selections.txt"), rows, "Species")
    return root


def audacity(root: Path) -> Path:
    """Write a label track beside each recording: two species each, the first with a frequency range."""
    for file in long_recordings(root):
        track = "0.500000\t2.000000\tAlauda arvensis\n\\\t1000.0\t4000.0\n2.500000\t4.000000\tGrünspecht\n"
        file.with_suffix(".txt").write_text(track, encoding="utf-8")
    return root


def soundscape(root: Path) -> Path:
    """Write a CSV table of recordings of 10 s: two species that overlap, then none."""
    rows: list[dict[str, object]] = []
    for file in long_recordings(root, seconds=10.0):
        for start, end, label in ((0.2, 1.5, "Alauda arvensis"), (1.0, 3.2, "Bubo bubo")):
            rows.append({"file": file.relative_to(root).as_posix(), "start_s": start, "end_s": end, "label": label})
    write_csv(root / "annotations.csv", "file start_s end_s label", rows)
    return root


def birdset(root: Path, config: str = "HSN") -> Path:
    """Write a configuration of BirdSet: two shards of focal recordings, one of segments, and their metadata."""
    folder = root / config
    recordists = (f"recordist {i % 3}" for i in range(99))
    train: list[dict[str, object]] = []
    for kind, code in enumerate(CODES):
        for i in range(EACH):
            name = f"XC{1000 * kind + i}.ogg"
            others = ["redcro", "houspa"] if i == 0 else []
            sound(folder / "made" / name, 900.0 * (kind + 1), seed=i, format="OGG", subtype="VORBIS")
            train.append(
                {"filepath": name, "ebird_code": code, "ebird_code_multilabel": [code], "ebird_code_secondary": others,
                 "quality": "ABC"[i % 3], "recordist": next(recordists), "lat": 37.1, "long": -118.4,
                 "genus": LATIN[code].split()[0], "detected_events": [[0.1, 0.9]], "event_cluster": [0]}
            )  # fmt: skip
    heard: list[list[str]] = [["aldfly"], [], ["redcro", "aldfly"], ["wooduc"], [], ["redcro"]]
    segments = []
    for i, codes in enumerate(heard):
        name = f"HSN_{i // 3 + 1:03d}_20150708_061805_{5 * (i % 3):03d}_{5 * (i % 3) + 5:03d}.ogg"
        sound(folder / "made" / name, 900.0 * (i + 1), 5.0, seed=i, format="OGG", subtype="VORBIS")
        segments.append({"filepath": name, "ebird_code_multilabel": codes, "source": "soundscapes", "recordist": None})
    pd.DataFrame(train).to_parquet(folder / f"{config}_metadata_train.parquet")
    pd.DataFrame(segments).set_index("filepath").to_parquet(folder / f"{config}_metadata_test_5s.parquet")
    names = [str(row["filepath"]) for row in train]
    shards = {"train_shard_0001": names[::2], "train_shard_0002": names[1::2]}
    shards["test5s_shard_0001"] = [str(row["filepath"]) for row in segments]
    for shard, members in shards.items():
        with tarfile.open(folder / f"{config}_{shard}.tar.gz", "w:gz") as archive:
            for name in members:
                archive.add(folder / "made" / name, name)
    shutil.rmtree(folder / "made")
    return root


# What writes a source for ``data=<name> data.root=DIR``.
BUILDERS: dict[str, Callable[[Path], Path]] = {
    "birdclef": birdclef,
    "kaggle_extended": kaggle_extended,
    "raven": raven,
    "audacity": audacity,
    "soundscape": soundscape,
    "birdset": birdset,
}
