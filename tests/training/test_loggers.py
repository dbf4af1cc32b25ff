"""Several loggers at once, each through Lightning's interface, and those whose package is not there."""

import csv
import os
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import Logger
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from birdclf.config import conf_dir
from birdclf.errors import UserError
from birdclf.metrics.plots import picture_of
from birdclf.training import check
from birdclf.training.check import LOGGER_EXTRAS, check_loggers
from birdclf.training.loggers import FINAL, Loggers, build_loggers

FIGURES = {name: 0.25 for name in FINAL["single_label"]}
PICTURES = {"confusion_matrix": picture_of(Figure(figsize=(2, 1)))}


def nodes(folder: Path, *names: str):
    files = [OmegaConf.load(conf_dir() / "logger" / f"{name}.yaml") for name in names]
    return OmegaConf.merge({"run_dir": str(folder), "name": "run"}, {"logger": OmegaConf.merge(*files)}).logger


def rows(folder: Path, version: int) -> list[dict[str, str]]:
    with (folder / "csv" / f"version_{version}" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


class Recorder(Logger):
    """A logger that only knows Lightning's interface."""

    def __init__(self) -> None:
        super().__init__()
        self.said = []

    name = version = "recorder"

    def log_hyperparams(self, params, *args):
        self.said.append(("settings", params))

    def log_metrics(self, metrics, step=None):
        self.said.append((step, metrics))

    def finalize(self, status):
        self.said.append(("end", status))


def test_what_only_tensorboard_shows_is_left_out_of_the_others(tmp_path):
    loggers = build_loggers(nodes(tmp_path, "tensorboard", "csv"))
    recorder = Recorder()
    loggers.append(recorder)
    assert loggers.embeddings and not Loggers([recorder]).embeddings
    loggers.begin({"seed": 1, "loss": {"_target_": "some.Loss", "gamma": 2}})
    loggers.log_metrics({"val/nll": 0.5}, step=1)
    loggers.log_picture("lr_find", PICTURES["confusion_matrix"], step=0)
    loggers.end(FIGURES, PICTURES, epoch=7)
    loggers.close()
    final = {f"final/{name}": 0.25 for name in FINAL["single_label"]}
    settings = {"seed": 1, "loss": "Loss", "loss.gamma": 2}
    assert recorder.said == [("settings", settings), (1, {"val/nll": 0.5}), (7, final), ("end", "success")]
    assert [row["step"] for row in rows(tmp_path, 0)] == ["1", "7"]
    assert "loss.gamma: 2" in (tmp_path / "csv" / "version_0" / "hparams.yaml").read_text()
    assert list((tmp_path / "tensorboard").glob("events.out.*"))


def test_a_resumed_run_overwrites_no_table(tmp_path):
    for version in (0, 1):
        loggers = build_loggers(nodes(tmp_path, "csv"), purge_step=2 if version else None)
        loggers.log_metrics({"val/nll": 0.5 - version}, step=version + 1)
        assert [row["step"] for row in rows(tmp_path, version)] == [str(version + 1)]  # written at once
        loggers.close()
    assert [float(rows(tmp_path, version)[0]["val/nll"]) for version in (0, 1)] == [0.5, -0.5]


def test_a_run_that_fails_is_reported_as_a_failure():
    recorder = Recorder()
    with pytest.raises(ValueError, match="broken"):
        try:
            raise ValueError("broken")
        finally:
            Loggers([recorder]).close()
    assert recorder.said == [("end", "failed")]


class FakeRun:
    """What the logger asks of a run of wandb's."""

    def __init__(self, **settings: object) -> None:
        self.id, self.settings, self.logged = "a", settings, []
        self.config = {}
        self.log = self.logged.append

    def finish(self) -> None:
        sys.modules["wandb"].run = None


@pytest.fixture
def wandb(monkeypatch):
    """A fake of the package, which is not installed here."""
    made = []

    def init(**settings):
        made.append(FakeRun(**settings))
        sys.modules["wandb"].run = made[-1]
        return made[-1]

    fake = SimpleNamespace(run=None, init=init)
    parts = {
        "wandb": fake,
        "wandb.sdk": SimpleNamespace(),
        "wandb.sdk.lib": SimpleNamespace(RunDisabled=type("RunDisabled", (), {})),
        "wandb.wandb_run": SimpleNamespace(Run=FakeRun),
    }
    for name, module in parts.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    monkeypatch.setenv("WANDB_MODE", "online")
    return made


def test_each_job_has_a_run_of_wandb_of_its_own_and_offline(wandb, tmp_path):
    for job in ("0", "1"):
        loggers = build_loggers(nodes(tmp_path / job, "wandb"))
        loggers.close()  # one that fails before it logs begins no run
        assert len(wandb) == int(job)
        loggers.begin({"seed": 1})
        loggers.end(FIGURES, PICTURES, epoch=7)
        loggers.close()
        assert wandb[-1].config["seed"] == 1 and wandb[-1].settings["dir"] == str(tmp_path / job)
        assert wandb[-1].logged == [
            {f"final/{name}": 0.25 for name in FINAL["single_label"]} | {"trainer/global_step": 7}
        ]
    assert len(wandb) == 2 and os.environ["WANDB_MODE"] == "dryrun"


def test_nothing_but_a_logger_is_taken(tmp_path):
    with pytest.raises(UserError, match=r"logger\.mine\._target_ is pathlib\.Path, which is no logger"):
        build_loggers(OmegaConf.create({"mine": {"_target_": "pathlib.Path"}}))
    assert build_loggers(OmegaConf.create({"csv": None})) == build_loggers(nodes(tmp_path, "none")) == []


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_whose_package_is_missing_is_refused_with_its_extra(name, tmp_path, monkeypatch):
    node = nodes(tmp_path, name)
    extra = LOGGER_EXTRAS[node[name]._target_]
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(needed.startswith(f"{extra}>=") for needed in project["optional-dependencies"][extra])
    monkeypatch.setattr(check, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=rf"logger={name} needs an extra: pip install 'birdclf\[{extra}\]'"):
        check_loggers(node, str(tmp_path))


def test_loggers_keep_to_the_run_folder(tmp_path):
    check_loggers(nodes(tmp_path, "tensorboard", "csv"), str(tmp_path))
    with pytest.raises(UserError, match=r"logger\.csv\.save_dir"):
        check_loggers(nodes(tmp_path / "elsewhere", "csv"), str(tmp_path))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_it_logs_offline_into_the_run_folder(name, tmp_path, monkeypatch):
    pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    loggers = build_loggers(nodes(tmp_path / "run", name))
    loggers.begin({"seed": 1})
    loggers.log_metrics({"val/nll": 0.5}, step=1)
    loggers.end(FIGURES, PICTURES, epoch=7)
    loggers.close()
    assert list((tmp_path / "run").rglob("*"))
