"""Options of Lightning's that a run relies on are supported, or refused before training by their key."""

from inspect import signature

import lightning.pytorch as pl
import pytest
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import ModelCheckpoint
from made_embedder import made_onnx
from omegaconf import DictConfig

from birdclf.config import conf_dir
from birdclf.errors import UserError
from birdclf.training.check import OF_CHECKPOINT, OF_TRAINER, check_settings
from birdclf.training.trainer import build_trainer

BASE = ("model=audio_cnn", "model.width=0.1", "trainer.accelerator=cpu", "features.window_s=1.0", "run_dir=run")

REFUSED = [
    *("callbacks.checkpoint.save_top_k=3", "callbacks.checkpoint.save_top_k=-1", "callbacks.checkpoint.save_top_k=0"),
    *("callbacks.checkpoint.dirpath=elsewhere", "callbacks.checkpoint.dirpath=0", "callbacks.checkpoint.dirpath=null"),
    *("callbacks.checkpoint.filename='{epoch}-{step}'", "callbacks.checkpoint.filename=2024"),
    *("callbacks.checkpoint.filename=null", "callbacks.checkpoint.monitor=val/nll", "callbacks.checkpoint.monitor=abc"),
    *("callbacks.checkpoint.monitor=null", "callbacks.checkpoint.mode=min", "+callbacks.checkpoint.save_last=true"),
    *("+callbacks.checkpoint.every_n_epochs=2", "+callbacks.checkpoint.every_n_train_steps=10"),
    *("+callbacks.checkpoint.save_on_train_epoch_end=true", "+callbacks.checkpoint.save_on_exception=true"),
    *("callbacks.checkpoint.enable_version_counter=true", "callbacks.snapshot.dirpath=elsewhere"),
    *(
        "callbacks.history.dirpath=elsewhere",
        "logger.tensorboard.save_dir=elsewhere",
        "logger.tensorboard.save_dir=null",
        "callbacks.early_stopping.monitor=val/acc",
    ),
    *("callbacks.early_stopping.monitor=null", "callbacks.early_stopping.mode=min"),
    *("callbacks.early_stopping.patience=-1", "callbacks.early_stopping.patience=[]", "+trainer.fast_dev_run=true"),
    *("+trainer.max_steps=10", "+trainer.limit_val_batches=1", "+trainer.limit_val_batches=0.5"),
    *("+trainer.limit_predict_batches=1", "+trainer.limit_test_batches=0", "+trainer.limit_train_batches=0"),
    *("+trainer.overfit_batches=2", "+trainer.val_check_interval=0.5", "+trainer.val_check_interval=1"),
    *("+trainer.check_val_every_n_epoch=2", "+trainer.reload_dataloaders_every_n_epochs=1", "+trainer.barebones=true"),
    *("+trainer.enable_checkpointing=false", "+trainer.model_registry=mine", "+trainer.sync_batchnorm=true"),
    *("+trainer.use_distributed_sampler=true", "+trainer.callbacks=[]", "+trainer.logger=true"),
    *("+trainer.plugins=[]", "+trainer.default_root_dir=x", "+trainer.alone=true", "trainer.log_every_n_steps=abc"),
    *("trainer.num_sanity_val_steps=abc", "trainer.num_sanity_val_steps=-2", "trainer.gradient_clip_val=-1"),
    *("trainer.max_epochs=0", "trainer.max_epochs=1e400", "trainer.accumulate_grad_batches=0"),
    *("+trainer.deterministic=abc", "+trainer.detect_anomaly=abc", "+trainer.inference_mode=null"),
    *("+trainer.gradient_clip_algorithm=abc", "seed=-1", "seed=4294967296"),
]
OF_ANOTHER_TASK = [
    (("loss=bce",), r"loss: BCE is for task=multi_label, .*Choose loss=balanced_softmax\|.*, or task=multi_label"),
    (("task=multi_label", "loss=focal"), r"loss: FocalLoss .* Choose loss=asymmetric\|bce\|bce_adj.*, or"),
    (("task=multi_label", "posthoc=logit_adjustment"), r"posthoc: LogitAdjustment .* Choose posthoc=none, or"),
    (("task=multi_label", "monitor=val/accuracy"), r"a metric of task=single_label, .* Use val/cmap"),
    (("monitor=val/cmap",), r"a metric of task=multi_label, and task is single_label. Use val/accuracy"),
    (("task=multi_label", "init=logistic"), r"init fits one class a recording, .* Use init=none"),
    (("task=multi_label", "callbacks.early_stopping.monitor=val/accuracy"), "callbacks.early_stopping.monitor is"),
]
TAKEN = [
    ("task=multi_label",),
    ("task=multi_label", "experiment=best"),
    ("task=multi_label", "loss=asymmetric", "monitor=val/nll", "augment=mixup"),
    ("task=multi_label", "loss=bce_adjusted", "model.head=cosine"),
    ("callbacks.early_stopping.monitor=val/nll",),
    ("callbacks.early_stopping=null",),
    ("callbacks.snapshot=null", "callbacks.history=null"),
    ("monitor=val/nll",),
    ("+callbacks.checkpoint.verbose=true", "+callbacks.checkpoint.every_n_epochs=1"),
    ("+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1.0", "+trainer.min_epochs=1"),
    ("trainer.num_sanity_val_steps=-1", "trainer.gradient_clip_val=null", "trainer.log_every_n_steps=0"),
    ("+trainer.max_time=00:01:00:00", "+trainer.profiler=simple", "+trainer.gradient_clip_algorithm=value"),
    ("seed=4294967295",),
    ("trainer.max_epochs=1e1",),
]


def composed(*words: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=[*BASE, *words])


@pytest.mark.parametrize(("words", "message"), OF_ANOTHER_TASK)
def test_parts_of_the_other_task_are_refused(words: tuple[str, ...], message: str):
    with pytest.raises(UserError, match=message):
        check_settings(composed(*words))


@pytest.mark.parametrize("word", REFUSED)
def test_an_option_that_a_run_relies_on_is_refused_by_its_key(word: str):
    key = word.lstrip("+").partition("=")[0]
    with pytest.raises(UserError, match=key.removeprefix("trainer.") if "algorithm" in key else rf"^{key} is "):
        try:
            check_settings(composed(word))
        except Exception as error:  # Hydra's word for what a constructor refuses
            raise (error.__cause__ if isinstance(error.__cause__, UserError) else error) from None


@pytest.mark.parametrize("words", TAKEN, ids=lambda words: words[0])
def test_others_are_taken(words: tuple[str, ...]):
    check_settings(composed(*words))


def test_early_stopping_follows_the_direction_of_its_own_metric():
    assert composed("callbacks.early_stopping.monitor=val/nll").callbacks.early_stopping.mode == "min"
    assert composed("monitor=val/nll").callbacks.early_stopping.mode == "min"
    assert composed().callbacks.early_stopping.mode == "max"


def test_a_checkpoint_callback_of_ones_own_is_held_to_the_same():
    cfg = composed()
    cfg.callbacks.checkpoint = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "monitor": "val/macro_f1"}
    with pytest.raises(UserError, match=r"callbacks\.checkpoint\.filename is None; it must be best"):
        check_settings(cfg)


def test_every_name_is_one_of_lightnings_and_the_defaults_pass():
    ours = {"alone"} & set(signature(build_trainer).parameters)
    of_trainer = signature(pl.Trainer).parameters
    assert set(OF_TRAINER) <= set(of_trainer) | ours
    assert set(OF_CHECKPOINT) <= set(signature(ModelCheckpoint).parameters)
    check_settings(composed())


def with_vectors(*words: str) -> DictConfig:
    file = made_onnx(800)
    settings = (f"features.file={file}", "features.sample_rate_hz=8000", "features.window_s=0.1", "run_dir=run")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=["features=embedder", *settings, "trainer.accelerator=cpu", *words])


@pytest.mark.parametrize("model", ["linear_probe", "mlp_probe", "cosine_probe", "prototype_probe", "attention_probe"])
def test_a_probe_is_taken_with_vectors_and_refused_with_bands(model: str):
    check_settings(with_vectors(f"model={model}", "window.train=bag"))
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose(
            "train", overrides=[f"model={model}", "window.train=bag", "run_dir=run", "trainer.accelerator=cpu"]
        )
    said = r"Probe takes one vector per window, but the features are of shape \(3, 20, 500\).*features=birdnet"
    with pytest.raises(UserError, match=said):
        check_settings(cfg)


@pytest.mark.parametrize("model", ["audio_cnn", "audio_cnn_v2"])
def test_other_networks_are_refused_with_vectors(model: str):
    said = (
        r"AudioCNN\w* takes channels, bands and frames, but the features are one vector of 6 values.*model=linear_probe"
    )
    with pytest.raises(UserError, match=said):
        check_settings(with_vectors(f"model={model}"))


def test_attention_needs_bags():
    for policy in ("random", "all", "first"):
        with pytest.raises(
            UserError, match=rf"window\.train={policy} shows one window at a time\. Use window\.train=bag"
        ):
            check_settings(with_vectors("model=attention_probe", f"window.train={policy}"))
    check_settings(with_vectors("model=linear_probe", "model.pool=log_mean_exp", "model.sharpness=5"))


@pytest.mark.parametrize("name", ["gain", "specaugment", "shift"])
def test_augmentations_of_bands_are_refused_with_vectors(name: str):
    with pytest.raises(UserError, match=rf"augment\.{name} changes sound over time and frequency"):
        check_settings(with_vectors("model=linear_probe", f"augment={name}"))


def test_a_closed_form_is_for_linear_probes_and_the_only_start():
    check_settings(with_vectors("model=linear_probe", "window.train=bag", "init=logistic"))
    with pytest.raises(UserError, match=r"init sets the weights of a linear probe, but the model is MLPProbe"):
        check_settings(with_vectors("model=mlp_probe", "init=ridge"))
