"""Several processes that train one run together on one machine.

The process that the user started has rank 0: it alone prepares the store, writes the run folder and evaluates. The
others read its configuration from their standard input.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from omegaconf import OmegaConf

from birdclf.data.dataset import Part
from birdclf.data.module import RecordingDataModule
from birdclf.environment import keep_freed_memory
from birdclf.errors import UserError
from birdclf.training.build import build_callbacks, build_classifier, build_data, trainer_of
from birdclf.training.module import SpeciesClassifier
from birdclf.training.trainer import process_count

READY: Final = "ready"
PLACE: Final = ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")
"""Variables by which processes find each other."""


@contextlib.contextmanager
def worker_processes(count: int, config: dict[str, Any], checkpoint: Path | None) -> Iterator[None]:
    """Run the processes of ranks 1 and up while the body trains as rank 0.

    Args:
        count: Processes in all, 1 or more.
        config: Resolved configuration.
        checkpoint: Snapshot to resume from.

    Raises:
        UserError: If one of them ends before its time.
    """
    if count == 1:
        yield
        return
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port())}
    threads = torch.get_num_threads()
    share = max(1, threads // count)
    order = {"config": config, "checkpoint": str(checkpoint) if checkpoint else None, "threads": share}
    with contextlib.ExitStack() as stack:
        started = []
        for rank in range(1, count):
            said = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            process = _start(rank, address, order, said)
            stack.callback(_end, process)
            started.append((rank, process, said))
        for rank, process, said in started:
            assert process.stdout is not None
            if not any(line.strip() == READY for line in process.stdout):
                raise _lost(rank, process, said)
        stack.enter_context(_environment(address | {"LOCAL_RANK": "0"}))
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(share)
        stack.callback(_leave_group)
        try:
            yield
        except RuntimeError as error:
            # A process that ended shows here as a broken connection.
            for rank, process, said in started:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    if process.wait(timeout=5):
                        raise _lost(rank, process, said) from error
            raise
        for rank, process, said in started:
            if process.wait():
                raise _lost(rank, process, said)


def run_worker() -> None:
    """Train as rank 1 or up: read the job from standard input, and write nothing but errors."""
    order = json.load(sys.stdin)
    rank = int(os.environ["LOCAL_RANK"])
    cfg = OmegaConf.create(order["config"])
    torch.set_num_threads(order["threads"])
    keep_freed_memory()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data = build_data(cfg)
    data.prepare()
    classifier, _ = build_classifier(cfg, data, begins=order["checkpoint"] is None)
    data.part = Part(rank, process_count(cfg.trainer.devices))
    trainer = trainer_of(cfg, build_callbacks(cfg).values(), logger=False)
    print(READY, flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # standard output has no reader now: a full pipe would block
    fit_share(trainer, classifier, data, order["checkpoint"])


def fit_share(
    trainer: pl.Trainer, classifier: SpeciesClassifier, data: RecordingDataModule, checkpoint: str | Path | None
) -> None:
    """Train, with a separate random stream in each process."""
    if data.part.processes > 1 and checkpoint is None:
        # Equal streams would drop the same units for different recordings; a snapshot holds each process's own.
        torch.manual_seed(torch.initial_seed() + data.part.rank)
    trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint, weights_only=True)


def _start(rank: int, address: dict[str, str], order: dict[str, Any], said: IO[str]) -> "subprocess.Popen[str]":
    path = os.pathsep.join(word for word in sys.path if word)
    process = subprocess.Popen(
        [sys.executable, "-m", "birdclf.training.workers"],
        env=os.environ | address | {"LOCAL_RANK": str(rank), "PYTHONPATH": path},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended; its standard error has the reason
        process.stdin.write(json.dumps(order))
        process.stdin.close()
    return process


def _end(process: "subprocess.Popen[str]") -> None:
    """End a process; one that still trains has lost the first process."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _lost(rank: int, process: "subprocess.Popen[str]", said: IO[str]) -> UserError:
    status = process.wait()
    said.seek(0)
    lines = [line.strip() for line in said.read().splitlines() if line.strip()]
    why = lines[-1] if lines else f"exit status {status}"
    return UserError(
        f"process {rank} of the training ended before its time: {why}. The same command with resume=true continues "
        f"from the last snapshot."
    )


def _leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for a while; several runs may follow each other in one process."""
    before = {name: os.environ.get(name) for name in PLACE}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


if __name__ == "__main__":
    run_worker()
