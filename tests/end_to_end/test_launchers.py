"""Sweeps beyond one process: joblib, submitit and Ray run the jobs, and all else is as in one process."""

import json
import os
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf
from stopping import training
from tiny_runs import TINY, Command

from birdclf.config import conf_dir
from birdclf.sweep.callbacks import EXTRA_OF

LAUNCHERS = sorted(path.stem for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"))
# pytest takes the package's own filter away.
pytestmark = pytest.mark.filterwarnings(r"ignore:\s*'hydra/launcher:UserWarning")
HERE = [name for name in LAUNCHERS if name != "submitit_slurm"]  # without a cluster

# A source of the user's own, beside their data, that notes what is decoded.
THEIRS = """
from contextlib import contextmanager
from dataclasses import dataclass

from birdclf.audio.files import FileReader
from birdclf.data.catalog import Catalog
from birdclf.data.sources.folder import folder_catalog


@dataclass(frozen=True)
class Noting(FileReader):
    @contextmanager
    def open(self, clip):
        with open("decoded.txt", "a") as file:
            file.write(f"{clip.recording_id}\\n")
        with super().open(clip) as sound:
            yield sound


def noted(root, **selection):
    found = folder_catalog(root, **selection)
    return Catalog(found.table, Noting(), found.name)
"""


def composed(launcher: str, *overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=[f"hydra/launcher={launcher}", *overrides], return_hydra_config=True)


def skip_without(launcher: str) -> None:
    package = composed(launcher).hydra.launcher._target_.rpartition(".")[0]
    extra = EXTRA_OF[package.split(".")[1]]
    try:
        there = find_spec(package) and (launcher != "ray" or find_spec("ray"))
    except ModuleNotFoundError:
        there = None
    if not there:
        pytest.skip(f"hydra/launcher={launcher} is not installed: pip install -e '.[{extra}]'")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", HERE)
def test_a_sweep_is_the_same_under_every_launcher(launcher: str, python: Command, recordings: Path, tmp_path: Path):
    skip_without(launcher)
    (tmp_path / "theirs.py").write_text(THEIRS)
    words = ["train", "-m", "data=folder", f"data.root={recordings}", "data._target_=theirs.noted", *TINY]
    words += [
        "loss=focal",
        "loss.gamma=1,2,-1",
        f"hydra/launcher={launcher}",
        "hydra.sweep.dir=sweep",
        "store.dir=store",
    ]
    env = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    program = Path(sys.executable).with_name("birdclf-of-a-test")  # as a script does, it leaves this folder to birdclf
    main = f"import sys; sys.path.remove(''); sys.argv[0] = {str(program)!r}; from birdclf.cli import main; main()"
    first = python("-c", main, *words, cwd=tmp_path, env=env)

    # Two finished; the failed one is in the list, wherever it ran.
    assert first.status == 1, first.err
    assert "birdclf: 1 job failed:\n  2_loss.gamma--1: loss.gamma is -1" in first.err and "Traceback" not in first.err
    assert "deprecated" not in first.err
    folder = tmp_path / "sweep"
    done = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/done.json")}
    assert sorted(done) == ["0_loss.gamma-1", "1_loss.gamma-2"]
    assert "loss.gamma is -1" in json.loads((folder / "2_loss.gamma--1" / "failed.json").read_text())["message"]
    table = pd.read_csv(folder / "sweep.csv")
    assert sorted(table.status) == ["failed", "finished", "finished"] and sorted(table.job) == [0, 1, 2]
    for job in done:
        log = (folder / job / "train.log").read_text()
        assert log.count("epoch 1:") == 1, "a job logs into another job's file"

    # One store, whose recordings were decoded once, from the folder that the sweep was launched in.
    assert len(list((tmp_path / "store").glob("*/index.parquet"))) == 1
    decoded = (tmp_path / "decoded.txt").read_text().splitlines()
    assert sorted(decoded) == sorted(path.relative_to(recordings).as_posix() for path in recordings.rglob("*.wav"))

    # Launched again, it begins nothing that is finished.
    again = python("-c", main, *words, cwd=tmp_path, env=env)
    assert again.status == 1 and "1 job failed" in again.err and "resuming in sweep" in again.out
    assert {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/done.json")} == done
    assert (tmp_path / "decoded.txt").read_text().splitlines() == decoded


@pytest.mark.slow
def test_ctrl_c_waits_for_the_step_that_each_job_has_at_hand(recordings: Path, tmp_path: Path):
    skip_without("joblib")
    words = ["train", "-m", "data=folder", f"data.root={recordings}", *TINY, "trainer.max_epochs=300"]
    words += [
        "loader.batch_size=4",
        "callbacks.early_stopping=null",
        "seed=1,2,3",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
    ]
    words += ["hydra.sweep.dir=sweep", "store.dir=store"]
    jobs = [tmp_path / "sweep" / f"{number}_seed-{seed}" for number, seed in enumerate((1, 2, 3))]
    with training(words, tmp_path, tmp_path / "said") as process:
        while not all((job / "history.json").is_file() for job in jobs[:2]):
            assert process.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        assert process.wait(120) == 130
    said = (tmp_path / "said").read_text()
    assert "waiting for the jobs to finish their step" in said and "Traceback" not in said
    for job in jobs[:2]:
        assert (job / "train.log").read_text().count(" stopped; ") == 1, "it was killed before its step was over"
    assert not (jobs[2] / "config.yaml").exists(), "another job was begun after Ctrl-C"


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_that_is_not_installed_is_named_with_its_extra(
    launcher: str, birdclf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("birdclf.sweep.callbacks.find_spec", lambda name: None)
    extra = launcher.replace("submitit_local", "slurm").replace("submitit_slurm", "slurm")
    done = birdclf("train", "-m", "seed=1,2", f"hydra/launcher={launcher}", cwd=tmp_path)
    assert done.mistake == f"hydra/launcher={launcher} needs an extra: pip install 'birdclf[{extra}]'"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launchers_file_composes_without_its_plugin(launcher: str, monkeypatch: pytest.MonkeyPatch):
    Plugins.instance()  # they are found once, and their schemas with them
    group = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(group, f"{launcher}.yaml", raising=False)
    own = OmegaConf.to_container(OmegaConf.load(conf_dir() / "hydra" / "launcher" / f"{launcher}.yaml"))
    assert OmegaConf.to_container(composed(launcher).hydra.launcher, resolve=False) == own


def test_slurm_is_asked_for_what_the_file_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    skip_without("submitit_slurm")
    import submitit

    scripts: list[str] = []

    def submit(executor: submitit.AutoExecutor, *jobs: object) -> list[object]:
        scripts.append(executor._executor._make_submission_file_text("python", "id"))
        return []

    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    monkeypatch.setattr(submitit.AutoExecutor, "map_array", submit)
    cfg = composed("submitit_slurm", "hydra.launcher.partition=birds", f"hydra.sweep.dir={tmp_path}")
    launcher = Plugins.instance().instantiate_launcher(config=cfg, hydra_context=None, task_function=None)
    launcher.launch([["seed=1"], ["seed=2"]], initial_job_idx=0)
    asked = {line.removeprefix("#SBATCH --") for line in scripts[0].splitlines() if line.startswith("#SBATCH")}
    wanted = {"cpus-per-task=4", "job-name=birdclf", "mem=16GB", "nodes=1", "partition=birds", "time=1440"}
    assert wanted <= asked and not [line for line in asked if line.startswith("gpus")]


def test_a_launcher_that_fails_is_reported_in_a_sentence(birdclf: Command, tmp_path: Path, monkeypatch):
    skip_without("submitit_slurm")
    monkeypatch.setenv("PATH", str(tmp_path))
    done = birdclf("train", "-m", "seed=1,2", "hydra/launcher=submitit_slurm", cwd=tmp_path)
    assert (
        "Could not detect" in done.mistake
        and "srun" in done.mistake
        and "the same command runs the others" in done.mistake
    )
