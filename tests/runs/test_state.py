"""A run folder tells whether it holds a run, of which settings, and how that one stands."""

import json
from pathlib import Path

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from birdclf.config import config_hash
from birdclf.errors import UserError
from birdclf.runs import state as run_folder
from birdclf.runs.run import CONFIG as CONFIG_FILE
from birdclf.runs.run import DONE, FAILED, Run
from birdclf.runs.state import BusyError

CONFIG = {
    "seed": 1,
    "optimizer": {"lr": 1e-3, "betas": [0.9, 0.999]},
    "split": {"train": 0.7},
    "loader": {"batch_size": 32, "num_workers": 0},
    "callbacks": {"checkpoint": {"dirpath": "a", "mode": "max"}, "snapshot": {"every_s": 60}},
    "store": {"dir": "x"},
    "run_dir": "here",
    "resume": None,
}


def begin(folder: Path, config: dict) -> None:
    (folder / CONFIG_FILE).write_text(OmegaConf.to_yaml(OmegaConf.create(config)))


def test_settings_come_back_with_the_same_hash(tmp_path):
    assert not Run(tmp_path).begun
    begin(tmp_path, CONFIG)
    assert config_hash(Run(tmp_path).config) == config_hash(CONFIG)


@pytest.mark.parametrize(
    "change",
    [
        {"resume": True},
        {"run_dir": "there"},
        {"store": {"dir": "y"}},
        {"split": {"train": 0.7, "seed": None, "train_fraction": 1.0, "train_per_species": None}},
        {"split": {"train": 0.7, "seed": 1, "train_fraction": 1}},
        {"loader": {"batch_size": 32, "num_workers": 2}},
        {"callbacks": {"checkpoint": {"dirpath": "b", "mode": "max"}, "snapshot": {"every_s": 1}}},
    ],
)
def test_what_changes_no_result_changes_no_hash(change):
    assert config_hash(CONFIG | change) == config_hash(CONFIG)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"seed": 2}, "seed was 1 and is 2 now"),
        ({"optimizer": {"lr": 1e-3, "betas": [0.5, 0.999]}}, "optimizer.betas was"),
        ({"loader": {"batch_size": 64}}, "loader.batch_size was 32 and is 64 now"),
        ({"split": {"train": 0.7, "seed": 2}}, "split.seed was not there and is 2 now"),
        ({"split": {"train": 0.7, "train_fraction": 0.5}}, "split.train_fraction was not there and is 0.5 now"),
        ({"model": {"width": 1}}, "model.width was not there and is 1 now"),
        ({"callbacks": {"checkpoint": {"mode": "min"}}}, "callbacks.checkpoint.mode was max and is min now"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, change, said):
    begin(tmp_path, CONFIG)
    run_folder.check_same(Run(tmp_path), CONFIG)
    with pytest.raises(UserError, match=said):
        run_folder.check_same(Run(tmp_path), CONFIG | change)


def finish(folder: Path, config: dict, score: float) -> None:
    folder.mkdir()
    content = {"config_hash": config_hash(config), "score": score}
    (folder / DONE).write_text(json.dumps(content))


def test_a_finished_run_is_known_by_its_hash(tmp_path):
    finish(tmp_path / "one", CONFIG, 0.5)
    finish(tmp_path / "two", CONFIG | {"seed": 2}, 0.7)
    assert run_folder.finished_score(tmp_path / "one", CONFIG) == 0.5
    assert run_folder.finished_score(tmp_path / "two", CONFIG) is None
    assert run_folder.finished_twin(tmp_path / "three", CONFIG) == tmp_path / "one"
    assert run_folder.finished_twin(tmp_path / "one", CONFIG) is None


def test_half_a_marker_is_none(tmp_path):
    (tmp_path / DONE).write_text('{"config_hash": ')
    assert run_folder.finished_score(tmp_path, CONFIG) is None


def test_settings_that_cannot_be_read_are_an_error(tmp_path):
    for text in ("{", "[1, 2]"):
        (tmp_path / CONFIG_FILE).write_text(text)
        with pytest.raises(UserError, match=r"config\.yaml .*Restore it"):
            _ = Run(tmp_path).config


def test_a_failure_leaves_word(tmp_path):
    job = tmp_path / "0_seed-1"
    job.mkdir()
    assert run_folder.failures(tmp_path) == {}
    try:
        raise RuntimeError("bad luck")
    except RuntimeError as error:
        run_folder.write_failure(job, "it failed", error, launch=3)
    assert run_folder.failures(tmp_path) == run_folder.failures(tmp_path, launch=3) == {job.name: "it failed"}
    assert run_folder.failures(tmp_path, launch=4) == {}, "a later launch is not stopped by it"
    assert "RuntimeError: bad luck" in json.loads((job / FAILED).read_text())["traceback"]
    (job / DONE).touch()
    assert run_folder.failures(tmp_path) == {}, "another process has finished it since"
    run_folder.write_failure(job, "other settings", RuntimeError("no"))
    assert run_folder.failures(tmp_path) == {job.name: "other settings"}, "it was finished before"
    run_folder.remove_failure(job)
    assert not (job / FAILED).exists()


def test_a_folder_is_locked_by_one(tmp_path):
    with run_folder.lock_run(tmp_path):
        pass
    with FileLock(tmp_path / run_folder.LOCK), pytest.raises(BusyError), run_folder.lock_run(tmp_path):
        raise AssertionError("it was locked twice")
