"""Which processes train together, what they agree on, and how the loss of one is told."""

from types import SimpleNamespace

import pytest
import torch.distributed as dist

from birdclf.environment import follows, launched
from birdclf.errors import UserError
from birdclf.training import processes, train
from birdclf.training.callbacks.snapshot import Progress
from birdclf.training.processes import Group, connected, first_value, group_of


def torchrun(world: int, here: int, rank: int = 0) -> dict[str, str]:
    names = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": here, "LOCAL_RANK": rank % here}
    return {"TORCHELASTIC_RUN_ID": "x", "GROUP_RANK": str(rank // here), **{k: str(v) for k, v in names.items()}}


def srun(tasks: int, nodes: int, rank: int = 0) -> dict[str, str]:
    here = tasks // nodes
    names = {"NTASKS": tasks, "NNODES": nodes, "NTASKS_PER_NODE": here, "PROCID": rank, "LOCALID": rank % here}
    return {"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "7", **{f"SLURM_{name}": str(value) for name, value in names.items()}}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch):
    def start(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    for name in {*torchrun(1, 1), *srun(1, 1)}:
        monkeypatch.delenv(name, raising=False)
    return start


@pytest.mark.parametrize(
    ("variables", "settings", "count", "devices", "nodes"),
    [
        ({}, {}, 1, 1, 1),
        ({}, {"devices": [3]}, 1, [3], 1),
        ({}, {"strategy": "ddp", "devices": 4}, 4, 4, 1),
        ({}, {"strategy": "ddp", "devices": [0, 2], "num_nodes": 1}, 2, [0, 2], 1),
        ({}, {"strategy": "ddp", "accelerator": "cpu"}, 2, 2, 1),
        (torchrun(1, 1), {}, 1, 1, 1),
        (torchrun(1, 1), {"strategy": "ddp"}, 1, 1, 1),
        (torchrun(4, 2), {"strategy": "ddp"}, 4, 2, 2),
        (torchrun(4, 2), {"strategy": "ddp", "devices": 2, "num_nodes": 2}, 4, 2, 2),
        (srun(6, 3), {"strategy": "ddp", "num_nodes": 3}, 6, 2, 3),
        (srun(1, 1), {"strategy": "ddp", "devices": 3}, 3, 3, 1),
        ({**srun(4, 1), "SLURM_STEP_ID": ""}, {"strategy": "ddp", "devices": 2}, 2, 2, 1),
    ],
)
def test_a_process_a_device_as_it_was_asked_for_or_started(variables, settings, count, devices, nodes, started):
    if variables.get("SLURM_STEP_ID") == "":  # a batch script without srun
        del variables["SLURM_STEP_ID"]
    started(variables)
    group = group_of(settings)
    assert (group.count, group.devices, group.nodes) == (count, devices, nodes)


@pytest.mark.parametrize(("variables", "rank"), [(torchrun(4, 2, 3), 3), (srun(4, 2, 1), 1), (torchrun(2, 1, 0), 0)])
def test_the_rank_is_the_launchers(variables, rank, started):
    started(variables)
    assert group_of({"strategy": "ddp"}).rank == rank
    assert launched() and follows() == (rank > 0)


@pytest.mark.parametrize(
    ("variables", "settings", "message"),
    [
        *(({}, {"devices": value}, r"trainer\.devices") for value in (0, -1, "all", [], True, None, 1.5)),
        *(({}, {"strategy": "ddp", "num_nodes": value}, r"trainer\.num_nodes") for value in (0, "all", [1], None)),
        ({}, {"devices": 2}, "trainer=ddp"),
        ({}, {"num_nodes": 2}, "trainer=ddp"),
        ({}, {"strategy": "fsdp"}, "auto \\(one device\\) or ddp"),
        ({}, {"strategy": "ddp", "num_nodes": 2}, "torchrun or srun"),
        (torchrun(2, 1), {}, "2 processes were started.*trainer=ddp"),
        (torchrun(2, 1), {"strategy": "ddp", "devices": 2}, "started 1 processes on each of 2 machines"),
        (torchrun(2, 2), {"strategy": "ddp", "num_nodes": 2}, "started 2 processes on each of 1 machines"),
        (srun(2, 1), {"strategy": "ddp", "num_nodes": 2}, "started 2 processes on each of 1 machines"),
        (torchrun(3, 2), {"strategy": "ddp"}, "every machine must have as many"),
        ({**torchrun(2, 1), "RANK": "x"}, {"strategy": "ddp"}, "cannot be used"),
        ({**srun(2, 1), "SLURM_NTASKS": "x"}, {"strategy": "ddp"}, "cannot be used"),
    ],
)
def test_contradictions_are_refused(variables, settings, message, started):
    started(variables)
    with pytest.raises(UserError, match=message):
        group_of(settings)


def test_processes_that_differ_are_refused_by_the_first_difference(monkeypatch):
    given = {"seed": 1, "code": "a"}
    monkeypatch.setattr(processes, "value_of_each", lambda own: [own, ("other", {}, given | {"seed": 2})])
    for rank, error, message in (
        (0, UserError, "process 1 on other has other seed .* 2 instead of 1"),
        (1, SystemExit, "1"),
    ):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        with pytest.raises(error, match=message):
            first_value({"score": None}, given)
    monkeypatch.setattr(processes, "value_of_each", lambda own: [("here", {"score": 3}, given), own])
    assert first_value({"score": None}, given) == {"score": 3}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("... EADDRINUSE, message: address already in use"), "port .* is in use.*MASTER_PORT"),
        (dist.DistStoreError("timed out after 3 s"), "not all of the 2 processes came.*within 3 s"),
        (dist.DistNetworkError("The client socket has timed out"), "not all of the 2 processes came"),
    ],
)
def test_who_cannot_connect_says_why(error, message, started):
    started(torchrun(2, 1))

    def connect() -> None:
        raise error

    with pytest.raises(UserError, match=message), connected(group_of({"strategy": "ddp"}), connect, 3):
        raise AssertionError("the body runs without a connection")


def test_a_lost_process_is_told_in_a_sentence_and_a_defect_is_not(started, monkeypatch):
    started(torchrun(2, 1))
    group = group_of({"strategy": "ddp"})
    monkeypatch.setattr(processes, "processes", lambda: 2)
    lost = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3")
    with pytest.raises(UserError, match="ended, or did not answer.*resume=true"), connected(group, lambda: None, 3):
        raise lost
    with pytest.raises(RuntimeError, match="shapes"), connected(group, lambda: None, 3):
        raise RuntimeError("shapes do not fit")
    started(torchrun(2, 2, 1))
    with pytest.raises(SystemExit), connected(group_of({"strategy": "ddp"}), lambda: None, 3):
        raise lost


def test_one_process_connects_to_none():
    with connected(Group(), lambda: 1 / 0, 3):
        assert first_value({"score": 1}, {"seed": 2}) == {"score": 1}


def test_a_run_resumes_with_as_many_processes_as_before(monkeypatch, tmp_path):
    run = SimpleNamespace(begun=True, folder=tmp_path)
    monkeypatch.setattr(train, "check_same", lambda *_: None)
    for number, ended in ((1, None), (2, {"best": "best.ckpt"})):
        progress = Progress(tmp_path / "last.ckpt", 3, 1.0, ended, number)
        monkeypatch.setattr(train, "latest", lambda _, progress=progress: progress)
        assert train._progress(run, {}, resume=True) is progress
    monkeypatch.setattr(train, "latest", lambda _: Progress(tmp_path / "last.ckpt", 3, 1.0, None, 2))
    with pytest.raises(UserError, match="was trained by 2 processes, and 1 would resume it"):
        train._progress(run, {}, resume=True)
