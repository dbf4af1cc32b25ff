"""The experiments are the published phases: every number of the study's tables, as the command line prints it."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from tiny_runs import Command, Outcome

import birdclf.config  # noqa: F401  the words that the YAML uses


def printed(outcome: Outcome) -> DictConfig:
    """Return the settings that ``--cfg job`` prints."""
    assert outcome.status == 0, outcome.err
    cfg = OmegaConf.create(outcome.out)
    assert isinstance(cfg, DictConfig)
    return cfg


@pytest.fixture
def settings(birdclf: Command, tmp_path: Path):
    """``settings(experiment)``: what the experiment's job would run with."""

    def of(experiment: str) -> DictConfig:
        return printed(birdclf("train", f"experiment={experiment}", "data.scale=1.0", "--cfg", "job", cwd=tmp_path))

    yield of
    assert not list(tmp_path.iterdir()), "printing the settings leaves files behind"


# model, loss, weight power or gamma, warmup epochs, batch size
PHASES = {
    "phase0": ("AudioCNN", "CrossEntropy", 0.0, 0, 32),
    "phase1_balanced": ("AudioCNN", "CrossEntropy", 1.0, 0, 32),
    "phase1_sqrt": ("AudioCNN", "CrossEntropy", 0.5, 0, 32),
    "phase2a": ("AudioCNN", "FocalLoss", 2.0, 5, 64),
    "phase2b": ("AudioCNNv2", "FocalLoss", 2.0, 5, 32),
    "control_v2_ce": ("AudioCNNv2", "CrossEntropy", 0.0, 5, 32),
    "control_v2_sqrt": ("AudioCNNv2", "CrossEntropy", 0.5, 5, 32),
}


def check_common(cfg: DictConfig) -> None:
    assert cfg.optimizer._target_ == "torch.optim.Adam"
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay) == (1e-3, 1e-4)
    assert list(cfg.optimizer.betas) == [0.9, 0.999]
    assert cfg.scheduler._target_.endswith(".warmup_step")
    assert (cfg.scheduler.step_epochs, cfg.scheduler.factor) == (10, 0.5)
    assert cfg.trainer.max_epochs == 50
    assert cfg.trainer.gradient_clip_val == 1.0
    assert cfg.monitor == "val/accuracy"
    stop, keep = cfg.callbacks.early_stopping, cfg.callbacks.checkpoint
    assert (stop.patience, stop.monitor, stop.mode) == (7, "val/accuracy", "max")
    assert (keep.monitor, keep.mode, keep.save_top_k) == ("val/accuracy", "max", 1)
    assert (cfg.split.train, cfg.split.val, cfg.split.test) == (0.70, 0.15, 0.15)
    assert cfg.split.min_recordings == 2
    assert cfg.model.dropout == 0.5 and cfg.model.width == 1.0
    features = cfg.features
    assert (features.sample_rate_hz, features.window_s, features.hop, features.n_fft) == (32_000, 5.0, 320, 1024)
    assert (features.n_mels, features.n_mfcc) == (128, 20)
    assert cfg.data._target_.endswith(".synthetic_catalog") and cfg.data.scale == 1.0


@pytest.mark.parametrize("experiment", PHASES)
def test_a_phase_has_its_published_settings(experiment: str, settings):
    model, loss, knob, warmup, batch = PHASES[experiment]
    cfg = settings(experiment)
    check_common(cfg)
    assert cfg.name == experiment
    assert cfg.model._target_.endswith(f".{model}")
    assert cfg.loss._target_.endswith(f".{loss}")
    if loss == "FocalLoss":
        assert cfg.loss.gamma == knob and cfg.loss.alpha is None
    else:
        assert cfg.loss.weight_power == knob
        assert cfg.loss.label_smoothing == 0.0 and cfg.loss.max_weight_ratio is None
    assert cfg.scheduler.warmup_epochs == warmup
    assert cfg.loader.batch_size == batch


def test_the_shown_command_prints_the_settings_of_phase_2b(python: Command, tmp_path: Path):
    outcome = python("-m", "birdclf", "train", "experiment=phase2b", "data.scale=1.0", "--cfg", "job", cwd=tmp_path)
    cfg = printed(outcome)
    check_common(cfg)
    assert cfg.model._target_.endswith(".AudioCNNv2") and cfg.loss.gamma == 2.0
    assert cfg.scheduler.warmup_epochs == 5 and cfg.loader.batch_size == 32
    assert not list(tmp_path.iterdir())


# The study's table; epochs is the last epoch of the run.
REFERENCES: dict[str, dict[str, Any] | None] = {
    "phase0": {"test": {"accuracy": 0.395, "macro_f1": 0.109}},
    "phase1_balanced": {"val": {"accuracy": 0.0644}, "test": {"macro_f1": 0.02}, "epochs": 23},
    "phase1_sqrt": {"val": {"accuracy": 0.2563}, "test": {"macro_f1": 0.08}, "epochs": 26},
    "phase2a": {"val": {"accuracy": 0.3303}, "test": {"macro_f1": 0.10}, "best_epoch": 16, "epochs": 23},
    "phase2b": {
        "val": {"accuracy": 0.4224},
        "test": {"accuracy": 0.4272, "macro_f1": 0.2167, "weighted_f1": 0.4149},
        "best_epoch": 26,
        "epochs": 33,
    },
    "control_v2_ce": None,
    "control_v2_sqrt": None,
}


@pytest.mark.parametrize("experiment", REFERENCES)
def test_a_phase_carries_the_published_figures(experiment: str, settings):
    reference = OmegaConf.to_container(settings(experiment))["reference"]
    assert reference == REFERENCES[experiment]
