"""A run tells its trial how it goes, and ends where the trial is to be stopped."""

from types import SimpleNamespace

import pytest

from birdclf.errors import UserError
from birdclf.runs.run import DONE
from birdclf.runs.state import Pruned, pruned_after, write_pruned
from birdclf.training.callbacks.pruning import Pruning


class Trial:
    def __init__(self, stop_at: int) -> None:
        self.stop_at, self.seen = stop_at, dict[int, float]()

    def report(self, value: float, step: int) -> None:
        self.seen[step] = value

    def should_prune(self) -> bool:
        return max(self.seen) >= self.stop_at


def after(epoch: int, value: float, processes: int = 1) -> SimpleNamespace:
    return SimpleNamespace(current_epoch=epoch, callback_metrics={"val/nll": value}, world_size=processes)


def test_every_epoch_is_reported_and_the_last_one_stops_nothing():
    trial = Trial(stop_at=3)
    pruning = Pruning(trial, "val/nll")
    for epoch in range(3):
        pruning.on_train_epoch_start(after(epoch, 1.0 / (epoch + 1)), None)
    pruning.on_train_end(after(3, 0.1), None)
    assert trial.seen == {1: 0.5, 2: pytest.approx(1 / 3), 3: 0.1}


def test_a_poor_trial_ends_the_run():
    pruning = Pruning(Trial(stop_at=2), "val/nll")
    pruning.on_train_epoch_start(after(1, 0.9), None)
    with pytest.raises(Pruned) as stopped:
        pruning.on_train_epoch_start(after(2, 0.8), None)
    assert (stopped.value.epoch, stopped.value.value) == (2, 0.8)


def test_several_processes_are_refused():
    with pytest.raises(UserError, match="trainer.devices=1"):
        Pruning(Trial(1), "val/nll").setup(after(0, 0.0, processes=2), None, "fit")


def test_a_folder_says_that_its_run_was_stopped_until_it_is_finished(tmp_path):
    config = {"seed": 1, "callbacks": {"pruning": {"trial": {}}}}
    assert pruned_after(tmp_path) is None
    write_pruned(tmp_path, config, Pruned(4, 0.5))
    assert pruned_after(tmp_path) == pruned_after(tmp_path, config) == 4
    assert pruned_after(tmp_path, {**config, "callbacks": {}}) == 4, "how a run is watched is no other run"
    assert pruned_after(tmp_path, {**config, "seed": 2}) is None
    (tmp_path / DONE).write_text("{}")
    assert pruned_after(tmp_path) is None
