"""What the benchmark measures, each side in a process of its own: memory allocation is set for a whole process."""

import csv
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from turns import Program, in_turns, running

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BATCH = 32
WARMUP = 3
PLAIN_WORKERS = (0, 2)

Figures = dict[str, Any]


def against_plain_loop(folder: Path) -> Figures:
    """Return windows a second of birdclf and of the plain loop, which may choose its better number of workers."""
    write_plain_files(folder / "plain")
    sides = {"birdclf": partial(birdclf_program, folder, "StepClock")}
    for workers in PLAIN_WORKERS:
        sides[f"plain, {workers} workers"] = partial(plain_program, folder, workers)
    rounds = in_turns(sides, WARMUP, rounds=7, steps=3)
    rates = {name: BATCH / median(row[name] for row in rounds) for name in sides}
    rival = max((name for name in sides if name != "birdclf"), key=lambda name: rates[name])
    ratios = [row[rival] / row["birdclf"] for row in rounds]
    return {"windows_per_s": rates, "rival": rival, "ratio": median(ratios), "ratios": ratios, "step_s": rounds}


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


def birdclf_program(folder: Path, clock: str) -> Program:
    """Train phase2b as a user does, with one of ``clocks.py`` among the callbacks."""
    lines = folder / f"{clock}.txt"
    command = [
        *(sys.executable, "-m", "birdclf", "train", "experiment=phase2b"),
        f"store.dir={os.environ.get('BIRDCLF_STORE', ROOT / 'outputs' / 'store')}",
        f"hydra.run.dir={folder / clock}",
        "+callbacks.progress.console_kwargs={force_terminal: true}",  # draws its bar as in front of a user
        f"+callbacks.clock={{_target_: clocks.{clock}, path: {lines}}}",
    ]
    return Program(command, folder / f"{clock}.log", lines)


def plain_program(folder: Path, workers: int) -> Program:
    """Run ``plain_loop.py``."""
    command = [sys.executable, "plain_loop.py", str(folder / "plain"), "--workers", str(workers)]
    return Program(command, folder / f"plain_{workers}.log")


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
