"""Every YAML file under ``conf/`` is found by looking, composed, instantiated and, where it can be, stepped."""

import itertools
import json
import logging.config
import re
import shlex
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_xeno_canto import write_fetched
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from layouts import BUILDERS
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from made_embedder import needs_birdnet, with_file
from omegaconf import DictConfig, OmegaConf
from small_networks import smaller
from tiny_runs import REPO
from torch import nn

import birdclf.sweep.task  # noqa: F401, a word of the files
from birdclf.audio.mixing import Mix
from birdclf.audit.rules import VERDICT_OF, VERDICTS, Rules
from birdclf.augment.augmentation import Augmentation
from birdclf.augment.chain import Chain
from birdclf.config import conf_dir, folder_name
from birdclf.data.catalog import Catalog
from birdclf.errors import UserError
from birdclf.features.embedders.vectors import PrecomputedVectors
from birdclf.features.mfcc import MFCCStack
from birdclf.features.representation import Representation
from birdclf.metrics.criteria import Criteria
from birdclf.metrics.figures import Evaluation
from birdclf.models.probes import LinearProbe, Probe
from birdclf.posthoc.base import OutputRows, PostHoc
from birdclf.runs.trust import build
from birdclf.sweep.callbacks import EXTRA_OF
from birdclf.training.callbacks.averaging import Averaging
from birdclf.training.check import LOGGER_EXTRAS, MONITORED, check_settings
from birdclf.training.closed_form import ClosedForm
from birdclf.training.loggers import build_loggers

CONF = conf_dir()
PLACES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
ROOTS = [place for place in PLACES if "/" not in place]
COUNTS = torch.tensor([50, 20, 9, 3, 1])
LAYOUTS = {**BUILDERS, "xeno_canto": write_fetched}


def places(group: str) -> list[str]:
    return [place for place in PLACES if place.rpartition("/")[0] == group]


def names(group: str) -> list[str]:
    return [place.rpartition("/")[2] for place in places(group)]


def composed(*overrides: str, root: str = "train", hydra: bool = False) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(root, overrides=list(overrides), return_hydra_config=hydra)


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5))


@pytest.fixture
def given(recordings: Path, manifest: Path, tmp_path: Path) -> dict[str, str]:
    """Return a value for each setting that has none of its own."""
    split = tmp_path / "split.csv"
    split.write_text("recording_id,split\na,train\nb,val\nc,test\n")
    return {"data.root": str(recordings), "data.path": str(manifest), "split.path": str(split)}


# What becomes of an option of each group. A new group needs a line here, or its files fail the last test.


def build_data(node: DictConfig, tmp_path: Path) -> None:
    assert isinstance(instantiate(node), Catalog)
    catalog = build(OmegaConf.to_container(node), Catalog, "data")  # as a run folder is opened again
    assert len(catalog.classes) > 1 and len(catalog) >= len(catalog.classes)


def build_audio(node: DictConfig, tmp_path: Path) -> None:
    mix = instantiate(node)
    assert isinstance(mix, Mix) and mix.fingerprint().split()[1:] == [node.channel, node.dc, node.gain]


def build_audit(node: DictConfig, tmp_path: Path) -> None:
    rules = instantiate(node)
    assert isinstance(rules, Rules)
    assert all(getattr(rules, name) == value for name, value in node.items() if name != "_target_")
    assert all(rules.verdict(problem) in VERDICTS for problem in VERDICT_OF)


def features_of(node: DictConfig) -> Representation:
    """Return features, with the file of a made network where they need one."""
    return instantiate(with_file(OmegaConf.to_container(node)))


def build_features(node: DictConfig, tmp_path: Path) -> None:
    features = features_of(node)
    if isinstance(features, PrecomputedVectors):  # no sound gives them
        assert features(torch.zeros(2, *features.shape, 1)).shape == (2, *features.shape)
        return
    sound = torch.randn(int(features.sample_rate_hz * 5.3), generator=torch.Generator().manual_seed(0))
    bands = features.analyse(sound).bands[None, :, : features.frames]
    stack = features(bands)
    assert stack.shape == (1, *features.shape) and stack.isfinite().all()


def features_for(model: str) -> str:
    """Return the choice of features that the command of a model's file makes, or the usual one."""
    words = [word for word in shlex.split(command_of(f"model/{model}")) if word.startswith("features=")]
    return next(iter(words), f"features={composed(hydra=True).hydra.runtime.choices['features']}")


def build_model(node: DictConfig, tmp_path: Path) -> None:
    shape = features_of(node._get_root().features).shape
    logits = instantiate(smaller(node), num_classes=5, in_channels=shape[0]).eval()(torch.randn(2, *shape))
    assert logits.shape == (2, 5) and logits.isfinite().all()


def build_init(node: DictConfig, tmp_path: Path) -> None:
    if node is None:  # init=none
        return
    fit = instantiate(node)
    assert isinstance(fit, ClosedForm)
    fit.check(LinearProbe(5, in_channels=6))
    with pytest.raises(UserError):
        fit.check(network())


def loss_and_target(node: DictConfig, classes: list[int]) -> tuple[nn.Module, torch.Tensor]:
    """Return a loss and a target of some classes that it takes: of sets, each of one class."""
    if get_class(node._target_).task == "multi_label":
        target = torch.nn.functional.one_hot(torch.tensor(classes), 5).float()
        return instantiate(node, class_counts=COUNTS, examples=100), target
    return instantiate(node, class_counts=COUNTS), torch.tensor(classes)


def build_loss(node: DictConfig, tmp_path: Path) -> None:
    loss, target = loss_and_target(node, [0, 1, 2, 4])
    value = loss(torch.zeros(4, 5), target)
    assert value.ndim == 0 and value > 0


def build_optimizer(node: DictConfig, tmp_path: Path) -> None:
    tiny = network()
    before = [p.detach().clone() for p in tiny.parameters()]
    optimizer = instantiate(node)(tiny.parameters())
    tiny(torch.randn(3, 6)).square().mean().backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, tiny.parameters(), strict=True))


def build_layers(node: DictConfig, tmp_path: Path) -> None:
    tiny = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 5))
    layers = instantiate(node)
    layers.apply_freeze(tiny, 5)
    assert tiny[2].weight.requires_grad and tiny[0].weight.requires_grad != bool(node.freeze)
    assert len(layers.optimizer(torch.optim.Adam, tiny, 5).param_groups) == 1


def build_averaging(node: DictConfig, tmp_path: Path) -> None:
    if node is None:  # averaging=none
        return
    averaging = instantiate(node)
    assert isinstance(averaging, Averaging)
    assert all(getattr(averaging, name) == value for name, value in node.items() if name != "_target_")


def build_scheduler(node: DictConfig, tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
    scheduler = instantiate(node)(optimizer)
    for _ in range(60):
        optimizer.step()
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(0.5)
        else:
            scheduler.step()
        assert 0 < optimizer.param_groups[0]["lr"] <= 0.1


def build_split(node: DictConfig, tmp_path: Path) -> None:
    assert callable(instantiate(node).assign)


def build_window(node: DictConfig, tmp_path: Path) -> None:
    window = instantiate(node)
    assert window.train and window.eval


def build_sampler(node: DictConfig, tmp_path: Path) -> None:
    target = np.array([0, 1, 0, 2, 0, 0])
    positions = instantiate(node).order(target, 1, np.random.default_rng(0))
    assert positions.shape == target.shape and set(target[positions]) == {0, 1, 2}


def build_posthoc(node: DictConfig, tmp_path: Path) -> None:
    posthoc = instantiate(node)
    assert isinstance(posthoc, PostHoc)
    rows = OutputRows((5.0, 4.0, 3.0, 2.0, 1.0), (0.0,) * 5)
    logits = np.ones((4, 5), dtype=np.float32)
    adjustment = posthoc.fit(logits, COUNTS.tolist(), lambda logits: float(logits[0, 4] - logits[0, 0]), rows)
    changed = adjustment is not None and bool((adjustment.apply(logits) != logits).any())
    assert changed == posthoc.corrects_prior


def build_augment(node: DictConfig, tmp_path: Path) -> None:
    chain = {name: instantiate(one, _convert_="all") for name, one in node.items()}
    assert all(isinstance(augmentation, Augmentation) for augmentation in chain.values())
    assert list(Chain(chain, MFCCStack(), COUNTS, seed=1, batch_size=2).links) == list(chain)


def build_evaluation(node: DictConfig, tmp_path: Path) -> None:
    settings = instantiate(node)
    assert isinstance(settings, Evaluation)
    assert all(getattr(settings, name) == value for name, value in node.items() if name != "_target_")


def build_criteria(node: DictConfig, tmp_path: Path) -> None:
    criteria = instantiate(node, _convert_="all")
    assert isinstance(criteria, Criteria)
    assert [c.name for c in criteria.goals] == [entry["name"] for entry in node.goals]
    assert len(criteria.stretch) == len(node.stretch)


def build_trainer(node: DictConfig, tmp_path: Path) -> None:
    given = {"callbacks": [], "logger": False, "default_root_dir": tmp_path, "_convert_": "all"}
    if node.accelerator == "gpu" and not torch.cuda.is_available():
        with pytest.raises(InstantiationException) as refused:
            instantiate(node, **given)
        assert "The trainer refuses its settings" in str(refused.value)
        given["accelerator"] = "cpu"  # the rest of the file is exercised as well
        given["precision"] = "bf16-mixed"
    trainer = instantiate(node, **given)
    assert isinstance(trainer, Trainer) and trainer.max_epochs >= 1


def build_callbacks(node: DictConfig, tmp_path: Path) -> None:
    built = [instantiate(callback) for callback in node.values()]
    assert built and all(isinstance(callback, Callback) for callback in built)


def build_logger(node: DictConfig, tmp_path: Path) -> None:
    for part in node.values():
        if (extra := LOGGER_EXTRAS.get(part._target_)) is not None:
            pytest.importorskip(extra)
    loggers = build_loggers(node)
    assert len(loggers) == len(node) and all(isinstance(logger, Logger) for logger in loggers)
    loggers.close()


BUILD: dict[str, Callable[[DictConfig, Path], None]] = {
    "data": build_data,
    "audio": build_audio,
    "audit": build_audit,
    "features": build_features,
    "model": build_model,
    "init": build_init,
    "loss": build_loss,
    "layers": build_layers,
    "optimizer": build_optimizer,
    "scheduler": build_scheduler,
    "averaging": build_averaging,
    "split": build_split,
    "window": build_window,
    "sampler": build_sampler,
    "posthoc": build_posthoc,
    "augment": build_augment,
    "evaluation": build_evaluation,
    "criteria": build_criteria,
    "trainer": build_trainer,
    "callbacks": build_callbacks,
    "logger": build_logger,
}
OPTIONS = [place for group in BUILD for place in places(group)]
EXPERIMENTS = places("experiment")
SWEEPS = places("sweep")
TASKS = places("task")
LAUNCHERS = places("hydra/launcher")
SEARCHES = [place for place in PLACES if place.startswith(("hydra/sweeper", "callbacks/pruning"))]
HYDRA = [place for place in PLACES if place.startswith("hydra/") and place not in (*LAUNCHERS, *SEARCHES)]


def test_every_yaml_file_is_covered_by_one_of_these_tests():
    assert sorted([*ROOTS, *OPTIONS, *EXPERIMENTS, *SWEEPS, *TASKS, *HYDRA, *LAUNCHERS, *SEARCHES]) == PLACES
    assert CONF.resolve() == REPO / "conf"
    assert all([ROOTS, EXPERIMENTS, SWEEPS, HYDRA, LAUNCHERS, SEARCHES, *(places(group) for group in BUILD)])


@pytest.mark.parametrize("place", TASKS)
def test_every_task_has_parts_of_its_own_and_goes_with_the_best_recipes(place: str):
    task = place.rpartition("/")[2]
    for experiment in ("best", "birdnet_probe"):
        cfg = composed(f"task={task}", f"experiment={experiment}")
        assert cfg.task == task and get_class(cfg.loss._target_).task == task
        assert cfg.monitor.removeprefix("val/") in MONITORED[task]


@pytest.mark.parametrize("root", ROOTS)
def test_every_root_composes_with_its_own_defaults(root: str):
    cfg = composed(root=root, hydra=True)
    assert cfg.hydra.job.name == root
    assert cfg.hydra.run.dir.startswith("outputs/") and "=" not in cfg.hydra.run.dir
    with pytest.raises(Exception, match="no_such_key"):
        composed("no_such_key=1", root=root)


@pytest.mark.parametrize("place", OPTIONS)
def test_every_option_composes_and_instantiates(place: str, given: dict[str, str], tmp_path: Path):
    group, _, option = place.rpartition("/")
    for root in ROOTS:
        if group not in composed(root=root):
            continue
        beside = [features_for(option)] if group == "model" else []
        cfg = composed(f"{group}={option}", *beside, f"run_dir={tmp_path}", root=root)
        if group == "data" and option in LAYOUTS:
            given["data.root"] = str(LAYOUTS[option](tmp_path / option))
        for key in OmegaConf.missing_keys(cfg[group] or {}) if group != "features" else ():
            OmegaConf.update(cfg, key, given[key])
        BUILD[group](cfg[group], tmp_path)


@pytest.mark.parametrize("place", HYDRA)
def test_every_hydra_file_is_the_one_in_use(place: str, tmp_path: Path):
    group, _, option = place.rpartition("/")
    for root in ROOTS:
        cfg = composed(root=root, hydra=True)
        chosen = option if group == "hydra" else cfg.hydra.runtime.choices[group]
        assert chosen == option
    kind = group.partition("/")[2]
    if kind:
        handlers = logging.getLogger().handlers[:]
        with_folder = OmegaConf.merge(cfg, {"hydra": {"runtime": {"output_dir": str(tmp_path)}}})
        settings = OmegaConf.to_container(with_folder.hydra, resolve=False)[kind]
        resolved = OmegaConf.create({"hydra": {"runtime": {"output_dir": str(tmp_path)}, "job": {"name": "x"}}})
        resolved[kind] = settings
        try:
            logging.config.dictConfig(OmegaConf.to_container(resolved, resolve=True)[kind])
            assert logging.getLogger().handlers
        finally:
            for handler in logging.getLogger().handlers:
                handler.close()
            logging.getLogger().handlers[:] = handlers
            logging.getLogger().setLevel(logging.WARNING)


@pytest.mark.parametrize("place", LAUNCHERS)
@pytest.mark.filterwarnings(r"ignore:\s*'hydra/launcher:UserWarning")  # pytest takes the package's own filter away
def test_every_launcher_is_built_by_hydra_and_known_with_its_extra(place: str):
    name = place.rpartition("/")[2]
    for root in ROOTS:
        cfg = composed(f"hydra/launcher={name}", root=root, hydra=True)
        package = cfg.hydra.launcher._target_.split(".")[1]
        extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        (needed,) = extras[EXTRA_OF[package]]
        assert needed.startswith(f"{package.replace('_', '-')}>=")
        if find_spec(f"hydra_plugins.{package}") is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[{EXTRA_OF[package]}]'")
        built = Plugins.instance().instantiate_launcher(config=cfg, hydra_context=None, task_function=None)
        assert type(built).__name__ == cfg.hydra.launcher._target_.rpartition(".")[2]


def pairs() -> list[Any]:
    """Return every network with every loss; the first that cover both are fast."""
    models, losses = names("model"), names("loss")
    first = {(models[i % len(models)], losses[i % len(losses)]) for i in range(max(len(models), len(losses)))}
    every = itertools.product(models, losses)
    return [pytest.param(*pair, marks=[] if pair in first else pytest.mark.slow) for pair in every]


@pytest.mark.parametrize(("model", "loss"), pairs())
def test_every_model_takes_a_step_under_every_loss(model: str, loss: str):
    torch.manual_seed(0)
    cfg = composed(f"model={model}", features_for(model), f"loss={loss}")
    shape = features_of(cfg.features).shape
    net = instantiate(smaller(cfg.model), num_classes=5, in_channels=shape[0]).train()
    criterion, target = loss_and_target(cfg.loss, [0, 4])
    x = torch.randn(4, *shape)
    bags = torch.tensor([0, 0, 1, 1])
    logits = net.pool_windows(net(x), x, bags, 2) if isinstance(net, Probe) else net(x[:2])
    value = criterion(logits, target)
    soft = criterion(logits, torch.nn.functional.one_hot(torch.tensor([0, 4]), 5).float())
    assert value.isfinite() and torch.isclose(value, soft, rtol=1e-4)
    value.backward()
    gradients = [p.grad for p in net.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0


SMALL = (
    "data=synthetic",
    "data.num_species=4",
    "data.scale=0.01",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "+trainer.limit_train_batches=1",
    "+trainer.enable_progress_bar=false",
    "callbacks.progress=null",
    "store.workers=0",
)


def small(place: str, run: Path) -> DictConfig:
    """Return an experiment with its settings of size turned down."""
    name = place.rpartition("/")[2]
    narrow = ["model.width=0.05"] if "width" in composed(f"experiment={name}").model else []
    cfg = composed(f"experiment={name}", *SMALL, *narrow, f"run_dir={run}")
    assert cfg.name == name
    if cfg.features._target_.endswith(".BirdNET"):
        needs_birdnet()
    smaller(cfg.model)
    return cfg


def with_weights(cfg: DictConfig, file: Path) -> DictConfig:
    """Give an experiment that starts from weights some to begin with, for the four species of ``SMALL``."""
    if isinstance(OmegaConf.select(cfg, "model.pretrained"), str):
        made = instantiate({**cfg.model, "pretrained": False}, num_classes=4, in_channels=1)
        torch.save(made.backbone.state_dict(), file)
        cfg.model.pretrained = str(file)
    if cfg.redraw_output:
        torch.save(instantiate(cfg.model, num_classes=4, in_channels=3).state_dict(), file)
        cfg.init_from = str(file)
    return cfg


def trained() -> set[str]:
    """Return the experiments that the fast suite trains: those that choose something that no earlier one chooses."""
    seen: set[str] = set()
    found = set()
    for place in EXPERIMENTS:
        text = (CONF / f"{place}.yaml").read_text()
        chosen = set(re.findall(r"- override /(.+)", text))
        if chosen - seen and "\nmembers:" not in text:
            found.add(place)
        seen |= chosen
    return found - {"experiment/birdnet_best", "experiment/finetune"}  # whose parts other tests train


TRAINED = trained()
"""Training checks and builds them as well, so that the fast suite need not build them once more."""
SLOW = pytest.mark.slow


@pytest.mark.parametrize("place", [pytest.param(p, marks=SLOW if p in TRAINED else ()) for p in EXPERIMENTS])
def test_every_experiment_is_built(place: str, tmp_path: Path):
    check_settings(with_weights(small(place, tmp_path / "run"), tmp_path / "weights.pt"))


@pytest.mark.parametrize("place", [pytest.param(p, marks=() if p in TRAINED else SLOW) for p in EXPERIMENTS])
def test_every_experiment_is_really_stepped(place: str, tmp_path: Path):
    from birdclf.training.train import train

    cfg = small(place, tmp_path / "run")
    if cfg.members is not None:
        pytest.skip("it trains nothing: test_ensemble_job")
    if cfg.redraw_output:
        with pytest.raises(UserError, match="init_from=RUN"):
            train(cfg)
    score = train(with_weights(cfg, tmp_path / "weights.pt"))
    done = json.loads((tmp_path / "run" / "done.json").read_text())
    assert done["score"] == score and done["monitor"] == cfg.monitor
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["reference"] == OmegaConf.to_container(cfg)["reference"]


def sweep_jobs(params: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the overrides of every job that a sweep's ``params`` name, as Hydra's own sweeper makes them."""
    choices = []
    for key, value in params.items():
        override = OverridesParser.create().parse_override(f"{key}={value}")
        assert override.is_sweep_override(), f"{key} is the same in every job"
        choices.append([f"{key}={one}" for one in override.sweep_string_iterator()])
    return list(itertools.product(*choices))


def drawn_jobs(params: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the overrides of some trials of a search, drawn at random, and of every option at least one."""
    optuna = pytest.importorskip("optuna")
    from birdclf.sweep.trials import search_space, suggested

    space, fixed = search_space([f"{key}={value}" for key, value in params.items()])
    assert space and not fixed
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    jobs = [tuple(suggested(study.ask(), space)) for _ in range(20)]
    words = {word for job in jobs for word in job}
    assert all(f"{key}={one}" in words for key, among in space.items() for one in getattr(among, "choices", ()))
    return jobs


@pytest.mark.parametrize("place", [p for p in SEARCHES if p.startswith("callbacks/")])
def test_every_pruner_is_built_for_a_trial(place: str, tmp_path: Path):
    pytest.importorskip("optuna")
    from birdclf.sweep.trials import begin_study
    from birdclf.training.callbacks.pruning import Pruning

    begin_study(tmp_path, {}, "val/macro_f1", "max").ask()
    name = place.rpartition("/")[2]
    cfg = composed("sweep=optuna", f"callbacks/pruning={name}", f"run_dir={tmp_path / '0_job'}", hydra=True)
    pruning = instantiate(cfg.callbacks.pruning)
    assert isinstance(pruning, Pruning) and pruning.monitor == cfg.monitor and not pruning.trial.should_prune()
    sweeper = Plugins.instance()._instantiate(cfg.hydra.sweeper)
    assert type(sweeper.pruner).__name__ == cfg.callbacks.pruning.trial.pruner._target_.rpartition(".")[2]


@pytest.mark.parametrize("place", [p for p in SEARCHES if "/sampler/" in p])
def test_every_sampler_is_made_from_a_seed(place: str):
    optuna = pytest.importorskip("optuna")
    cfg = composed("sweep=optuna", f"hydra/sweeper/sampler={place.rpartition('/')[2]}", "run_dir=x", hydra=True)
    assert isinstance(instantiate(cfg.hydra.sweeper.sampler)(seed=1), optuna.samplers.BaseSampler)
    assert "optuna" not in OmegaConf.to_yaml(composed())


LONG = ("sweep/probes", "sweep/phase3")
"""Sweeps of many jobs; their own settings are composed with the command of their files as well."""


@pytest.mark.parametrize("place", [pytest.param(p, marks=SLOW if p in LONG else ()) for p in SWEEPS])
def test_every_sweep_names_options_that_exist_and_jobs_that_differ(place: str):
    name = place.rpartition("/")[2]
    cfg = composed(f"sweep={name}", hydra=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    assert "=" not in cfg.hydra.sweep.dir
    params = {k: v for k, v in OmegaConf.to_container(cfg.hydra.sweeper.params).items() if "," in str(v)}
    if len(params) > 1:
        params.pop("seed", None)  # all seeds compose alike
    fixed = [f"{k}={v}" for k, v in cfg.hydra.sweeper.params.items() if k not in params and k != "seed"]
    searched = "n_trials" in cfg.hydra.sweeper
    jobs = drawn_jobs(params) if searched else sweep_jobs(params)
    assert len(jobs) > 1
    seen = set()
    for job in jobs:
        chosen = composed(f"sweep={name}", *fixed, *job, "run_dir=x")
        seen.add(OmegaConf.to_yaml(chosen, resolve=True))
        for override in (*fixed, *job):
            key, _, value = override.partition("=")
            if (CONF / key).is_dir():
                assert f"{key}/{value}" in PLACES
        assert "=" not in folder_name(",".join(job))
    assert len(seen) == len(jobs), "two jobs of the sweep have equal settings"


COMMAND = re.compile(r"(?:birdclf (?:train|prepare)|tensorboard --logdir) .*")


def command_of(place: str) -> str:
    """Return the command in a file's first two lines."""
    head = (CONF / f"{place}.yaml").read_text().splitlines()[:2]
    found = [match[0] for line in head if line.startswith("#") and (match := COMMAND.search(line))]
    assert found, f"conf/{place}.yaml: no command in its first two lines"
    return found[0]


@pytest.mark.parametrize("place", [*OPTIONS, *EXPERIMENTS, *SWEEPS, *LAUNCHERS, *SEARCHES])
@pytest.mark.filterwarnings(r"ignore:\s*'hydra/launcher:UserWarning")
def test_every_file_opens_with_the_command_that_runs_it(place: str):
    group, _, option = place.rpartition("/")
    program, *words = shlex.split(command_of(place))
    assert program == "birdclf", f"conf/{place}.yaml opens with another program's command"
    root, words = words[0], [word for word in words[1:] if word != "-m"]
    by_name = f"{group}={option}" in words
    swept = [word for word in words if word.startswith("sweep=")]  # which chooses groups of its own
    in_use_anyway = composed(*swept, root=root, hydra=True).hydra.runtime.choices[group] == option
    by_key = in_use_anyway and any(word.lstrip("+").startswith(f"{group}.") for word in words)
    assert by_name or by_key or (in_use_anyway and swept), (
        f"conf/{place}.yaml is not what its command runs: {' '.join(words)}"
    )
    assert ("-m" in shlex.split(command_of(place))) == (group in ("sweep", "hydra/launcher") or place in SEARCHES)
    words = [word for word in words if word.startswith("hydra") or "," not in word]  # what a sweep varies is no value
    cfg = composed(*words, root=root, hydra=True)
    assert cfg.hydra.runtime.choices[group] == option


def test_experiments_and_sweeps_are_global():
    first = "# @package _global_\n"
    assert [p for p in (*EXPERIMENTS, *SWEEPS) if not (CONF / f"{p}.yaml").read_text().startswith(first)] == []
