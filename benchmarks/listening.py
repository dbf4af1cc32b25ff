"""Speed, memory and start-up time of ``birdclf predict``: AudioCNNv2 of 89 species, untrained."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
from preparing import peak_gb

CLASSES = 89
RATE_HZ = 32_000
SHORT_S = 5
HOURS = 6
ROUNDS = 3


def listening(folder: Path) -> dict[str, Any]:
    """Return the speed in multiples of real time, the peak memory of 6 hours and the seconds to the first detection."""
    speed, run = times_real_time(folder, "phase2b"), folder / "run"
    files = {name: folder / f"{name}.flac" for name in ("minute", "long")}
    for name, length in (("minute", 60), ("long", HOURS * 3600)):
        write_noise(files[name], length)
    long_out = folder / "out_long"
    return {
        **speed,
        "peak_gb": peak_gb(folder / "long.log", "predict", str(run), str(files["long"]), "--out", str(long_out)),
        "first_s": median([first_result_s(run, files["minute"]) for _ in range(ROUNDS + 1)][1:]),
    }


def times_real_time(folder: Path, experiment: str) -> dict[str, Any]:
    """Return the speed of an untrained run of an experiment, in multiples of real time, start-up apart."""
    run = folder / "run"
    write_untrained(run, experiment)
    files = {name: folder / f"{name}.flac" for name in ("short", "hour")}
    for name, length in (("short", SHORT_S), ("hour", 3600)):
        write_noise(files[name], length)
    times: dict[str, list[float]] = {name: [] for name in files}
    for round_ in range(ROUNDS + 1):
        for name, taken in times.items():
            began = time.perf_counter()
            _run("predict", run, files[name], "--out", folder / f"out_{name}_{round_}")
            taken.append(time.perf_counter() - began)
    seconds = [hour - short for hour, short in zip(times["hour"][1:], times["short"][1:], strict=True)]
    return {"times_real_time": (3600 - SHORT_S) / median(seconds), "seconds": seconds}


def first_result_s(run: Path, file: Path) -> float:
    """Return the seconds from the start of a command to the first detection on its standard output."""
    words = [sys.executable, "-m", "birdclf", "predict", str(run), str(file), "--min-confidence", "0"]
    began = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        command.stdout.readline()  # the table's header
        row = command.stdout.readline()
        seconds = time.perf_counter() - began
        command.stdout.read()
    assert row.count(",") >= 5, row
    return seconds


def write_untrained(run: Path, experiment: str) -> None:
    """Write a run folder with just a checkpoint of an experiment's untrained network."""
    import torch
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from torch import nn

    from birdclf.config import conf_dir
    from birdclf.runs.checkpoint import CHECKPOINT_FORMAT, write_checkpoint

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[f"experiment={experiment}"])
    torch.manual_seed(1)
    features = instantiate(cfg.features)
    network = instantiate(cfg.model, num_classes=CLASSES, in_channels=features.shape[0])
    own = {
        "format": CHECKPOINT_FORMAT,
        "classes": [f"species {k:02d}" for k in range(CLASSES)],
        "features": dict(features.settings),
        "config": {name: OmegaConf.to_container(cfg[name], resolve=True) for name in ("model", "features", "audio")},
    }
    weights = nn.ModuleDict({"network": network, "features": features}).state_dict()
    run.mkdir()
    write_checkpoint({"birdclf": own, "state_dict": weights, "epoch": 0}, run / "checkpoints" / "best.ckpt")


def write_noise(path: Path, seconds: int) -> None:
    """Write noise that swells every second, mono, 16 bits."""
    swell = np.sin(np.pi * np.arange(RATE_HZ) / RATE_HZ)
    rng = np.random.default_rng(1)
    with soundfile.SoundFile(path, "w", RATE_HZ, 1) as file:
        for _ in range(seconds):
            file.write((0.1 * swell * rng.standard_normal(RATE_HZ)).astype(np.float32))


def _run(*words: object) -> None:
    command = [sys.executable, "-m", "birdclf", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(prefix="birdclf-bench-") as place:
        print(listening(Path(place)))
