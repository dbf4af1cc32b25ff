"""Ways to turn sound files into features, each a program that prints its progress.

    python benchmarks/prepare_sides.py birdclf|decode|librosa mp3|ogg RECORDINGS OUT

``librosa`` is the loop that most people write, in one process. ``decode`` decodes, mixes and resamples on all cores,
which every program that reads sound files has to do. ``birdclf`` builds a feature store on all cores, audit included.
Each line has the time and the number of finished recordings.
"""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import soundfile
import soxr

from birdclf.audio.files import FileReader
from birdclf.data.catalog import Catalog
from birdclf.features.mfcc import MFCCStack
from birdclf.store.open import FeatureStore, open_store

FILES = 48
KINDS = ("mp3", "ogg")
A_TASK = 8  # recordings that a process decodes at a time
RATE_HZ = 32_000
MANY = 20_000  # more than are read in any turn


def recordings(folder: Path, kind: str) -> Iterator[Path]:
    for number in count():
        yield folder / f"{number % FILES}.{kind}"


def librosa_loop(folder: Path, kind: str, out: Path) -> None:
    import librosa

    for number, path in enumerate(recordings(folder, kind)):
        sound, rate = librosa.load(path, sr=RATE_HZ)
        mfcc = librosa.feature.mfcc(y=sound, sr=rate, n_mfcc=20, n_fft=1024, hop_length=320, pad_mode="constant")
        delta = librosa.feature.delta(mfcc, mode="nearest")
        delta2 = librosa.feature.delta(mfcc, order=2, mode="nearest")
        np.save(out / f"{number % FILES}.npy", np.stack([mfcc, delta, delta2]))
        report(number + 1)


def decode(paths: list[Path]) -> int:
    for path in paths:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = sound[:, 0] if sound.shape[1] == 1 else (sound[:, 0] + sound[:, 1]) / 2
        soxr.resample(np.ascontiguousarray(mono), rate, RATE_HZ)
    return len(paths)


def decode_loop(folder: Path, kind: str, out: Path) -> None:
    cores, files = os.cpu_count() or 1, recordings(folder, kind)
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(decode, [next(files) for _ in range(A_TASK)]) for _ in range(2 * cores)]
        for number in count(1):
            running.pop(0).result()
            running.append(pool.submit(decode, [next(files) for _ in range(A_TASK)]))
            report(number * A_TASK)


def birdclf_store(folder: Path, kind: str, out: Path) -> None:
    from birdclf.store import build
    from birdclf.store.plan import Journal, Rows

    class ReportingJournal(Journal):
        def add(self, rows: Rows, files: tuple[BinaryIO, ...]) -> None:
            super().add(rows, files)
            report(len(self.rows) + len(self.waiting))

    vars(build)["Journal"] = ReportingJournal
    store_of(recordings(folder, kind), MANY, out)


def store_of(files: Iterator[Path], clips: int, out: Path) -> FeatureStore:
    rows = [{"recording_id": f"{n:05d}", "species": "x", "path": str(next(files))} for n in range(clips)]
    return open_store(Catalog(pd.DataFrame(rows), FileReader(), "bench"), MFCCStack(), out)


def report(done: int) -> None:
    print(time.perf_counter(), done, flush=True)


SIDES = {"birdclf": birdclf_store, "decode": decode_loop, "librosa": librosa_loop}


def main() -> None:
    side, kind, folder, out = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    out.mkdir(parents=True)
    SIDES[side](folder, kind, out)


if __name__ == "__main__":
    main()
