"""Names of settings, options, modules and extras that stand in strings are those of the things themselves."""

import ast
import dataclasses
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.utils import get_class
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf

import birdclf
from birdclf import cli, config
from birdclf.report import configurations
from birdclf.runs import ensemble as ensemble_job
from birdclf.runs import trust
from birdclf.sweep import callbacks as folders
from birdclf.sweep import callbacks as launcher
from birdclf.sweep import callbacks as patience
from birdclf.sweep import table
from birdclf.training import train

PACKAGE = Path(birdclf.__file__).parent
REPO = PACKAGE.parent
CONF = config.conf_dir()
FIELDS = {field.name for part in (config.TrainConfig, config.PrepareConfig) for field in dataclasses.fields(part)}
GROUPS = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")} - {"."}
FILE = re.compile(r"\.(csv|json|html|md|png|pt2|onnx|safetensors)$")


def keys_of(node: DictConfig, before: str = "") -> Iterator[str]:
    for name in map(str, node):
        yield before + name
        value = node._get_node(name)
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_missing():
            yield from keys_of(value, f"{before}{name}.")


@pytest.fixture(scope="module")
def keys() -> set[str]:
    """Every key of a command's settings, with each option of each group, and of Hydra's own."""
    found = {group.replace("/", ".") for group in GROUPS}
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for root in cli.COMPOSED:
            found |= set(keys_of(compose(root, return_hydra_config=True)))
        found |= set(keys_of(compose("train", overrides=["features=fusion"])))  # whose parts are options themselves
    for group in GROUPS:
        for file in (CONF / group).glob("*.yaml"):
            content = OmegaConf.load(file)
            if isinstance(content, DictConfig):
                found |= set(keys_of(content, f"{group.replace('/', '.')}."))
    found |= {f"trainer.{name}" for name in inspect.signature(Trainer).parameters}
    return found | {f"callbacks.checkpoint.{name}" for name in inspect.signature(ModelCheckpoint).parameters}


def nodes_of(node: object) -> Iterator[DictConfig]:
    if isinstance(node, DictConfig):
        yield node
        for name in node:
            yield from nodes_of(node._get_node(name))


def texts() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.value


def test_every_setting_that_a_text_names_is_one(keys):
    first = {key.partition(".")[0] for key in keys}
    named = re.compile(r"(?<![\w./{}~-])([a-z_]+(?:\.[a-z_]+)+)\b(?![(/.])")
    found = {(path.name, key) for path, text in texts() for key in named.findall(text) if not FILE.search(key)}
    settings = {(name, key) for name, key in found if key.partition(".")[0] in first and key != "hydra.main"}
    assert len(settings) > 40
    assert {(name, key) for name, key in settings if key not in keys} == set()


def test_every_extra_that_a_text_names_is_one():
    extras = set(
        tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    )
    named = {extra for _, text in texts() for extra in re.findall(r"birdclf\[(\w+)\]", text)}
    asked = {
        node.args[1].value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "from_extra"
        if isinstance(node.args[1], ast.Constant)
    }
    assert "optuna" in named and "timm" in asked
    assert named | asked | set(launcher.EXTRA_OF.values()) <= extras


def test_settings_that_decide_nothing_are_settings(keys):
    assert set(config.NOT_HASHED) <= FIELDS
    assert set(train.NOT_HYPERPARAMETERS) <= FIELDS
    assert set(ensemble_job.WITHOUT_EFFECT) <= FIELDS
    dotted = {name for name in configurations.UNSAID if "." in name}
    assert dotted <= keys and set(configurations.UNSAID) - dotted <= FIELDS | {"sweep", "hydra"}
    assert {f"callbacks.{name}" for name in config.NOT_HASHED_CALLBACKS} <= keys
    assert config.JOB_NAMING in keys


def test_words_that_a_sweep_skips_are_settings(keys):
    words = (*folders.ASIDE, *folders.NUMBERS, *table.NO_SETTING)
    named = {word.lstrip("+").rstrip("=./").replace("/", ".") for word in words}
    assert named <= keys | {"sweep"}


def test_options_of_hydra_that_take_a_value_are_known():
    parser = get_args_parser()
    taking = {option for action in parser._actions if action.nargs != 0 for option in action.option_strings}
    refused = {option for option in taking if option.startswith("--e")}
    assert taking - refused == {*cli.TAKE_A_VALUE, "--info", "-i"}


def test_options_that_only_show_something_are_known():
    options = {option for action in get_args_parser()._actions for option in action.option_strings}
    assert set(cli.SHOWING) <= options


@pytest.mark.parametrize("file", sorted((CONF / "hydra" / "launcher").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_launcher_is_known_by_the_package_that_its_file_names(file):
    target = str(OmegaConf.load(file)._target_)
    space, package = target.split(".")[:2]
    assert space == "hydra_plugins" and package in launcher.EXTRA_OF
    assert target.startswith(patience.REACHED) == (file.stem == "joblib")
    if not launcher._installed(package):
        pytest.skip(f"{package} is not installed")
    assert get_class(target).__module__.startswith(f"{space}.{package}")


def test_the_sweeper_is_known_by_the_name_that_its_file_names():
    assert OmegaConf.load(CONF / "hydra" / "sweeper" / "search.yaml")._target_ == launcher.SEARCH
    assert Plugins.instance().class_name_to_class[launcher.SEARCH] is get_class(launcher.SEARCH)
    assert launcher.SEARCH.startswith("hydra_plugins.") and issubclass(get_class(launcher.SEARCH), Sweeper)


@pytest.mark.parametrize("word", ["sweep=optuna", "hydra/sweeper=search"])
def test_a_search_without_its_extra_is_refused_before_a_folder_is_made(word, tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "find_spec", lambda name: None if name == "optuna" else object())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit, match=re.escape(f"{word} needs an extra: pip install 'birdclf[optuna]'")):
        cli.main(["train", "-m", word])
    assert list(tmp_path.iterdir()) == []


def test_packages_that_a_run_folder_may_name_are_those_that_the_files_name():
    targets = {
        str(node.get("_target_", "")).split(".")[0]
        for group in GROUPS
        if not group.startswith("hydra/") or group.startswith("hydra/sweeper/")
        for file in (CONF / group).glob("*.yaml")
        for node in nodes_of(OmegaConf.load(file))
    }
    assert targets - {"", "hydra_plugins"} == set(trust.NAMED)
