"""Speed and memory of computing features from sound files."""

import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from statistics import median

import million
import numpy as np
import soundfile
from measure import Figures
from prepare_sides import FILES, KINDS, store_of
from turns import Program, rates_in_turns

from birdclf.audio.aviary.scene import AviaryReader
from birdclf.audio.resampling import read_waveform
from birdclf.data.sources.synthetic import synthetic_catalog

SECONDS = 30
RATE_HZ = 44_100
SIDES = ("birdclf", "decode", "librosa")
MANY = 20_000
HOURS = 2


def against_librosa(folder: Path) -> dict[str, Figures]:
    """Return, for each kind of file, recordings a second of birdclf, of decoding alone and of the librosa loop.

    ``over_librosa`` is how many times the loop's rate birdclf has, ``over_decoding`` how many times the time of
    decoding alone it takes; ``difference`` is the largest between its coefficients and the loop's, as a share of their
    range.
    """
    write_recordings(folder / "recordings")
    figures = {}
    for kind in KINDS:
        sides = {side: partial(_side, folder, kind, side) for side in SIDES}
        rounds = rates_in_turns(sides, warmup=16, rounds=5, seconds=5)
        figures[kind] = {
            "recordings_per_s": {side: median(row[side] for row in rounds) for side in SIDES},
            "over_librosa": median(row["birdclf"] / row["librosa"] for row in rounds),
            "over_decoding": median(row["decode"] / row["birdclf"] for row in rounds),
            "rounds": rounds,
            "difference": difference(folder, kind),
        }
    return figures


def difference(folder: Path, kind: str, recordings: int = 3) -> float:
    paths = (folder / "recordings" / f"{number}.{kind}" for number in range(recordings))
    store = store_of(paths, recordings, folder / "agreement")
    largest = 0.0
    for number, (offset, frames) in enumerate(store.index[["offset", "frames"]].to_numpy()):
        ours = store.frames[offset : offset + frames].T.astype(np.float32)
        theirs = np.load(folder / "librosa" / kind / f"{number}.npy")[0, :, :frames]
        largest = max(largest, float(np.abs(ours - theirs).max() / np.ptp(theirs)))
    return largest


def _side(folder: Path, kind: str, side: str) -> Program:
    command = [sys.executable, "prepare_sides.py", side, kind, str(folder / "recordings"), str(folder / side / kind)]
    return Program(command, folder / f"{side}_{kind}.log")


def write_recordings(folder: Path) -> None:
    """Write stereo MP3 and mono OGG files of 30 s at 44.1 kHz, sung by the aviary."""
    folder.mkdir()
    reader, clips = AviaryReader(), iter(synthetic_catalog().clips())
    for number in range(FILES):
        song = np.empty(0, np.float32)
        while len(song) < SECONDS * RATE_HZ:
            song = np.concatenate([song, read_waveform(reader, next(clips), RATE_HZ)])
        song = np.clip(song[: SECONDS * RATE_HZ], -1, 1)
        soundfile.write(folder / f"{number}.ogg", song, RATE_HZ)
        soundfile.write(folder / f"{number}.mp3", np.stack([song, 0.7 * np.roll(song, 30)], axis=1), RATE_HZ)


def peak_memory(folder: Path) -> dict[str, float]:
    """Return the peak memory in GB of ``birdclf prepare``, with all its processes: many recordings, and a long one."""
    made = {"many": folder / "many", "long": folder / "long"}
    rng = np.random.default_rng(1)
    sound = 0.1 * rng.standard_normal(RATE_HZ).astype(np.float32)
    for species in ("one", "other"):
        for place in made.values():
            (place / species).mkdir(parents=True)
        soundfile.write(folder / f"{species}.wav", sound[: RATE_HZ // 2], RATE_HZ)
        for number in range(MANY // 2):
            os.link(folder / f"{species}.wav", made["many"] / species / f"{number}.wav")
        with soundfile.SoundFile(made["long"] / species / "a.wav", "w", RATE_HZ, 2) as file:
            for _ in range(HOURS * 3600 if species == "one" else 1):
                file.write(np.stack([sound, sound[::-1]], axis=1))
    return {name: _peak_gb(folder, place) for name, place in made.items()}


def a_million(folder: Path) -> dict[str, float]:
    """Return seconds and peak memory in GB of loading, splitting and grouping a made-up catalogue."""
    million.write(folder / "million.parquet")
    command = [sys.executable, "million.py", str(folder / "million.parquet")]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    seconds, gigabytes = map(float, done.stdout.split())
    return {"seconds": seconds, "peak_gb": gigabytes}


def _peak_gb(folder: Path, root: Path) -> float:
    words = ("prepare", "data=folder", f"data.root={root}", f"store.dir={folder / 'store'}", "store.workers=2")
    return peak_gb(folder / f"{root.name}.log", *words, f"hydra.run.dir={folder / root.name}-run")


def peak_gb(log: Path, *words: str) -> float:
    """Return the peak memory in GB of a command of birdclf, with all its processes; its output goes to a log."""
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "birdclf", *words], stdout=output, stderr=output, start_new_session=True
        )
    peaks = [0.0]
    watch = threading.Thread(target=_watch, args=(process, peaks))
    watch.start()
    status = process.wait()
    watch.join()
    if status:
        raise RuntimeError(f"birdclf {' '.join(words)}: exit status {status}\n{log.read_text()}")
    return max(peaks)


def _watch(process: "subprocess.Popen[bytes]", peaks: list[float]) -> None:
    """Record the memory of a process group until it ends; shared pages are divided among its processes."""
    while process.poll() is None:
        total = 0
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if os.getpgid(int(place.name)) == process.pid:
                    rollup = (place / "smaps_rollup").read_text()
                    total += int(rollup.split("Pss:")[1].split()[0])
            except OSError:
                continue  # it has just ended
        peaks.append(total * 1024 / 1e9)
        time.sleep(0.2)
