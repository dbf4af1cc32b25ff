"""Every setting acts: changed alone, it changes a draw, a batch, a loss, a gradient or a rate, or it is refused.

The files below ``conf/`` are found by looking, and each of their keys needs another value here or by its type, so that
a new setting that nobody reads fails a test.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from made_embedder import PERCH_SAMPLES, made_onnx, made_vectors, needs_birdnet
from omegaconf import DictConfig, OmegaConf
from torch.optim.lr_scheduler import ReduceLROnPlateau

from birdclf.config import conf_dir
from birdclf.data.module import RecordingDataModule
from birdclf.errors import UserError
from birdclf.features.mel import MelFeatures
from birdclf.training.build import build_classifier, build_data
from birdclf.training.check import check_settings

CONF = conf_dir()
GROUPS = ("loss", "sampler", "augment", "features", "window", "scheduler", "layers", "optimizer")
BASE = (
    "data=synthetic", "data.num_species=4", "data.scale=0.05", "model=audio_cnn", "model.width=0.1", "model.dropout=0",
    "store.workers=0", "loader.batch_size=8", "trainer.max_epochs=10", "trainer.accelerator=cpu", "channels_last=false",
    "run_dir=unused",
)  # fmt: skip
EPOCHS = (0, 5, 9)  # of max_epochs
RATED_EPOCHS = 30

# Another value of a key that has none by its type: of a text, of a list, or of null.
OTHER = {
    "beta": 0.5,
    "channels": "[delta,static]",
    "decay": "matrices",
    "delta_width": 5,
    "eval": "all",
    "eps": 1000.0,
    "f_max_hz": 12000,
    "file": "missing.onnx",
    "fill": "mirror",
    "freeze": "[features.0]",
    "freq_width": 0.4,
    "gamma": 0.5,
    "hop_s": 0.5,
    "input": "missing",
    "inside": "focal",
    "kappa": 100.0,
    "max_time_share": 0.05,
    "max_weight": 1.5,
    "max_weight_ratio": 1.5,
    "min_lr": 5e-4,
    "mode": "min",
    "n_fft": 2048,
    "nesterov": "false",
    "norm_stats": "learnt",
    "output": "missing",
    "padding": "silence",
    "peak": 0.5,
    "rates": "{classifier:0.1}",
    "reweight_from": 0.2,
    "sample_rate_hz": 48000,
    "time_width_s": 1.5,
    "train": "first",
    "window_s": 4.0,
}
# What a setting needs beside it to have something to act on.
WITH = {
    "loss/class_balanced.gamma": ["loss.inside=focal"],
    "loss/cross_entropy.max_weight_ratio": ["loss.weight_power=1"],
    **{f"loss/{name}": ["task=multi_label"] for name in ("bce", "bce_adjusted", "focal_bce", "asymmetric")},
    "loss/bce.max_weight": ["loss.weight_power=1"],
    "loss/bce_adjusted.weight_power": ["loss.tau=0"],
    "loss/bce_adjusted.max_weight": ["loss.weight_power=1", "loss.tau=0"],
    "loss/ldam": ["model.head=cosine"],
    "features": ["data.scale=0.01"],  # each change makes a store, and classes may be alike in size
    "features/log_mel.delta_width": ["features.channels=[static,delta]"],
    "features/pcen.delta_width": ["features.channels=[static,delta]"],
    "layers/default.norm_stats": ["layers.freeze=[features.0]"],
}
# What a setting is changed by where neither its name nor its type says.
ELSEWHERE = {
    "loss/ldam.scale": "model.scale=20",
    "loss/focal.alpha": "loss.alpha=class_frequency",
    "loss/focal_bce.alpha": "loss.alpha=0.25",
    "features/fusion.window_s": "features.window_s=6.0",
    **{f"features/{name}.padding": "features.padding=repeat" for name in ("perch_mel", "birdnet", "perch", "embedder")},
}
WITHOUT_A_PART_OF_THEIR_OWN = ("parts.first.padding", "parts.second.padding")
"""Settings of the parts of a fusion that have none: each gets whole windows."""


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=[*BASE, *overrides])


def keys_of(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of every setting of a group's file, as composed."""
    for name, value in node.items():
        if isinstance(value, dict) and name not in OTHER:
            yield from keys_of(value, f"{above}{name}.")
        elif not name.startswith("_"):
            yield f"{above}{name}", value


MEL = [
    file.stem
    for file in sorted((CONF / "features").glob("*.yaml"))
    if issubclass(get_class(composed(f"features={file.stem}").features._target_), MelFeatures)
]
"""Features over time and frequency."""
PLACES = [f"{group}/{file.stem}" for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]


def beside(place: str, key: str | None = None) -> tuple[str, ...]:
    """Return the words that a file, or one of its settings, needs beside the one that is changed."""
    group, _, option = place.partition("/")
    also = WITH.get(f"{place}.{key}", []) if key else []
    return (f"{group}={option}", *WITH.get(group, []), *WITH.get(place, []), *also)


def settings_of(place: str) -> Iterator[tuple[str, str]]:
    """Yield every setting of a file, and the word that changes it alone."""
    group = place.partition("/")[0]
    for key, value in keys_of(OmegaConf.to_container(composed(*beside(place))[group], resolve=True)):
        yield key, ELSEWHERE.get(f"{place}.{key}") or f"{group}.{key}={other_value(key, value)}"


def other_value(key: str, value: Any) -> str:
    """Return another value than the default, in Hydra's words."""
    name = key.rpartition(".")[2]
    if name in OTHER:
        return str(OTHER[name])
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int):
        return str(value // 2 if value >= 16 else value + 1)
    if isinstance(value, float):
        return repr(0.7 * value if value else 0.3)
    if isinstance(value, list) and all(isinstance(one, float) for one in value):
        return repr([0.7 * one for one in value])
    raise AssertionError(f"{key}={value!r} has no other value here: give it one in OTHER")


DATA: dict[str, RecordingDataModule] = {}


def prepared(cfg: DictConfig) -> RecordingDataModule:
    """Return the data of a configuration, prepared once for all that have the same."""
    groups = ("data", "features", "window", "sampler", "split", "audio", "audit", "loader", "seed", "task")
    settings = OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, list(groups)), resolve=False)
    if settings not in DATA:
        DATA[settings] = build_data(cfg)
        DATA[settings].prepare()
    return DATA[settings]


def observed(cfg: DictConfig) -> Iterator[tuple[str, Any]]:
    """Yield all that a setting may change in the first steps of an epoch, and the rates of many."""
    pl.seed_everything(cfg.seed, verbose=False)
    data = prepared(cfg)
    classifier = build_classifier(cfg, data)[0].train()
    classifier.trainer = trainer = instantiate(
        cfg.trainer, callbacks=[], logger=False, default_root_dir=Path(cfg.run_dir), _convert_="all"
    )
    made = classifier.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    trainer.optimizers = [optimizer]
    yield "rates", rates_of(optimizer, scheduler)
    batch = next(iter(data.val_dataloader()))
    yield "validation", (digest(batch.bands), len(batch.bands))
    for epoch in EPOCHS:
        trainer.fit_loop.epoch_progress.current.completed = epoch
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for i, batch in zip(range(2), loader, strict=False):
            torch.manual_seed(i)
            yield f"draws {epoch} {i}", (batch.recording.tolist(), digest(batch.bands))
            classifier.on_train_batch_start(batch, i)
            optimizer.zero_grad()
            loss = classifier.training_step(batch, i)
            yield f"loss {epoch} {i}", loss.item()
            loss.backward()
            yield f"gradients {epoch} {i}", digest(*(p.grad for p in classifier.parameters() if p.grad is not None))
            optimizer.step()
            yield f"weights {epoch} {i}", digest(*classifier.network.parameters())
            yield f"statistics {epoch} {i}", digest(*classifier.network.buffers())


def rates_of(optimizer: torch.optim.Optimizer, scheduler: Any) -> list[list[float]]:
    """Return the rates of all groups over many epochs in which a metric gets no better; both are left as they were."""
    kept = optimizer.state_dict(), scheduler.state_dict()
    rates = []
    for epoch in range(RATED_EPOCHS):
        rates.append([group["lr"] for group in optimizer.param_groups])
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(0.1 * min(epoch, 4))
        else:
            optimizer._opt_called = True  # the order of the two calls is not what is looked at
            scheduler.step()
    optimizer.load_state_dict(kept[0])
    scheduler.load_state_dict(kept[1])
    return rates


def digest(*tensors: torch.Tensor) -> str:
    whole = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        whole.update(tensor.detach().contiguous().numpy().tobytes())
    return whole.hexdigest()


FIRST_STEP = 7  # observations up to the weights after it


@cache
def before(words: tuple[str, ...], number: int | None) -> list[tuple[str, Any]]:
    """Return the first observations, or all, of settings of which none is changed."""
    return list(islice(observed(composed(*words)), number))


def acts(words: tuple[str, ...], changed: str) -> bool:
    """Return whether a changed setting is seen in the first step, or else in later ones."""
    for number in (FIRST_STEP, None):
        after = islice(observed(composed(*words, changed)), number)
        if any(one != other for one, other in zip_longest(before(words, number), after)):
            return True
    return False


def heard(cfg: DictConfig) -> tuple[str, ...]:
    """Return what features make of a sound: what a store keeps of it, and what a network gets of a window."""
    features = instantiate(cfg.features)
    seconds = (1.7,) if isinstance(features, MelFeatures) else (0.7, 5.7)  # shorter than any window, and longer
    digests: list[str] = []
    for length in seconds:
        drawn = torch.randn(int(features.sample_rate_hz * length), generator=torch.Generator().manual_seed(0))
        bands = features.analyse(drawn.cumsum(0) * 1e-3).bands
        digests += [digest(bands), digest(features(bands[None, :, : features.frames]))]
    return features.fingerprint(), digests[0] + "".join(digests[2::2]), "".join(digests[1::2])


def of_features(place: str) -> tuple[str, ...]:
    """Return the words by which features of a file have one."""
    name = place.rpartition("/")[2]
    if name in ("birdnet", "fusion"):
        needs_birdnet()
    words = {
        "embedder": (f"features.file={made_onnx(16_000)}", "features.sample_rate_hz=16000", "features.window_s=1.0"),
        "perch": (f"features.file={made_onnx(PERCH_SAMPLES)}",),
        "vectors": (f"features.file={made_vectors()}",),
    }
    return words.get(name, ())


@pytest.mark.parametrize("place", [place for place in PLACES if not place.startswith("features/")])
def test_a_setting_changed_alone_changes_training(place: str) -> None:
    found = list(settings_of(place))
    assert [changed for key, changed in found if not acts(beside(place, key), changed)] == []


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=[pytest.mark.slow] if place == "features/fusion" else [])
        for place in PLACES
        if place.startswith("features/")
    ],
)
def test_a_setting_of_features_changed_alone_changes_the_features(place: str) -> None:
    """The store is found by the fingerprint, so that this changes with all that changes what the store holds."""
    given = of_features(place)
    found = [one for one in settings_of(place) if one[0] not in WITHOUT_A_PART_OF_THEIR_OWN]
    assert found
    for key, changed in found:
        words = (*beside(place, key), *given)
        try:
            after = heard(composed(*words, changed))
        except (UserError, InstantiationException):
            assert given or "missing" in changed, f"{changed} is refused"  # by a file that is made for something else
            continue
        usual = heard(composed(*words))
        assert after[1:] != usual[1:], f"{changed} changes nothing"
        assert (after[0] != usual[0]) == (after[1] != usual[1]), f"{changed} and the fingerprint"


@pytest.mark.slow
@pytest.mark.parametrize("place", [f"features/{name}" for name in MEL])
def test_a_setting_of_features_changed_alone_changes_training(place: str) -> None:
    assert [changed for key, changed in settings_of(place) if not acts(beside(place, key), changed)] == []


def test_the_same_settings_are_observed_alike() -> None:
    words = "augment=[specaugment,mixup]"
    assert list(observed(composed(words))) == list(observed(composed(words)))


IGNORED = [
    ("loss.gamma=1", "loss=class_balanced"),
    ("loss.max_weight_ratio=2", "loss=cross_entropy"),
    ("loss.max_weight=2", "task=multi_label", "loss=bce"),
    ("features.delta_width=5", "features=log_mel"),
    ("layers.norm_stats=learnt", "layers=default"),
    ("loss.beta=0.9", "loss=ldam", "model.head=cosine", "loss.reweight_from=null"),
    ("model.scale=20", "model.head=linear"),
    ("split.seed=3", "split=predefined"),
    ("redraw_output=true", "init_from=null"),
    ("allow=[prior_twice]", "loss=focal"),
    ("augment.specaugment.time_width_s=0.4", "augment=specaugment", "augment.specaugment.time_masks=0"),
    ("augment.specaugment.max_time_share=0.4", "augment=specaugment", "augment.specaugment.time_masks=0"),
    ("augment.specaugment.freq_width=0.4", "augment=specaugment", "augment.specaugment.freq_masks=0"),
    ("augment=gain", "features=log_mel", "features.channels=[delta]"),
]


@pytest.mark.parametrize("words", IGNORED, ids=lambda words: words[0])
def test_a_setting_that_the_rest_would_ignore_is_refused(words: tuple[str, ...]) -> None:
    check_settings(composed(*words[1:]))
    with pytest.raises((UserError, InstantiationException)) as refused:
        check_settings(composed(*words))
    cause = refused.value if isinstance(refused.value, UserError) else refused.value.__cause__
    assert isinstance(cause, UserError), cause
    assert words[0].split("=")[0].rpartition(".")[2] in str(cause)
