"""Speed of ONNX Runtime on an exported run against PyTorch on the checkpoint, sound to probabilities, in turns.

    python benchmarks/exporting.py [--run RUN] [--threads N]

Without a run folder the network is phase2b's, untrained: the values of weights do not matter to the speed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from birdclf.runs.checkpoint import LoadedRun

CLASSES = 89
BATCH = 16
ROUNDS = 6  # the first of which does not count

Figures = dict[str, Any]


def untrained() -> "LoadedRun":
    """Return phase2b with untrained weights, as loaded from a checkpoint."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from birdclf.config import conf_dir
    from birdclf.runs.checkpoint import LoadedRun

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=["experiment=phase2b"])
    features = instantiate(cfg.features)
    network = instantiate(cfg.model, num_classes=CLASSES, in_channels=features.shape[0])
    config = {"audio": OmegaConf.to_container(cfg.audio, resolve=True)}
    classes = tuple(f"species {k}" for k in range(CLASSES))
    return LoadedRun(network.eval(), features, bool(cfg.channels_last), classes, None, 0, config)


def in_turns(run: Path | None, threads: int) -> Figures:
    """Return the windows per second of both, measured in turns, and their ratio."""
    import onnxruntime
    import torch

    from birdclf.detection.classifier import TorchClassifier
    from birdclf.environment import keep_freed_memory
    from birdclf.export.formats import metadata_of, write_onnx
    from birdclf.runs.checkpoint import load_run

    keep_freed_memory()
    torch.set_num_threads(threads)

    def load() -> "LoadedRun":
        return untrained() if run is None else load_run(run)

    ours = TorchClassifier(load(), Path("none"), "cpu")
    with tempfile.TemporaryDirectory(prefix="birdclf-bench-") as folder:
        file = Path(folder) / "model.onnx"
        loaded = load()
        write_onnx(loaded, metadata_of(loaded, ours.input_spec), file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(1)
    windows = (0.1 * generator.standard_normal((BATCH, ours.input_spec.samples))).astype(np.float32)
    sides: dict[str, Callable[[], Any]] = {
        "torch": lambda: ours(windows),
        "onnxruntime": lambda: session.run(None, {"waveform": windows}),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, classify in sides.items():
            began = time.perf_counter()
            classify()
            seconds[name].append(time.perf_counter() - began)
    ratios = [a / b for a, b in zip(*(times[1:] for times in seconds.values()), strict=True)]
    return {
        "threads": threads,
        "batch": BATCH,
        "windows_per_s": {name: BATCH / median(times[1:]) for name, times in seconds.items()},
        "ratio": median(ratios),
        "ratios": ratios,
        "seconds": seconds,
    }


def of_an_export() -> Figures:
    """Return :func:`in_turns` on one thread, from a process of its own: memory is set for a whole process."""
    words = [sys.executable, __file__, "--json"]
    done = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{__file__}: exit status {done.returncode}\n{done.stderr}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = in_turns(arguments.run, arguments.threads)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, rate in figures["windows_per_s"].items():
        print(f"{name:12} {rate:6.1f} windows/s, {1000 / rate:6.1f} ms a window")
    spread = f"{min(figures['ratios']):.2f} to {max(figures['ratios']):.2f}"
    print(
        f"onnxruntime over torch {figures['ratio']:.2f} (rounds {spread}), {figures['threads']} threads, batch {BATCH}"
    )


if __name__ == "__main__":
    main()
