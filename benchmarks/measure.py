"""Measurements of the benchmark, each in its own process: memory allocation is set for a whole process."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch
from ceiling import (
    BATCH,
    least_over_the_loop,
    network_layers,
    processor_features,
    shares,
    training_flop,
    training_precision,
)
from turns import Program, in_turns, running

from birdclf.training.trainer import fast_precision

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WARMUP = 3
STORE = os.environ.get("BIRDCLF_STORE", str(ROOT / "outputs" / "store"))
PLAIN_WORKERS = (0, 2)
EXPERIMENTS = ("phase2b", "best")
"""Trained beside the ceiling: AudioCNNv2 and AudioCNNv3."""
COMMANDS = ("train --help", "train experiment=phase2b --cfg job")

Figures = dict[str, Any]
Sides = dict[str, Callable[[], Program]]


def against_plain_loop(folder: Path) -> Figures:
    """Return windows a second of birdclf and of the plain loop, which may choose its better number of workers.

    Birdclf trains in the precision that ``trainer.precision=auto`` takes on the CPU, the plain loop in float32.
    """
    sides: Sides = {"birdclf": partial(birdclf_program, folder, "StepClock")}
    found = _beside_plain_loops(folder, sides, rounds=7, steps=3)
    return {**found, "precision": training_precision()[0], "at_least": least_over_the_loop(processor_features())}


def on_a_gpu(folder: Path) -> Figures:
    """Return :func:`against_plain_loop` on a GPU, and windows a second of ``best``; nothing where there is none."""
    if not torch.cuda.is_available():
        return {}
    sides: Sides = {
        side: partial(birdclf_program, folder, "StepClock", experiment=name, accelerator="gpu")
        for side, name in (("birdclf", "phase2b"), ("best", "best"))
    }
    found = _beside_plain_loops(folder, sides, "--device", "cuda", rounds=7, steps=20)
    return {**found, "precision": fast_precision("gpu")[0]}


def _beside_plain_loops(folder: Path, sides: Sides, *options: str, rounds: int, steps: int) -> Figures:
    write_plain_files(folder / "plain")
    plain = {f"plain, {n} workers": partial(plain_program, folder, n, *options) for n in PLAIN_WORKERS}
    table = in_turns({**sides, **plain}, WARMUP, rounds, steps)
    rates = {name: BATCH / median(row[name] for row in table) for name in table[0]}
    rival = max(plain, key=lambda name: rates[name])
    ratios = [row[rival] / row["birdclf"] for row in table]
    return {"windows_per_s": rates, "rival": rival, "ratio": median(ratios), "ratios": ratios, "step_s": table}


def of_the_ceiling(folder: Path) -> Figures:
    """Return the best rate of this processor in each data type, and the share of it that training reaches."""
    path = folder / "rates.json"
    sides: Sides = {name: partial(birdclf_program, folder, "StepClock", experiment=name) for name in EXPERIMENTS}
    command = [sys.executable, "ceiling.py", str(path), *EXPERIMENTS]
    sides["ceiling"] = lambda: Program(command, folder / "ceiling.log")
    rounds = in_turns(sides, WARMUP, rounds=7, steps=3)
    rates = json.loads(path.read_text())
    precision, dtype = training_precision()
    flop = {name: training_flop(network_layers(name)) for name in EXPERIMENTS}
    found = shares(flop, rounds, rates[dtype])
    return {**found, "precision": precision, "dtype": dtype, "rates": rates, "step_s": rounds}


def predicting(folder: Path) -> Figures:
    """Return windows a second of predicting, and of the plain loop that predicts; it may choose its workers."""
    return _beside_plain_loops(folder, {"birdclf": lambda: predicting_program(folder)}, "--predict", rounds=7, steps=8)


def a_sweep(folder: Path) -> Figures:
    """Return the time of a sweep of 8 small jobs over the sum of their training times."""
    sweep = folder / "sweep"
    words = ["train", "-m", "model=audio_cnn", "loss=cross_entropy,focal", "seed=1,2,3,4", "trainer.max_epochs=3"]
    began = time.perf_counter()
    command = [sys.executable, "-m", "birdclf", *words, f"store.dir={STORE}", f"hydra.sweep.dir={sweep}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{command}: exit status {done.returncode}\n{done.stderr}")
    epochs = [row["seconds"] for file in sweep.glob("*/history.json") for row in json.loads(file.read_text())]
    return {"ratio": seconds / sum(epochs), "seconds": seconds, "training_s": sum(epochs), "epochs": len(epochs)}


def growth_of_memory(folder: Path) -> Figures:
    """Return the anonymous memory in MB of a training on 10,000 and on 1,000,000 windows of a made-up store."""
    peaks = {}
    for windows in (10_000, 1_000_000):
        place = folder / f"growth_{windows}"
        place.mkdir()
        command = [sys.executable, "growth.py", str(place), str(windows)]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
        peaks[str(windows)] = float(done.stdout.split()[-1])
    return {"growth_mb": peaks["1000000"] - peaks["10000"], "peak_mb": peaks}


def against_bare_steps(folder: Path) -> Figures:
    """Return medians of Lightning's step, a bare step and its parts in seconds, and of the ratio of neighbours.

    ``error`` is the standard error of that median, from the quartiles of the ratios.
    """
    with running(birdclf_program(folder, "BareSteps")) as program:
        pairs = program.read(WARMUP + 40)[WARMUP : WARMUP + 40]
    columns = dict(zip(("lightning_s", "bare_s", "fetch_s", "features_s"), zip(*pairs, strict=True), strict=True))
    ratios = [a / b for a, b in zip(columns["lightning_s"], columns["bare_s"], strict=True)]
    low, _, high = quantiles(ratios)
    error = 1.25 * (high - low) / 1.35 / len(ratios) ** 0.5
    return {
        "ratio": median(ratios),
        "error": error,
        "ratios": ratios,
        **{name: median(column) for name, column in columns.items()},
    }


def starting(folder: Path) -> dict[str, float]:
    """Return the seconds of commands that only print."""
    return {words: seconds_to_answer(folder, *words.split()) for words in COMMANDS}


def seconds_to_answer(folder: Path, *words: str) -> float:
    """Return the median time of a command of birdclf, of three after one that fills the disk cache."""

    def once() -> float:
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "birdclf", *words], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"birdclf {' '.join(words)}: exit status {done.returncode}\n{done.stderr}")
        return time.perf_counter() - began

    once()
    return median(once() for _ in range(3))


def birdclf_program(
    folder: Path, clock: str, module: str = "clocks", experiment: str = "phase2b", accelerator: str = "cpu"
) -> Program:
    """Train as a user does, with a clock of ``clocks.py`` or another module here among the callbacks."""
    lines = folder / f"{experiment}_{clock}.txt"
    lines.unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "birdclf", "train", f"experiment={experiment}"),
        f"trainer.accelerator={accelerator}",
        f"store.dir={STORE}",
        f"hydra.run.dir={folder / f'{experiment}_{time.monotonic_ns()}'}",
        "+callbacks.progress.console_kwargs={force_terminal: true}",  # draws its bar as in front of a user
        f"+callbacks.clock={{_target_: {module}.{clock}, path: {lines}}}",
    ]
    return Program(command, lines.with_suffix(".log"), lines)


def plain_program(folder: Path, workers: int, *options: str) -> Program:
    """Run ``plain_loop.py``."""
    command = [sys.executable, "plain_loop.py", str(folder / "plain"), "--workers", str(workers), *options]
    return Program(command, folder / f"plain_{workers}{''.join(options)}.log")


def predicting_program(folder: Path) -> Program:
    """Run ``predicting.py``."""
    lines = folder / "predicting.txt"
    return Program([sys.executable, "predicting.py", STORE, str(lines)], folder / "predicting.log", lines)


def write_plain_files(folder: Path) -> None:
    """Write an epoch of made-up features, one file a recording: their values do not matter to the speed."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    with open(folder / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label"])
        for i in range(800):
            np.save(folder / f"{i}.npy", rng.standard_normal((3, 20, 500), dtype=np.float32))
            table.writerow([f"{i}.npy", rng.integers(89)])
