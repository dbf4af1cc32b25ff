"""What a snapshot holds beside weights comes back as it was: generators, the figures of an epoch, rows and means."""

import io
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn

from birdclf.errors import UserError
from birdclf.runs.checkpoint import BEFORE, LAST
from birdclf.training.callbacks.averaging import StochasticWeightAverage
from birdclf.training.callbacks.history import History
from birdclf.training.callbacks.snapshot import STATE_KEY, Snapshot, latest, random_state, set_random_state
from birdclf.training.module import ClassMetrics

CLASSES = 4


def kept(state: Any) -> Any:
    """Return a state as it comes out of a file that opens without running code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def draws() -> list[Any]:
    ours = [torch.rand(3).tolist(), np.random.standard_normal(3).tolist(), random.random(), random.gauss(0, 1)]
    return [*ours, np.random.standard_normal(), torch.randperm(5).tolist()]


def test_every_generator_resumes_where_it_stood() -> None:
    draws()  # an odd number of normal draws leaves one waiting, which is kept as well
    state = kept(random_state())
    first = draws()
    assert draws() != first
    set_random_state(state)
    assert draws() == first


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, CLASSES, generator=generator)
    return logits, torch.randint(0, CLASSES, (5,), generator=generator), torch.rand((), generator=generator)


def test_figures_of_half_an_epoch_are_added_to() -> None:
    whole, half, resumed = (ClassMetrics(CLASSES, "train/") for _ in range(3))
    for metrics in (whole, half):
        metrics.update(*batch(0))
        metrics.add_step(torch.tensor(2.0))
    resumed.restore(kept(half.snapshot()))
    for metrics in (whole, resumed):
        metrics.update(*batch(1))
        metrics.add_step(torch.tensor(4.0))
    assert resumed.compute() == whole.compute()
    assert half.compute() != whole.compute()


class Module(nn.Module):
    """What a snapshot sees of a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.train_metrics, self.val_metrics = ClassMetrics(CLASSES, "train/"), ClassMetrics(CLASSES, "val/")


def trainer() -> Any:
    return SimpleNamespace(global_rank=0, fit_loop=SimpleNamespace(restarting=True))


def test_metrics_come_back_when_training_starts_and_draws_before_its_first_batch() -> None:
    ours, resumed_module, before = Module(), Module(), Snapshot("unused")
    ours.train_metrics.update(*batch(0))
    before.on_train_start(trainer(), ours)
    before.interrupts.give_back()
    before.began -= 100
    state = kept(before.state_dict())
    expected = draws()

    resumed, trains = Snapshot("unused"), trainer()
    resumed.load_state_dict(state)
    resumed.on_train_start(trains, resumed_module)
    resumed.interrupts.give_back()
    assert torch.equal(resumed_module.train_metrics.confmat, ours.train_metrics.confmat)
    assert int(resumed_module.train_metrics.clips) == 5 and int(resumed_module.val_metrics.clips) == 0
    draws()
    resumed.on_train_batch_start(trains, resumed_module, None, 3)
    assert draws() == expected and trains.fit_loop.restarting is False
    resumed.on_train_batch_start(trains, resumed_module, None, 4)
    assert draws() != expected, "only the first batch is one that was waited for"
    assert 100 <= resumed.state_dict()["seconds"] < 200, "the time before the stop counts"


def test_a_run_that_begins_has_nothing_put_back() -> None:
    fresh, module, trains = Snapshot("unused"), Module(), trainer()
    fresh.load_state_dict(Snapshot("unused").state_dict())
    fresh.on_train_start(trains, module)
    fresh.interrupts.give_back()
    fresh.on_train_batch_start(trains, module, None, 0)
    assert trains.fit_loop.restarting is True and int(module.train_metrics.clips) == 0


def test_the_rows_and_the_time_of_an_unfinished_epoch_are_kept(tmp_path: Path) -> None:
    first, resumed = History(str(tmp_path)), History(str(tmp_path))
    first.on_train_epoch_start(SimpleNamespace(current_epoch=0), None)
    first.began -= 50
    resumed.load_state_dict(kept(first.state_dict()))
    assert resumed.rows == [{"epoch": 1}] and resumed.open
    assert 50 <= resumed.state_dict()["spent"] < 100
    resumed.rows.append({"epoch": 2})
    assert first.rows == [{"epoch": 1}]


class Weighted(pl.LightningModule):
    """A network of one weight."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.network.weight, value)


def test_a_resumed_mean_of_weights_counts_those_before() -> None:
    on_cpu = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))

    def averaging(module: nn.Module) -> StochasticWeightAverage:
        callback = StochasticWeightAverage(start=0)
        callback.setup(on_cpu, module, "fit")
        return callback

    module = Weighted(0.0)
    mean = averaging(module)
    for value in (1.0, 2.0):
        nn.init.constant_(module.network.weight, value)
        mean._average_model.update_parameters(module)
    checkpoint = {"state_dict": module.state_dict()}
    mean.on_save_checkpoint(on_cpu, module, checkpoint)
    checkpoint, counters = kept(checkpoint), kept(mean.state_dict())
    assert float(checkpoint["state_dict"]["network.weight"]) == 1.5

    again = Weighted(9.0)
    resumed = averaging(again)
    resumed.load_state_dict(counters)
    again.load_state_dict(checkpoint["state_dict"])
    resumed.on_load_checkpoint(on_cpu, again, checkpoint)
    assert float(again.network.weight.detach()) == 2.0, "training resumes with its own weights"
    nn.init.constant_(again.network.weight, 6.0)
    resumed._average_model.update_parameters(again)
    assert float(resumed._average_model.module.network.weight) == pytest.approx(3.0)


def write(path: Path, epoch: int, best: str = "best.ckpt", **callbacks: Any) -> None:
    state = {"seconds": 1.5, "ended": {"best": best, "score": 0.5, "epochs": epoch}, "processes": [{}]}
    torch.save({"epoch": epoch, "callbacks": {STATE_KEY: state, **callbacks}}, path)


def test_the_newest_snapshot_that_can_be_read_is_taken(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    write(tmp_path / BEFORE, 1)
    write(tmp_path / LAST, 2)
    found = latest(tmp_path)
    assert (found.path.name, found.epoch, found.seconds, found.ending["best"]) == (LAST, 2, 1.5, "best.ckpt")
    (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:100])
    assert latest(tmp_path).path.name == BEFORE and latest(tmp_path).epoch == 1
    (tmp_path / BEFORE).write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"last\.ckpt cannot be read"):
        latest(tmp_path)


@pytest.mark.parametrize("key", ["ended", "best_model_path", "last_model_path", "kth_best_model_path", "best_k_models"])
def test_a_snapshot_that_names_files_elsewhere_is_not_taken(tmp_path: Path, key: str) -> None:
    folder, mine = tmp_path / "checkpoints", str(tmp_path / "mine.ckpt")
    folder.mkdir()
    names = ("best_model_path", "kth_best_model_path", "last_model_path")
    paths: dict[str, Any] = {name: str(folder / "best.ckpt") for name in names} | {"best_k_models": {}}
    write(folder / LAST, 1, ModelCheckpoint={"dirpath": str(folder), **paths})
    assert latest(folder).epoch == 1
    if key == "ended":
        write(folder / LAST, 1, best="../mine.ckpt")
    else:
        paths[key] = {mine: 0.5} if key == "best_k_models" else mine
        write(folder / LAST, 1, ModelCheckpoint={"dirpath": str(folder), **paths})
    with pytest.raises(UserError, match="cannot be read"):
        latest(folder)
