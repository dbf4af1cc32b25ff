"""One training run, from the command line to a complete run folder."""

import json
import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from matplotlib.pyplot import imread
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import SPECIES, TINY, Command, Outcome, metrics_of, on_folder, pictures

from birdclf.config import conf_dir
from birdclf.training.loggers import FINAL

Run = Callable[..., Path]


@pytest.fixture(scope="module")
def run(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``run(*overrides)``: trains and returns the run folder."""

    def train(*overrides: str) -> Path:
        folder = tmp_path_factory.mktemp("runs") / "run"
        outcome = birdclf(*on_folder(recordings, folder, *overrides), cwd=folder.parent)
        assert outcome.status == 0, outcome.err
        assert (folder / "done.json").is_file()
        return folder

    return train


@pytest.fixture(scope="module")
def outcome(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """Two epochs with the defaults of everything but size: what was printed, and the run folder."""
    cwd = tmp_path_factory.mktemp("work")
    words = on_folder(recordings, "outputs/first", "trainer.max_epochs=2", "model.width=0.1", "monitor=val/accuracy")
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)  # as in a new process
    with pictures(drawn=True):
        done = birdclf(*words, cwd=cwd)
    assert done.status == 0, done.err
    return done, cwd / "outputs" / "first"


@pytest.fixture(scope="module")
def finished(outcome: tuple[Outcome, Path]) -> Path:
    return outcome[1]


@pytest.fixture(scope="module")
def events(finished: Path) -> EventAccumulator:
    read = EventAccumulator(str(finished / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    read.Reload()
    return read


def test_only_birdclf_prints(outcome: tuple[Outcome, Path]) -> None:
    done, folder = outcome
    said = done.out + done.err + (folder / "train.log").read_text()
    assert "GPU available" not in said and "litlogger" not in said


FILES = (
    "config.yaml",
    ".hydra/config.yaml",
    ".hydra/hydra.yaml",
    ".hydra/overrides.yaml",
    "train.log",
    "split.csv",
    "audit.csv",
    "provenance.json",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "history.json",
    "metrics.json",
    "predictions.parquet",
    "per_class.csv",
    "confusion_matrix.csv",
    "confusion_matrix.png",
    "reliability.png",
    "reliability_calibrated.png",
    "done.json",
)


def test_the_run_folder_is_complete(finished: Path):
    for name in FILES:
        assert (finished / name).stat().st_size > 0, name
    assert list((finished / "tensorboard").glob("events.out.tfevents.*"))
    assert not list(finished.rglob("*.tmp"))
    assert not [path for path in finished.rglob("*") if "=" in path.name]
    for picture in finished.glob("*.png"):
        assert np.unique(imread(picture)).size > 50, f"{picture.name} is blank"


def test_only_the_run_folder_is_written(finished: Path):
    work = finished.parent.parent
    assert [path.name for path in work.iterdir()] == ["outputs"]
    assert [path.name for path in (work / "outputs").iterdir()] == ["first"]


def test_the_output_ends_with_the_test_table_and_the_folder(outcome: tuple[Outcome, Path]):
    done, folder = outcome
    metrics = metrics_of(folder)
    assert f"{metrics['test']['accuracy']['value']:.3f} [" in done.out
    assert "recall, few-shot" in done.out
    last = done.out.rstrip().splitlines()[-1]
    assert last.startswith("run folder: ") and last.endswith("outputs/first")
    assert "31 recordings of 4 species; 21 train, 5 val, 5 test" in done.out


def test_the_log_holds_a_line_an_epoch(finished: Path):
    text = (finished / "train.log").read_text()
    assert len(re.findall(r"epoch \d: train nll \d\.\d+ accuracy .* val nll .* macro F1 .* lr ", text)) == 2
    assert "31 recordings of 4 species" in text


def test_the_config_is_resolved_and_holds_every_setting(finished: Path):
    config = OmegaConf.to_container(OmegaConf.load(finished / "config.yaml"))
    assert "${" not in (finished / "config.yaml").read_text()
    assert config["model"]["width"] == 0.1 and config["seed"] == 1
    assert config["callbacks"]["checkpoint"]["monitor"] == "val/accuracy"
    assert config["callbacks"]["checkpoint"]["mode"] == "max"


def test_the_split_names_every_recording_once(finished: Path, recordings: Path):
    split = pd.read_csv(finished / "split.csv")
    assert list(split.columns) == ["recording_id", "species", "split"]
    ids = {path.relative_to(recordings).as_posix() for path in recordings.rglob("*.wav")}
    assert set(split.recording_id) == ids and len(split) == len(ids)
    assert split.split.value_counts().to_dict() == {"train": 21, "val": 5, "test": 5}
    assert all(row.recording_id.startswith(f"{row.species}/") for row in split.itertuples())


@pytest.fixture(scope="module")
def predictions(finished: Path) -> pd.DataFrame:
    return pd.read_parquet(finished / "predictions.parquet")


def test_predictions_have_a_probability_a_class(predictions: pd.DataFrame, finished: Path):
    classes = sorted(SPECIES)
    columns = [f"p:{name}" for name in classes]
    assert list(predictions.columns) == ["recording_id", "split", "target", "prediction", "cluster", *columns]
    p = predictions[columns].to_numpy(dtype=np.float64)
    assert ((p >= 0) & (p <= 1)).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert (np.asarray(classes)[p.argmax(axis=1)] == predictions.prediction.to_numpy()).all()
    split = pd.read_csv(finished / "split.csv").set_index("recording_id")
    own = split.loc[predictions.recording_id]
    assert own.split.tolist() == predictions.split.tolist() and own.species.tolist() == predictions.target.tolist()
    evaluated = split[split.split != "train"]
    assert set(predictions.recording_id) == set(evaluated.index) and len(predictions) == len(evaluated)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_metrics_follow_from_the_predictions(stage: str, predictions: pd.DataFrame, finished: Path):
    from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

    metrics = metrics_of(finished)[stage]
    rows = predictions[predictions.split == stage]
    classes = sorted(SPECIES)
    p = rows[[f"p:{name}" for name in classes]].to_numpy(dtype=np.float64)
    accuracy = metrics["accuracy"]
    assert accuracy["value"] == pytest.approx((rows.target == rows.prediction).mean())
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    macro = f1_score(rows.target, rows.prediction, labels=classes, average="macro", zero_division=0)
    assert metrics["macro_f1"]["value"] == pytest.approx(macro)
    assert metrics["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(rows.target, rows.prediction))
    p = p / p.sum(axis=1, keepdims=True)
    assert metrics["nll"] == pytest.approx(log_loss(rows.target, p, labels=classes), rel=1e-4)
    assert metrics["clips"] == len(rows)


def test_tables_follow_from_the_predictions(predictions: pd.DataFrame, finished: Path):
    test = predictions[predictions.split == "test"]
    confusion = pd.read_csv(finished / "confusion_matrix.csv", index_col="species")
    assert list(confusion.index) == list(confusion.columns) == sorted(SPECIES)
    for (target, prediction), count in test.groupby(["target", "prediction"]).size().items():
        assert confusion.loc[target, prediction] == count
    assert confusion.to_numpy().sum() == len(test)
    table = pd.read_csv(finished / "per_class.csv").set_index("species")
    assert table.train.sum() == 21 and table.test.sum() == 5
    recall = np.diag(confusion) / confusion.sum(axis=1).clip(lower=1)
    np.testing.assert_allclose(table.recall.to_numpy(), recall.to_numpy())


def test_the_score_is_the_best_of_the_history(finished: Path):
    history = json.loads((finished / "history.json").read_text())
    metrics, done = metrics_of(finished), json.loads((finished / "done.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2]
    best = max(row["val/accuracy"] for row in history)
    assert done["score"] == metrics["score"] == pytest.approx(best)
    assert done["monitor"] == metrics["monitor"] == "val/accuracy"
    assert history[metrics["best_epoch"] - 1]["val/accuracy"] == pytest.approx(best)
    assert metrics["val"]["accuracy"]["value"] == pytest.approx(best), "the saved weights are not the best ones"
    assert metrics["epochs"] == 2 and done["seconds"] > 0 and len(done["config_hash"]) >= 16
    for row in history:
        assert all(math.isfinite(value) for value in row.values())
    assert [row["lr"] for row in history] == pytest.approx([1e-3 / 5, 2e-3 / 5])


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_checkpoint_opens_without_running_code_and_stands_alone(name: str, finished: Path):
    content = torch.load(finished / "checkpoints" / f"{name}.ckpt", map_location="cpu", weights_only=True)
    own = content["birdclf"]
    assert own["classes"] == sorted(SPECIES)
    assert own["features"]["n_mfcc"] == 20 and own["features"]["sample_rate_hz"] == 32_000
    assert own["config"]["model"]["width"] == 0.1
    json.dumps(own)  # plain values only
    mean, std = content["state_dict"]["features.mean"], content["state_dict"]["features.std"]
    assert mean.shape == std.shape == (3, 20, 1)
    assert mean.abs().max() > 1 and (std > 0).all(), "the normalisation was not fitted"


def test_tensorboard_holds_the_curves(events: EventAccumulator, finished: Path):
    history = json.loads((finished / "history.json").read_text())
    tags = set(events.Tags()["scalars"])
    names = ("loss", "nll", "accuracy", "macro_f1", "balanced_accuracy")
    curves = [f"{stage}/{name}" for stage in ("train", "val") for name in names] + ["lr", "train/grad_norm"]
    assert set(curves) <= tags, set(curves) - tags
    for tag in ("val/nll", "val/accuracy", "val/macro_f1", "val/balanced_accuracy", "train/loss", "train/nll"):
        scalars = events.Scalars(tag)
        assert [s.step for s in scalars] == [1, 2], f"{tag} has a point an epoch"
        assert [s.value for s in scalars] == pytest.approx([row[tag] for row in history], rel=1e-5)
    assert len(events.Scalars("lr")) == 2 and len(events.Scalars("train/grad_norm")) >= 1
    assert all(s.value > 0 for s in events.Scalars("train/grad_norm"))


def test_tensorboard_holds_hyperparameters_with_final_metrics(events: EventAccumulator, finished: Path):
    from tensorboard.plugins.hparams import plugin_data_pb2

    metrics = metrics_of(finished)
    for stage in ("val", "test"):
        (value,) = {s.value for s in events.Scalars(f"final/{stage}_accuracy")[-1:]}
        assert value == pytest.approx(metrics[stage]["accuracy"]["value"])
    parts = events.summary_metadata
    assert "_hparams_/session_start_info" in parts and "_hparams_/experiment" in parts
    content = plugin_data_pb2.HParamsPluginData.FromString(
        parts["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info
    hparams = {name: getattr(value, value.WhichOneof("kind")) for name, value in content.hparams.items()}
    by_end: dict[str, Any] = {re.split(r"[/.]", name, maxsplit=1)[-1]: value for name, value in hparams.items()}
    assert by_end["width"] == 0.1, sorted(hparams)
    assert by_end["lr"] == 1e-3
    experiment = plugin_data_pb2.HParamsPluginData.FromString(parts["_hparams_/experiment"].plugin_data.content)
    printable = {info.name.tag for info in experiment.experiment.metric_infos}
    assert {"final/test_accuracy", "final/test_macro_f1"} <= printable
    assert not re.search(r"[{}\[]", " ".join(hparams)), "hyperparameters are flat"


def test_tensorboard_holds_the_figures(events: EventAccumulator):
    images = events.Tags()["images"]
    assert set(images) >= {"confusion_matrix", "per_class_f1", "reliability", "reliability_calibrated"}
    for tag in images:
        picture = events.Images(tag)[-1]
        assert picture.width > 200 and picture.height > 200


def test_tensorboard_holds_the_curves_of_the_buckets(events: EventAccumulator, finished: Path):
    history = json.loads((finished / "history.json").read_text())
    for tag in ("val/few_recall", "val/few_f1"):
        assert [s.value for s in events.Scalars(tag)] == pytest.approx([row[tag] for row in history], rel=1e-5)
    few = metrics_of(finished)["val"]["buckets"]["few"]
    assert history[metrics_of(finished)["best_epoch"] - 1]["val/few_recall"] == pytest.approx(few["recall"])
    assert "val/many_recall" not in events.Tags()["scalars"], "no species has that many train recordings"


def test_tensorboard_lays_out_its_curves_on_one_page(events: EventAccumulator):
    from tensorboard.plugins.custom_scalar import layout_pb2

    (event,) = events.Tensors("custom_scalars__config__")
    page = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in page.category for chart in category.chart}
    scalars = events.Tags()["scalars"]
    printable = {tag for pattern in sum(charts.values(), []) for tag in scalars if re.match(pattern, tag)}
    curves = {f"{stage}/{name}" for stage in ("train", "val") for name in ("nll", "accuracy", "macro_f1")}
    assert printable == {*curves, "val/few_recall", "val/few_f1", "lr"}


def test_tensorboard_projects_the_validation_clips(finished: Path):
    (folder,) = (path.parent for path in (finished / "tensorboard").rglob("tensors.tsv"))
    vectors = np.loadtxt(folder / "tensors.tsv", delimiter="\t", ndmin=2)
    labels = pd.read_csv(folder / "metadata.tsv", sep="\t").set_index("recording")
    split = pd.read_csv(finished / "split.csv").set_index("recording_id")
    assert labels.columns.tolist() == ["species", "train recordings"]
    assert labels.species.to_dict() == split.species[split.split == "val"].to_dict()
    train = split.species[split.split == "train"].value_counts()
    assert (labels["train recordings"] == labels.species.map(train)).all()
    weights = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    last = [w for name, w in weights.items() if name.startswith("network.") and w.ndim == 2][-1]
    assert vectors.shape == (5, last.shape[1]) and np.isfinite(vectors).all() and vectors.std() > 0
    assert (folder / "sprite.png").read_bytes().startswith(b"\x89PNG")
    config = (finished / "tensorboard" / "projector_config.pbtxt").read_text()
    assert "sprite.png" in config and "single_image_dim: 32" in config


def test_several_loggers_at_once_and_without_embeddings(run: Run):
    folder = run("logger=[csv,tensorboard]", "logger.tensorboard.embeddings=false")
    assert not list(folder.rglob("tensors.tsv")) and list((folder / "tensorboard").iterdir())
    table = pd.read_csv(folder / "csv" / "version_0" / "metrics.csv").set_index("step")
    for row in json.loads((folder / "history.json").read_text()):
        logged = table.loc[[row["epoch"]]].max()
        assert logged["val/nll"] == pytest.approx(row["val/nll"]) and logged["train/nll"] == pytest.approx(
            row["train/nll"]
        )
    final = {
        name: metrics_of(folder)[name.split("_")[0]][name.split("_", 1)[1]]["value"] for name in FINAL["single_label"]
    }
    assert table[[f"final/{name}" for name in FINAL["single_label"]]].dropna().iloc[0].to_list() == pytest.approx(
        list(final.values())
    )


def test_the_temperature_is_fitted_on_validation_and_kept_in_the_checkpoint(finished: Path, predictions: pd.DataFrame):
    metrics = metrics_of(finished)
    temperature = metrics["temperature"]
    best = torch.load(finished / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
    assert best["birdclf"]["temperature"] == temperature > 0
    columns = [f"p:{name}" for name in sorted(SPECIES)]
    for stage in ("val", "test"):
        rows = predictions[predictions.split == stage]
        log_p = np.log(rows[columns].to_numpy(dtype=np.float64))
        own = [columns.index(f"p:{name}") for name in rows.target]

        def nll(t: float, log_p: np.ndarray = log_p, own: list[int] = own) -> float:
            scaled = log_p / t
            return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(own)), own]).mean())

        assert metrics[stage]["nll_calibrated"] == pytest.approx(nll(temperature), rel=1e-4)
        assert metrics[stage]["nll"] == pytest.approx(nll(1.0), rel=1e-4), "the probabilities are the uncalibrated ones"
        assert 0 <= metrics[stage]["ece_calibrated"] <= 1 and 0 <= metrics[stage]["ece"] <= 1
    assert metrics["val"]["nll_calibrated"] <= metrics["val"]["nll"] + 1e-9


def test_provenance_says_how_to_repeat_the_run(finished: Path, recordings: Path):
    from birdclf.training.results import split_hash

    provenance = json.loads((finished / "provenance.json").read_text())
    assert provenance["command"][:2] == ["birdclf", "train"]
    assert {"monitor=val/accuracy", "trainer.max_epochs=2"} <= set(provenance["command"])
    assert not [word for word in provenance["command"] if "exclude_keys" in word]
    assert set(provenance["overrides"]) <= set(provenance["command"])
    assert "data=folder" in provenance["overrides"]
    assert provenance["versions"]["torch"] == torch.__version__ and "hydra-core" in provenance["versions"]
    assert provenance["catalog"]["recordings"] == 31 and provenance["catalog"]["species"] == 4
    assert provenance["seed"] == 1 and provenance["machine"]["cpus"] >= 1
    split = pd.read_csv(finished / "split.csv")
    assert provenance["split_hash"] == split_hash(split.sample(frac=1, random_state=0))
    other = split.assign(split=split.split.where(split.index != 0, "left out"))
    assert provenance["split_hash"] != split_hash(other)


def test_a_run_on_busy_cores_says_so_once(run: Run, monkeypatch: pytest.MonkeyPatch):
    neighbours = SimpleNamespace(remedy=lambda threads: f"{threads} threads wait")
    monkeypatch.setattr("birdclf.training.train.NEIGHBOURS", neighbours)
    assert (run("seed=7") / "train.log").read_text().count("1 threads wait") == 1


def test_wrong_criteria_are_refused_before_anything_is_read(birdclf: Command, recordings: Path, tmp_path: Path):
    done = birdclf(*on_folder(recordings, tmp_path / "run", "criteria.goals=[{metric: accuracy}]"), cwd=tmp_path)
    assert "criteria.goals[0]" in done.mistake
    assert not (tmp_path / "run" / "split.csv").exists()


def test_criteria_do_not_change_a_run_and_evaluation_settings_do():
    from birdclf.config import config_hash

    config = {"seed": 1, "criteria": {"goals": []}, "evaluation": {"few": 20}}
    assert config_hash(config) == config_hash({**config, "criteria": {"goals": [1]}})
    assert config_hash(config) != config_hash({**config, "evaluation": {"few": 10}})


def test_the_same_seed_gives_the_same_metrics_and_another_seed_others(run: Run):
    first, second, third = (run("seed=3"), run("seed=3"), run("seed=4"))
    assert (first / "metrics.json").read_bytes() == (second / "metrics.json").read_bytes()
    assert (first / "split.csv").read_bytes() == (second / "split.csv").read_bytes()
    for row, again in zip(*(json.loads((r / "history.json").read_text()) for r in (first, second)), strict=True):
        assert {k: v for k, v in row.items() if "/" in k} == {k: v for k, v in again.items() if "/" in k}
    assert metrics_of(first) != metrics_of(third)
    assert (first / "split.csv").read_bytes() != (third / "split.csv").read_bytes()


@pytest.mark.slow
def test_a_seed_changes_weights_where_the_split_stays(run: Run):
    first = run("seed=1")
    other = run("seed=2", "split=file", f"split.path={first / 'split.csv'}")
    assert (first / "split.csv").read_bytes() == (other / "split.csv").read_bytes()
    assert metrics_of(first)["test"]["nll"] != metrics_of(other)["test"]["nll"]


def test_the_split_of_a_manifest_column_is_taken(birdclf: Command, manifest: Path, tmp_path: Path):
    words = [
        "train",
        "data=manifest",
        f"data.path={manifest}",
        "split=predefined",
        *TINY,
        f"hydra.run.dir={tmp_path}/run",
    ]
    done = birdclf(*words, cwd=tmp_path)
    assert done.status == 0, done.err
    given = pd.read_csv(manifest).set_index("path").split
    split = pd.read_csv(tmp_path / "run" / "split.csv").set_index("recording_id").split
    assert split.sort_index().to_dict() == given.sort_index().to_dict()


def test_a_run_folder_is_never_overwritten(birdclf: Command, finished: Path, recordings: Path):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    again = birdclf(*on_folder(recordings, finished), cwd=finished.parent)
    assert again.status == 1
    assert "hydra.run.dir" in again.mistake and str(finished) in again.mistake
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


@pytest.mark.parametrize("precision", ["bf16-mixed", pytest.param("32-true", marks=pytest.mark.slow)])
def test_a_step_in_each_precision(precision: str, run: Run):
    folder = run(f"trainer.precision={precision}")
    (row,) = json.loads((folder / "history.json").read_text())
    assert math.isfinite(row["train/nll"]) and math.isfinite(row["train/grad_norm"]) and row["train/grad_norm"] > 0
    weights = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(w.dtype == torch.float32 for w in weights.values() if w.is_floating_point())


def config_of(folder: Path) -> Any:
    return OmegaConf.load(folder / "config.yaml")


@pytest.mark.parametrize(
    "overrides",
    [
        (
            *("optimizer=adamw", "scheduler=warmup_cosine"),
            *("features.n_mfcc=16", "features.padding=silence", "features.window_s=3.0"),
        ),
        (
            *("optimizer=sgd", "scheduler=plateau", "optimizer.momentum=0.5"),
            *("model=audio_cnn", "model.width=0.1", "model.dropout=0.2", "loss=cross_entropy_sqrt"),
        ),
        (
            *("scheduler=constant", "monitor=val/nll", "channels_last=false"),
            *("loss=focal", "loss.gamma=1", "loss.alpha=class_frequency"),
            *("loader.batch_size=4", "trainer.gradient_clip_val=0.1", "trainer.log_every_n_steps=1"),
        ),
    ],
    ids=lambda overrides: overrides[0],
)
def test_an_ablation_by_overrides_alone(overrides: tuple[str, ...], run: Run):
    folder = run(*overrides)
    config = config_of(folder)
    for override in overrides:
        key, _, value = override.partition("=")
        if "." in key:
            assert OmegaConf.select(config, key) == OmegaConf.create(f"v: {value}").v
    rate = json.loads((folder / "history.json").read_text())[0]["lr"]
    target = config.scheduler._target_
    assert rate == pytest.approx(config.optimizer.lr * (0.2 if "warmup" in target else 1.0))


def test_a_metric_that_falls_is_minimised_and_a_run_without_pictures_has_its_tables(run: Run):
    folder = run("monitor=val/nll", "trainer.max_epochs=3", "optimizer.lr=0.05", "scheduler=constant", "pictures=false")
    assert not list(folder.glob("*.png")) and (folder / "confusion_matrix.csv").is_file()
    history = json.loads((folder / "history.json").read_text())
    values = [row["val/nll"] for row in history]
    done = json.loads((folder / "done.json").read_text())
    assert done["score"] == pytest.approx(min(values))
    assert metrics_of(folder)["best_epoch"] == values.index(min(values)) + 1
    assert metrics_of(folder)["val"]["nll"] == pytest.approx(min(values), rel=1e-4)


def test_windows_of_evaluation_change_the_predictions_only(run: Run):
    tables = {}
    for policy in ("first", "all"):
        folder = run(f"window.eval={policy}")
        tables[policy] = pd.read_parquet(folder / "predictions.parquet").set_index("recording_id")
        weights = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        tables[policy].attrs["weights"] = float(sum(w.double().sum() for w in weights.values()))
    assert len({table.attrs["weights"] for table in tables.values()}) == 1
    p = [f"p:{name}" for name in sorted(SPECIES)]
    assert not tables["first"][p].equals(tables["all"][p])


def test_windows_of_training_change_the_weights(run: Run):
    nll = {policy: metrics_of(run(f"window.train={policy}"))["val"]["nll"] for policy in ("random", "loudest")}
    assert len(set(nll.values())) == 2, nll


def test_train_returns_the_best_monitored_value(recordings: Path, tmp_path: Path):
    from birdclf.training.train import train

    words = on_folder(recordings, tmp_path / "unused", "trainer.max_epochs=3", "optimizer.lr=0.02")[1:-1]
    words = [word for word in words if not word.startswith("hydra.")]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[*words, "monitor=val/balanced_accuracy", f"run_dir={tmp_path / 'run'}"])
    score = train(cfg)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert score == pytest.approx(max(row["val/balanced_accuracy"] for row in history))


def test_training_learns_what_is_there_to_learn(run: Run):
    folder = run(
        "model.width=0.1", "trainer.max_epochs=12", "optimizer.lr=0.01", "scheduler=constant", "loader.batch_size=8"
    )
    history = json.loads((folder / "history.json").read_text())
    assert history[-1]["train/nll"] < 0.7 * history[0]["train/nll"]
