"""A job of a sweep finds the job that it builds on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from hydra.types import RunMode

from birdclf.config import conf_dir
from birdclf.errors import UserError
from birdclf.runs.run import DONE
from birdclf.sweep.task import sibling

Job = Callable[..., None]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """Return what makes this process a job with these overrides, of a sweep in the test's folder."""
    setup_globals()

    def become(*overrides: str, mode: RunMode = RunMode.MULTIRUN) -> None:
        words = [f"hydra.mode={mode.name}", f"hydra.sweep.dir={tmp_path}", *overrides]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("train", overrides=words, return_hydra_config=True)
        cfg.hydra.job.override_dirname = ",".join(word.replace("=", "-") for word in sorted(overrides))
        HydraConfig.instance().set_config(cfg)

    yield become
    HydraConfig.instance().cfg = None


def finish(folder: Path) -> Path:
    folder.mkdir()
    (folder / DONE).write_text("{}")
    return folder


def test_the_job_of_the_same_seed_is_found(job: Job, tmp_path: Path) -> None:
    finish(tmp_path / "0_experiment-phase2b,seed-1")
    wanted = finish(tmp_path / "1_experiment-phase2b,seed-2")
    finish(tmp_path / "3_experiment-phase2a,seed-2")
    job("experiment=phase0", "seed=2")
    assert sibling("experiment", "phase2b") == str(wanted)


def test_one_that_has_not_finished_is_named_with_the_way_on(job: Job, tmp_path: Path) -> None:
    (tmp_path / "0_experiment-phase2b,seed-1").mkdir()
    job("experiment=phase0", "seed=1")
    with pytest.raises(UserError, match="experiment=phase2b, which has not finished. The same sweep launched again"):
        sibling("experiment", "phase2b")


def test_a_sweep_that_does_not_vary_the_setting_is_refused(job: Job) -> None:
    job("seed=2")
    with pytest.raises(UserError, match="the sweep must vary experiment over both"):
        sibling("experiment", "phase2b")


def test_a_single_run_has_none(job: Job) -> None:
    job("experiment=phase0", mode=RunMode.RUN)
    assert sibling("experiment", "phase2b") is None
    HydraConfig.instance().cfg = None
    assert sibling("experiment", "phase2b") is None
