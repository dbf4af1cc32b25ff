"""Runs of five kinds by two versions of the code: equal seeds must give equal figures.

    python tests/checks/five_runs.py run BEFORE      # with the Python whose birdclf is to be judged
    python tests/checks/five_runs.py run AFTER
    python tests/checks/five_runs.py compare BEFORE AFTER

One to five minutes a version on 2 cores. The runs cover both kinds of network, losses with and without a schedule,
samplers, averaging, post-hoc corrections, augmentation, accumulated steps, a second stage, resuming, and an ensemble.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

COMMON = (
    *("data.num_species=8", "data.scale=0.03", "trainer.accelerator=cpu", "trainer.precision=32-true"),
    *("callbacks.progress=null", "trainer.max_epochs=3"),
)
RUNS: dict[str, tuple[str, ...]] = {
    "published": ("experiment=phase2b", "model.width=0.25"),
    "best": ("experiment=best", "model.width=0.25", "augment=[specaugment,mixup]", "averaging=ema", "seed=2"),
    "margins": (
        *("loss=ldam", "model=audio_cnn", "model.head=cosine", "sampler=progressive", "split=kfold", "split.fold=1"),
        *("posthoc=logit_adjustment", "averaging=swa", "averaging.start=0.4"),
        "allow=[weights_with_sampler,weights_with_posthoc,sampler_with_posthoc]",  # nonsense, and all of it acts
    ),
    "accumulated": (
        *("features=log_mel", "model=audio_cnn", "model.width=0.5", "trainer.accumulate_grad_batches=2", "seed=3"),
        *("loss=focal", "sampler=power", "split=grouped", "optimizer=sgd", "optimizer.lr=0.02"),
        *("loader.batch_size=16", "trainer.max_epochs=6", "callbacks.snapshot.every_s=1"),
    ),
    "second_stage": (
        "experiment=crt",
        "model=audio_cnn_v2",
        "model.width=0.25",
        "init_from=../published",
        "posthoc=tau_norm",
        "allow=[sampler_with_posthoc]",
    ),
}
STOPPED = "accumulated"
"""The run that is stopped after its first snapshot, and resumed."""
FILES = ("metrics.json", "history.json", "split.csv", "leaks.csv", "per_class.csv", "predictions.parquet")


def run(folder: Path) -> None:
    """Train the five runs in a new folder, and average two of them."""
    folder = folder.resolve()
    folder.mkdir(parents=True)
    env = os.environ | {"BIRDCLF_STORE": str(folder / "store")}
    for name, words in RUNS.items():
        home = folder / name
        home.mkdir()
        command = [sys.executable, "-m", "birdclf", "train", *COMMON, *words, "hydra.run.dir=run"]
        command = [word.replace("init_from=../published", "init_from=../published/run") for word in command]
        if name == STOPPED:
            stopped = subprocess.Popen(command, cwd=home, env=env, stdout=subprocess.DEVNULL)
            while not (home / "run/checkpoints/last.ckpt").is_file() and stopped.poll() is None:
                time.sleep(0.1)
            stopped.send_signal(signal.SIGTERM)
            print(f"{name}: stopped with status {stopped.wait()}")
            command.append("resume=true")
        print(f"{name}: {' '.join(command[3:])}", flush=True)
        subprocess.run(command, cwd=home, env=env, check=True, stdout=subprocess.DEVNULL)
    home = folder / "ensemble"
    home.mkdir()
    (home / "other").mkdir()
    other = [*COMMON, *RUNS["published"], "split=file", "split.path=../../published/run/split.csv", "seed=9"]
    command = [sys.executable, "-m", "birdclf", "train", *other, "hydra.run.dir=run"]
    subprocess.run(command, cwd=home / "other", env=env, check=True, stdout=subprocess.DEVNULL)
    command = [
        sys.executable,
        "-m",
        "birdclf",
        "evaluate",
        "../published/run",
        "other/run",
        "--weights",
        "tuned",
        "--out",
        "run",
    ]
    subprocess.run(command, cwd=home, env=env, check=True)


def content(file: Path) -> Any:
    """Return what a file of a run says, without what differs from one run to the next: paths and times."""
    if not file.is_file():
        return None
    if file.suffix == ".parquet":
        return pd.read_parquet(file).to_dict("list")
    if file.suffix == ".csv":
        return file.read_text()
    return _timeless(json.loads(file.read_text()))


def _timeless(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _timeless(v) for k, v in node.items() if k not in ("seconds", "windows_per_s", "folder", "members")}
    return [_timeless(value) for value in node] if isinstance(node, list) else node


def compare(before: Path, after: Path) -> int:
    """Print each file of each run as equal or different; return how many are different."""
    different = 0
    for name in (*RUNS, "ensemble"):
        for file in FILES:
            a, b = (content(folder / name / "run" / file) for folder in (before, after))
            same = repr(a) == repr(b)  # NaN is like NaN
            different += not same
            said = "not there" if a is None and b is None else "equal" if same else "DIFFERENT"
            print(f"{name:14} {file:20} {said}")
    return different


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="train in a new folder").add_argument("folder", type=Path)
    both = commands.add_parser("compare", help="compare two such folders")
    both.add_argument("before", type=Path)
    both.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.folder)
    else:
        sys.exit(min(1, compare(arguments.before, arguments.after)))
