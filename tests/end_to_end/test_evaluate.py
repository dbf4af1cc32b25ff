"""``birdclf evaluate``: the same figures again, other windows, other sources, and what it refuses."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from tiny_runs import TINY, Command, Outcome, metrics_of, on_folder, write_recordings


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module", params=["audio_cnn", "audio_cnn_v2"])
def either(request: pytest.FixtureRequest, birdclf: Command, recordings: Path, work: Path) -> Path:
    """A run of each network. Tests only read it."""
    folder = work / request.param
    words = on_folder(recordings, folder, "trainer.max_epochs=2", "optimizer.lr=0.02", f"model={request.param}")
    done = birdclf(*words, "scheduler=constant", cwd=work)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="module")
def run(birdclf: Command, recordings: Path, work: Path) -> Path:
    """A run whose window is the first one. Tests only read it, or copy it."""
    done = birdclf(*on_folder(recordings, work / "run", "window.eval=first", "optimizer.lr=0.02"), cwd=work)
    assert done.status == 0, done.err
    return work / "run"


@pytest.fixture
def evaluate(birdclf: Command, work: Path):
    def command(*words: object) -> Outcome:
        return birdclf("evaluate", *words, cwd=work)

    return command


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    return Path(shutil.copytree(run, tmp_path / "copied"))


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_with_nothing_changed_it_equals_metrics_json(either: Path, evaluate):
    before = files(either)
    done = evaluate(either)
    assert done.status == 0, done.out + done.err
    assert done.out.rstrip().endswith("equal to metrics.json")
    assert files(either) == before


def test_a_store_that_is_gone_is_built_again(copied: Path, evaluate, tmp_path: Path):
    config = OmegaConf.load(copied / "config.yaml")
    config.store.dir = str(tmp_path / "store")
    OmegaConf.save(config, copied / "config.yaml")
    assert evaluate(copied).out.rstrip().endswith("equal to metrics.json")
    assert len(list((tmp_path / "store").glob("*/meta.json"))) == 1


def test_what_differs_is_listed(copied: Path, evaluate):
    metrics = metrics_of(copied)
    metrics["test"]["accuracy"]["value"] = 0.123
    (copied / "metrics.json").write_text(json.dumps(metrics))
    done = evaluate(copied)
    assert done.status == 1
    assert "test.accuracy.value: 0.123 in metrics.json" in done.out and "1 figures differ" in done.out


@pytest.mark.parametrize("window", ["center", "loudest", "all"])
def test_another_window_is_written_to_a_folder_of_its_own(window: str, run: Path, evaluate, tmp_path: Path):
    done = evaluate(run, "--window", window, "--out", tmp_path / "out")
    assert done.status == 0, done.err
    metrics = metrics_of(tmp_path / "out")
    assert metrics["window"] == window and metrics["temperature"] == metrics_of(run)["temperature"]
    assert metrics["test"]["nll"] != metrics_of(run)["test"]["nll"]
    rows, own = (pd.read_parquet(folder / "predictions.parquet") for folder in (tmp_path / "out", run))
    assert rows.recording_id.tolist() == own.recording_id.tolist() and rows.target.tolist() == own.target.tolist()
    for name in ("per_class.csv", "confusion_matrix.csv", "confusion_matrix.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out" / "per_class.csv")[["species", "train", "val", "test"]],
        pd.read_csv(run / "per_class.csv")[["species", "train", "val", "test"]],
    )
    assert f"{metrics['test']['accuracy']['value']:.3f} [" in done.out


def test_the_window_of_the_run_itself_is_no_change(run: Path, evaluate):
    assert evaluate(run, "--window", "first").out.rstrip().endswith("equal to metrics.json")


def test_nothing_is_overwritten(copied: Path, evaluate):
    first = evaluate(copied, "--checkpoint", "last")
    assert first.status == 0, first.err
    assert metrics_of(copied / "evaluations" / "last")["checkpoint"] == "last"
    before = files(copied)
    again = evaluate(copied, "--checkpoint", "last")
    assert "evaluations/last exists already" in again.mistake and "--out" in again.mistake
    assert files(copied) == before


def test_a_moved_source_is_asked_for_and_then_taken(copied: Path, evaluate, recordings: Path):
    config = OmegaConf.load(copied / "config.yaml")
    config.data.root = "/nowhere/recordings"
    OmegaConf.save(config, copied / "config.yaml")
    mistake = evaluate(copied).mistake
    assert "/nowhere/recordings" in mistake and "--source data.root=" in mistake
    done = evaluate(copied, "--source", f"data.root={recordings}")
    assert done.status == 0 and done.out.rstrip().endswith("equal to metrics.json")


def test_recordings_that_are_gone_are_named(copied: Path, evaluate, recordings: Path, tmp_path: Path):
    fewer = Path(shutil.copytree(recordings, tmp_path / "fewer"))
    (fewer / "Bubo bubo" / "03.wav").unlink()
    config = OmegaConf.load(copied / "config.yaml")
    config.data.root = str(fewer)
    OmegaConf.save(config, copied / "config.yaml")
    mistake = evaluate(copied).mistake
    assert "lacks 1 of the 31" in mistake and "Bubo bubo/03.wav" in mistake and "--source data.root=" in mistake


def test_all_of_another_source_is_test(run: Path, evaluate, recordings: Path, tmp_path: Path):
    other = write_recordings(tmp_path / "other", {"Alauda arvensis": 3, "Corvus corax": 2}, seed=9)
    train = pd.read_csv(run / "split.csv").query("split == 'train' and species == 'Bubo bubo'").recording_id.iloc[0]
    (other / "Bubo bubo").mkdir()
    shutil.copy(recordings / train, other / "Bubo bubo" / "heard.wav")
    done = evaluate(run, "--source", "data=folder", f"data.root={other}", "--out", tmp_path / "out")
    assert done.status == 0, done.err
    metrics = metrics_of(tmp_path / "out")
    assert metrics["test"]["clips"] == 6 and "val" not in metrics
    assert metrics["trained_on"] == 1 and "1 of these recordings" in done.out
    rows = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert rows.target.value_counts().to_dict() == {"Alauda arvensis": 3, "Corvus corax": 2, "Bubo bubo": 1}
    assert [name for name in rows.columns if name.startswith("p:")] == [
        "p:Alauda arvensis", "p:Bubo bubo", "p:Corvus corax", "p:Turdus merula",
    ]  # fmt: skip


def test_species_that_the_run_does_not_know_are_named(run: Path, evaluate, own_recordings: Path):
    mistake = evaluate(run, "--source", f"data.root={own_recordings}").mistake
    assert "Apus apus, Pica pica, Sitta europaea" in mistake and "data.exclude" in mistake
    assert not (run / "evaluations").exists()


@pytest.mark.parametrize("word", ["data.root", "model.width=1", "datum=folder"])
def test_a_word_that_is_no_setting_of_the_source(word: str, run: Path, evaluate):
    assert word in evaluate(run, "--source", word).mistake


@pytest.mark.parametrize(("key", "value"), [("features.hop", 400), ("features.n_mels", 64), ("audio.channel", "left")])
def test_preprocessing_that_cannot_be_met_is_refused(key: str, value: object, copied: Path, evaluate):
    config = OmegaConf.load(copied / "config.yaml")
    OmegaConf.update(config, key, value)
    OmegaConf.save(config, copied / "config.yaml")
    mistake = evaluate(copied).mistake
    assert key in mistake and repr(value) in mistake and "checkpoint" in mistake


def test_what_is_missing_is_named(copied: Path, evaluate, tmp_path: Path):
    assert "is no folder" in evaluate(tmp_path / "nothing").mistake
    for name in ("metrics.json", "split.csv", "checkpoints/best.ckpt", "config.yaml"):
        (copied / name).unlink()
        assert f"{copied / name} does not exist" in evaluate(copied).mistake
    (copied / "config.yaml").write_text("a: [")
    assert "config.yaml cannot be read" in evaluate(copied).mistake


def test_a_run_that_did_not_finish_is_evaluated_into_a_folder(copied: Path, evaluate, tmp_path: Path):
    (copied / "metrics.json").write_text("{")
    assert "metrics.json cannot be read" in evaluate(copied).mistake
    assert evaluate(copied, "--out", tmp_path / "out").status == 0
    assert metrics_of(tmp_path / "out")["test"]["clips"] == 5


def test_without_a_temperature_one_is_fitted(copied: Path, evaluate):
    file = copied / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    del content["birdclf"]["temperature"]
    torch.save(content, file)
    assert evaluate(copied).out.rstrip().endswith("equal to metrics.json")


@pytest.mark.slow
def test_names_that_read_like_nothing_are_names(birdclf: Command, evaluate, work: Path, tmp_path: Path):
    folder = write_recordings(tmp_path / "in", {"NA": 5, "null": 5, "007": 5}, seconds=(0.5, 1))
    rows = [
        f"{path.relative_to(tmp_path)},{path.parent.name},{name}"
        for path, name in zip(sorted(folder.rglob("*.wav")), ["nan", "NA", "None", "1e3", *range(11)], strict=True)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,species,recording_id", *rows]) + "\n")
    run, again = tmp_path / "run", tmp_path / "again"
    words = ["data=manifest", f"data.path={tmp_path / 'list.csv'}", *TINY]
    done = birdclf("train", *words, f"hydra.run.dir={run}", cwd=work)
    assert done.status == 0, done.err
    assert evaluate(run).out.rstrip().endswith("equal to metrics.json")
    split = ["split=file", f"split.path={run / 'split.csv'}", f"init_from={run}"]
    done = birdclf("train", *words, *split, f"hydra.run.dir={again}", cwd=work)
    assert done.status == 0 and "init_from was trained on" not in done.out, done.err
    assert (again / "split.csv").read_bytes() == (run / "split.csv").read_bytes()
    done = birdclf("evaluate", run, again, "--out", tmp_path / "ensemble", cwd=work)
    assert done.status == 0, done.err
    done = birdclf("report", run, again, "--out", tmp_path / "report", "--no-gallery", cwd=work)
    assert done.status == 0 and "left out" not in done.out, done.out + done.err
