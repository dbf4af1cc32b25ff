"""One run trained by several processes, on one machine and as on two: the figures of one process, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from stopping import assert_same_end, history_of, weights_of
from tiny_runs import Command, on_folder

# A batch of 6 leaves 3 of the 21 train recordings for the last, shared by two processes as 2 and 1. The network's norms
# do not mix recordings, so that a batch in two parts is normalised as a whole one.
SHARED = ("loader.batch_size=6", "trainer.max_epochs=3", "loss=cross_entropy_sqrt", "logger=none", "store.dir=store")
NETWORK = ("model=convnext_atto",)
DDP = ("trainer=ddp",)


def words(recordings: Path, run: Path | str, *more: str) -> list[str]:
    named = [word for word in on_folder(recordings, run) if not word.startswith(("model", "trainer.max_epochs"))]
    return [*named, *NETWORK, *SHARED, *more]


Task = tuple[list[str], dict[str, str]]
"""The words after ``python``, and variables."""


@contextmanager
def several(tasks: list[Task], cwd: Path) -> Iterator[list["subprocess.Popen[str]"]]:
    """Start processes together, and kill what is left of them at the end of the block."""
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for command, variables in tasks
    ]
    try:
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ends_of(tasks: list[Task], cwd: Path) -> list[tuple[int, str]]:
    """Run processes to their ends; return status and output of each."""
    with several(tasks, cwd) as started:
        texts = [process.communicate(timeout=240)[0] for process in started]
    return [(process.returncode, text) for process, text in zip(started, texts, strict=True)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def two_nodes(given: list[str], *more: str) -> list[Task]:
    """Return two agents of torchrun, each as on a machine of its own; ``more`` has a word for each."""
    port = free_port()
    agent = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"]
    agent += [f"--rdzv-endpoint=127.0.0.1:{port}", f"--rdzv-id={port}", "--local-addr=127.0.0.1", "-m", "birdclf"]
    return [([*agent, *given, *more[node : node + 1]], {}) for node in range(2)]


def slurm_tasks(given: list[str], ranks: tuple[int, ...] = (0, 1), port: int | None = None) -> list[Task]:
    """Return tasks with the variables that ``srun`` gives them on two nodes."""
    common = {"SLURM_JOB_ID": "41", "SLURM_JOB_NAME": "x", "SLURM_STEP_ID": "0", "SLURM_NODELIST": "localhost"}
    common |= {"SLURM_NTASKS": "2", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_LOCALID": "0"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port or free_port())}
    place = [common | {"SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)} for rank in ranks]
    return [(["-m", "birdclf", *given], variables) for variables in place]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def alone(birdclf: Command, recordings: Path, folder: Path) -> Path:
    assert birdclf(*words(recordings, "alone"), cwd=folder).status == 0
    return folder / "alone"


@pytest.fixture(scope="module")
def together(birdclf: Command, recordings: Path, folder: Path) -> Path:
    done = birdclf(*words(recordings, "together", *DDP), cwd=folder)
    assert done.status == 0, done.err
    return folder / "together"


def assert_learned_the_same(run: Path, expected: Path) -> None:
    for ours, theirs in zip(history_of(run), history_of(expected), strict=True):
        # Training divides by the weights of the whole batch; val/loss is a mean over batches, whose sizes differ here.
        kept = [{name: value for name, value in row.items() if name != "val/loss"} for row in (ours, theirs)]
        assert kept[0] == pytest.approx(kept[1], rel=2e-3, abs=1e-4)
    table, frame = (pd.read_parquet(folder / "predictions.parquet") for folder in (run, expected))
    columns = ["recording_id", "split", "target"]
    pd.testing.assert_frame_equal(table[columns], frame[columns])
    numbers = frame.select_dtypes("floating").columns
    np.testing.assert_allclose(table[numbers], frame[numbers], atol=2e-3)
    ours, theirs = (weights_of(folder, "last.ckpt") for folder in (run, expected))
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name].float(), weight.float(), rtol=1e-2, atol=2e-3, msg=name)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(alone: Path, together: Path):
    assert_learned_the_same(together, alone)
    assert (together / "train.log").read_text().count("epoch 3: ") == 1


@pytest.mark.slow
def test_every_recording_counts_once(together: Path):
    """The confusion of an epoch over all processes holds every recording; so does the saved one of the test split."""
    split = pd.read_csv(together / "split.csv").split.value_counts()
    table = pd.read_parquet(together / "predictions.parquet")
    assert not table.recording_id.duplicated().any()
    assert table.split.value_counts().to_dict() == {stage: split[stage] for stage in ("val", "test")}
    accuracies = {round(row["val/accuracy"] * split["val"], 3) for row in history_of(together)}
    assert accuracies <= set(range(split["val"] + 1))


@pytest.fixture(scope="module")
def nodes(recordings: Path, folder: Path) -> Path:
    """Return a run of two tasks of Slurm."""
    ends = ends_of(slurm_tasks(words(recordings, "nodes", *DDP, "trainer.num_nodes=2")), folder)
    assert [status for status, _ in ends] == [0, 0], ends
    assert [text.count("epoch 3: ") for _, text in ends] == [1, 0]
    return folder / "nodes"


@pytest.mark.slow
def test_two_tasks_of_slurm_learn_what_one_process_does(recordings, folder, alone, nodes):
    assert_learned_the_same(nodes, alone)
    given = words(recordings, nodes, *DDP, "trainer.num_nodes=2", "resume=true")
    (status, text), (other_status, other_text) = ends_of(slurm_tasks(given), folder)
    assert status == other_status == 0 and "is finished" in text and not other_text, text + other_text


@pytest.mark.slow
def test_two_nodes_of_torchrun_learn_what_one_process_does_and_leave_one_run(recordings, folder, alone):
    ends = ends_of(two_nodes(words(recordings, "torchrun", *DDP)), folder)
    assert [status for status, _ in ends] == [0, 0], ends
    assert sorted(text.count("epoch 3: ") for _, text in ends) == [0, 1]
    assert_learned_the_same(folder / "torchrun", alone)
    assert not (folder / "outputs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["one", "both"])
def test_a_killed_run_ends_with_a_sentence_and_resumes_to_the_same_end(recordings, tmp_path, nodes, lost):
    given = words(recordings, "run", *DDP, "trainer.num_nodes=2", "callbacks.snapshot.every_s=0")
    snapshot = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with several(slurm_tasks(given), tmp_path) as started:
        limit = time.monotonic() + 120
        while not snapshot.exists() and time.monotonic() < limit:
            time.sleep(0.05)
        for process in started if lost == "both" else started[1:]:
            process.kill()
        text, _ = started[0].communicate(timeout=120)
    assert not (tmp_path / "run" / "done.json").exists()
    if lost == "one":
        lines = [line for line in text.splitlines() if line.startswith("birdclf: ")]
        assert len(lines) == 1 and "another process of this training ended" in lines[0], text
        assert "Traceback" not in text and started[0].returncode == 1
    resumed = ends_of(slurm_tasks([*given, "resume=true"]), tmp_path)
    assert [status for status, _ in resumed] == [0, 0], resumed
    assert_same_end(tmp_path / "run", nodes)


@pytest.mark.slow
def test_ctrl_c_saves_and_the_run_resumes_to_the_same_end(recordings, folder, together):
    given = words(recordings, "stopped", *DDP, "callbacks.snapshot.every_s=0")
    snapshot = folder / "stopped" / "checkpoints" / "last.ckpt"
    with several([(["-m", "birdclf", *given], {})], folder) as (process,):
        limit = time.monotonic() + 120
        while not snapshot.exists() and time.monotonic() < limit:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        text, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in text, text
    assert not (folder / "stopped" / "done.json").exists()
    ((status, text),) = ends_of([(["-m", "birdclf", *given, "resume=true"], {})], folder)
    assert status == 0, text
    assert_same_end(folder / "stopped", together)


@pytest.mark.slow
def test_a_process_that_never_comes_ends_the_wait(recordings, tmp_path):
    given = words(recordings, "run", *DDP, "trainer.timeout_s=3")
    ((status, text),) = ends_of(slurm_tasks(given, ranks=(0,)), tmp_path)
    assert status == 1 and "not all of the 2 processes came" in text and "within 3 s" in text, text
    assert "Traceback" not in text


@pytest.mark.slow
def test_a_port_in_use_is_named(recordings, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ((status, text),) = ends_of(slurm_tasks(words(recordings, "run", *DDP), ranks=(0,), port=port), tmp_path)
    assert status == 1 and f"port 127.0.0.1:{port} is in use" in text and "Traceback" not in text, text


@pytest.mark.slow
def test_nodes_with_other_settings_or_recordings_are_refused(recordings, tmp_path):
    ends = ends_of(two_nodes(words(recordings, "run", *DDP), "seed=1", "seed=2"), tmp_path)
    text = "".join(text for _, text in ends)
    assert all(status for status, _ in ends) and text.count("has other seed than process 0") == 1, text
    first, second = slurm_tasks(words(recordings, "run", *DDP))
    ((_, text), (_, other)) = ends_of([first, ([*second[0], "data.max_per_species=5"], second[1])], tmp_path)
    assert "has other data.max_per_species than process 0" in text and not other, text + other


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_with_a_sentence(recordings, tmp_path):
    given = words(recordings, "run", *DDP, "callbacks.snapshot.every_s=0", "trainer.max_epochs=50")
    with several([(["-m", "birdclf", *given], {})], tmp_path) as (process,):
        limit = time.monotonic() + 120
        while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < limit:
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(workers[-1]), signal.SIGKILL)
        text, _ = process.communicate(timeout=120)
    lines = [line for line in text.splitlines() if line.startswith("birdclf: ")]
    assert process.returncode == 1 and len(lines) == 1 and "Traceback" not in text, text
    assert "process 1 of the training ended before its time: signal SIGKILL" in lines[0]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("loader.batch_size=7", "multiple of 2"),
        ("trainer.strategy=fsdp", "auto (one device) or ddp"),
        ("trainer.strategy=auto", "trainer=ddp"),
        ("trainer.devices=0", "number from 1"),
        ("trainer.num_nodes=2", "torchrun or srun"),
        ("trainer.timeout_s=0", "trainer.timeout_s"),
        ("trainer.compile=nonsense", "trainer.compile"),
    ],
)
def test_what_does_not_go_together_is_refused(birdclf, recordings, tmp_path, setting, said):
    given = words(recordings, tmp_path / "run", *DDP, "trainer.devices=2", setting)
    assert said in birdclf(*given, cwd=tmp_path).mistake
    assert not (tmp_path / "run" / "split.csv").exists()


def test_a_sweep_is_not_started_by_torchrun(birdclf, recordings, tmp_path, monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    given = words(recordings, tmp_path / "run", *DDP, "-m", "seed=1,2")
    assert "Hydra's launchers" in birdclf(*given, cwd=tmp_path).mistake


@pytest.mark.slow
def test_more_processes_than_validation_recordings_are_refused(birdclf, recordings, tmp_path):
    given = words(recordings, tmp_path / "run", *DDP, "trainer.devices=6")
    assert "the val split has" in birdclf(*given, cwd=tmp_path).mistake


@pytest.mark.slow
def test_one_process_evaluates_such_a_run(birdclf: Command, together: Path):
    done = birdclf("evaluate", together, cwd=together.parent)
    assert done.status == 0 and "equal to" in done.out, done.out + done.err
