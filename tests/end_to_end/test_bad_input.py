"""What a user's mistake gets: one sentence that names it and the remedy, or a recording set aside and listed."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from tiny_runs import TINY, Command, metrics_of, on_folder, sing, write_recordings


def check(mistake: str, *words: str) -> None:
    for word in words:
        assert word in mistake, f"{word!r} is not in: {mistake}"


# Settings that can be refused before any sound is read: the words, and what the sentence must hold.
SETTINGS = [
    (["no_such_key=1"], ["no_such_key", "seed"]),
    (["+no_such_key=1"], ["no_such_key"]),
    (["loss.gama=1", "loss=focal"], ["loss.gama", "loss.gamma?"]),
    (["modle=audio_cnn"], ["modle", "model?"]),
    (["model=audio_cn"], ["model", "audio_cn", "audio_cnn_v2"]),
    (["experiment=phase3"], ["experiment", "phase3", "phase2b"]),
    (["experiment=phase2b", "task=multi_label"], ["loss.gamma", "a setting of experiment=phase2b, which does not fit"]),
    (["+model.widht=0.5"], ["model.widht", "width"]),
    (["+loss.beta=0.9"], ["loss.beta"]),
    (["seed=abc"], ["seed is abc; it must be a whole number."]),
    (["seed=null"], ["seed=null cannot be used", "not Optional"]),
    (["resume=perhaps"], ["resume is perhaps; it must be true or false."]),
    (["loader.batch_size=many"], ["loader.batch_size is many; it must be a whole number."]),
    (["lr=1"], ["no setting 'lr'. Did you mean optimizer.lr?"]),
    (["epochs=1"], ["no setting 'epochs'. Did you mean", "trainer.max_epochs"]),
    (["gamma=1"], ["no setting 'gamma'. Did you mean loss.gamma (with loss=class_balanced or focal or focal_bce)?"]),
    (["root=1", "data=synthetic"], ["no setting 'root'. Did you mean data.root (with data=", "folder"]),
    (
        ["augment=[specaugment,", "mixup]"],
        ["Leave it out: augment=[specaugment,mixup]", "'augment=[specaugment, mixup]'"],
    ),
    (["-m", "loss=focal,", "ldam"], ["Leave it out: loss=focal,ldam", "'loss=focal, ldam'"]),
    (["birds"], ["birds is not KEY=VALUE", "no such folder or setting", "--help"]),
    (["init_from=my", "run"], ["run is not KEY=VALUE", "quote both: 'init_from=my run'"]),
    (["loss=focal,ldam"], ["loss=focal,ldam", "sweep: add -m", "loss=[focal,ldam]"]),
    (["data=folders"], ["data has no option 'folders'. Did you mean folder? It has audacity, ", "xeno_canto."]),
    (["hydra/launcher=nonsense"], ["hydra/launcher has no option 'nonsense'. It has basic"]),
    (["loader.batch_size=0"], ["loader.batch_size", "0", "1 or more"]),
    (["loss=focal", "loss.gamma=-1"], ["loss.gamma", "-1", "0 or more"]),
    (["loss=focal", "loss.gamma=high"], ["loss.gamma", "high"]),
    (["loss=focal", "loss.alpha=often"], ["loss.alpha", "often", "class_frequency"]),
    (["loss.weight_power=-2"], ["loss.weight_power", "-2", "between 0 and 2"]),
    (["split.train=0.8"], ["split.train", "0.8", "1.1"]),
    (["split.min_recordings=0"], ["split.min_recordings", "1 or more"]),
    (["split=file"], ["split.path", "split.path="]),
    (["split=file", "split.path=nowhere.csv"], ["split.path", "nowhere.csv", "does not exist"]),
    (["window.eval=last"], ["window.eval", "last", "center"]),
    (["model.width=0"], ["model.width", "above 0"]),
    (["model.dropout=1.5"], ["model.dropout", "1.5", "below 1"]),
    (["optimizer.lr=-1"], ["optimizer", "-1"]),
    (["scheduler.warmup_epochs=-2"], ["scheduler.warmup_epochs", "-2"]),
    (["trainer.max_epochs=0"], ["trainer.max_epochs", "1 or more"]),
    (["trainer.precision=8-true"], ["8-true", "16-mixed"]),
    (["trainer.precision=16-mixed", "trainer.accelerator=cpu"], ["16-mixed", "CPU", "bf16-mixed"]),
    (["+trainer.epochs=3"], ["epochs", "trainer"]),
    (["monitor=val/loss"], ["monitor", "val/loss", "val/nll"]),
    (["monitor=accuracy"], ["monitor", "val/accuracy"]),
    (["features.padding=zero"], ["features.padding", "zero", "repeat"]),
    (["features.n_mfcc=0"], ["features.n_mfcc", "0"]),
    (["features.channels=[static,static]"], ["features.channels", "static, delta, delta2"]),
    (["features.channels=[static]", "features.delta_width=5"], ["features.delta_width", "5", "no delta"]),
    (["features=log_mel", "features.f_max_hz=17000"], ["features.f_max_hz", "17000", "16000"]),
    (["features=pcen", "features.gain=2"], ["features.gain", "2"]),
    (["audio.channel=middle"], ["audio.channel", "middle", "loudest"]),
    (["audio.dc=true"], ["audio.dc", "true", "remove"]),
    (["audio.gain=loud"], ["audio.gain", "loud", "rms"]),
    (["audio.chanel=left"], ["audio.chanel", "audio.channel?"]),
    (["audit.min_duration_s=-1"], ["audit.min_duration_s", "-1", "0 or more"]),
    (["audit.min_duration_s=long"], ["audit.min_duration_s", "long", "number"]),
    (["audit.max_dc=null"], ["audit.max_dc", "None", "number"]),
    (["audit.min_rate_hz=inf"], ["audit.min_rate_hz", "inf", "number"]),
    (["audit.min_duraton_s=1"], ["audit.min_duraton_s", "audit.min_duration_s?"]),
    (["audit.verdicts.clipped=maybe"], ["audit.verdicts.clipped", "maybe", "ok, warn, reject"]),
    (["audit.verdicts.clipped=null"], ["audit.verdicts.clipped", "None", "ok, warn, reject"]),
    (["audit.verdicts=reject"], ["audit.verdicts", "reject"]),
    (["+audit.verdicts.undecodable=ok"], ["audit.verdicts.undecodable", "ok", "reject"]),
    (["+audit.verdicts.typo=warn"], ["audit.verdicts.typo", "too_short", "clipped"]),
    (["data=folder", "data.root=nowhere", "data.min_duration_s=1"], ["data.min_duration_s"]),
    (["data=synthetic", "data.scale=0"], ["data.scale", "0"]),
    (["data=synthetic", "data.num_species=1"], ["data.num_species", "2"]),
    (["data=synthetic", "data.snr_db=[9,3]"], ["snr_db", "9", "lower"]),
    (["data=folder"], ["data.root", "data.root="]),
    (["data=manifest"], ["data.path", "data.path="]),
    (["data=folder", "data.root=nowhere"], ["data.root", "nowhere"]),
    (["data=manifest", "data.path=nowhere.csv"], ["data.path", "nowhere.csv"]),
    (["loss._target_=no_package.Loss"], ["loss", "no_package.Loss"]),
    (["loss=focal", "loss.gamma"], ["loss.gamma"]),
    (["seed=günter"], ["seed=günter", 'seed="günter"']),
    (["loss=null"], ["loss=null", "focal"]),
    (["loss=0"], ["loss=0", "focal"]),
    (["averaging={}"], ["averaging", "none", "ema"]),
    (["logger=nonsense"], ["logger", "nonsense", "csv", "tensorboard"]),
    (["logger=[csv,nonsense]"], ["logger has no option 'nonsense'", "It has csv, mlflow, none, tensorboard, wandb."]),
    (["logger=true"], ["logger", "true", "csv", "tensorboard"]),
    (["augment=true"], ["augment", "true", "mixup"]),
    (["callbacks.early_stopping=0"], ["callbacks.early_stopping", "null"]),
    (["--cfg", "job", "-m"], ["--cfg", "leave out -m"]),
    (["data=folder", "data.root=a,b"], ["data.root=a,b", 'data.root="a,b"', "-m"]),
    (["hydra.job.chdir=true"], ["hydra.job.chdir", "data.root"]),
    (["loader.num_workers=2024"], ["loader.num_workers", "2024", "0 to"]),
    (["store.workers=2024"], ["store.workers", "2024", "0 to"]),
    (["evaluation.bins=true"], ["evaluation.bins", "True", "whole number"]),
    (["features.hop=true"], ["features.hop", "True", "whole number"]),
    (["optimizer.weight_decay=true"], ["optimizer.weight_decay", "True", "number"]),
    (["loss=[focal"], ["[focal"]),
]


@pytest.mark.parametrize(("words", "holds"), SETTINGS, ids=[" ".join(words) for words, _ in SETTINGS])
def test_a_wrong_setting_is_refused(
    words: list[str], holds: list[str], birdclf: Command, recordings: Path, tmp_path: Path
):
    source = [] if any(word.startswith("data") for word in words) else ["data=folder", f"data.root={recordings}"]
    tiny = [word for word in TINY if word.partition("=")[0] not in ("model", *[w.partition("=")[0] for w in words])]
    outcome = birdclf("train", *source, *tiny, *words, "hydra.run.dir=run", cwd=tmp_path)
    check(outcome.mistake, *holds)
    assert outcome.status == 1
    assert not (tmp_path / "run" / "split.csv").exists()
    assert "epoch 1" not in outcome.out


@pytest.mark.parametrize("command", ["train", "prepare"])
def test_a_folder_or_a_manifest_alone_gets_the_settings_that_give_it(command: str, birdclf: Command, tmp_path: Path):
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds.csv").touch()
    check(birdclf(command, "birds", cwd=tmp_path).mistake, "data=folder data.root=birds")
    check(birdclf(command, "birds.csv", cwd=tmp_path).mistake, "data=manifest data.path=birds.csv")


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
@pytest.mark.parametrize("place", ["/", "~"])
def test_a_folder_of_everything_is_no_run_folder(
    key: str, place: str, birdclf: Command, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    folder = "/" if place == "/" else tmp_path / "home"
    many = ["-m", "seed=1,2"] if "sweep" in key else []
    words = [word for word in on_folder(recordings, "unused", *many) if not word.startswith("hydra.run.dir")]
    check(birdclf(*words, f"{key}={folder}", cwd=tmp_path).mistake, f"{key}={folder}", "Choose a new one")
    assert not any((tmp_path / "home").iterdir())


@pytest.mark.slow
def test_odd_names_of_folders_and_null_are_taken_in_a_sweep(birdclf: Command, own_recordings: Path, tmp_path: Path):
    for name in ("günter", "1e3"):
        shutil.copytree(own_recordings, tmp_path / name)
    sweep = ["data.root=günter,1e3", "averaging=ema,null", "experiment=null", "hydra.sweep.dir=sweep"]
    words = [word for word in on_folder("unused", "unused") if not word.startswith(("hydra.run.dir", "data.root"))]
    done = birdclf(words[0], "-m", *words[1:], *sweep, cwd=tmp_path)
    assert done.status == 0, done.err + done.out
    configs = [yaml.safe_load(path.read_text()) for path in (tmp_path / "sweep").glob("*/config.yaml")]
    found = {(config["data"]["root"], config["averaging"] is None) for config in configs}
    assert found == {("günter", True), ("günter", False), ("1e3", True), ("1e3", False)}


def test_the_same_sentence_reaches_a_shell(python: Command, tmp_path: Path):
    outcome = python("-m", "birdclf", "train", "loss=focal", "loss.gama=1", cwd=tmp_path)
    assert outcome.status == 1
    check(outcome.mistake, "loss.gama", "loss.gamma?")


def test_the_sentence_stands_alone(birdclf: Command, recordings: Path, tmp_path: Path):
    outcome = birdclf(*on_folder(recordings, "run", "loss=focal", "loss.gamma=-1"), cwd=tmp_path)
    assert outcome.mistake
    assert len(outcome.err.splitlines()) == 1, outcome.err


@pytest.mark.parametrize("words", [["trian"], ["train2", "seed=1"], ["--no-such-option"]])
def test_an_unknown_command_is_refused(words: list[str], birdclf: Command, tmp_path: Path):
    outcome = birdclf(*words, cwd=tmp_path)
    assert outcome.status == 2 and "Traceback" not in outcome.err
    assert words[0] in outcome.err or "COMMAND" in outcome.err
    assert "usage: birdclf" in outcome.err


def test_an_unknown_command_names_the_commands(birdclf: Command, tmp_path: Path):
    err = birdclf("trian", cwd=tmp_path).err
    assert "no command 'trian'. Did you mean train? The commands are train, prepare, synthesize, " in err


def test_an_unknown_option_of_train_is_refused(birdclf: Command, tmp_path: Path):
    outcome = birdclf("train", "--no-such-option", cwd=tmp_path)
    assert outcome.status != 0 and "--no-such-option" in outcome.err and "Traceback" not in outcome.err


# Sources that hold nothing to learn from.


def test_an_empty_folder_is_refused(birdclf: Command, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    outcome = birdclf(*on_folder(tmp_path / "empty", "run"), cwd=tmp_path)
    check(outcome.mistake, "data.root", str(tmp_path / "empty"), "<species>", ".wav")


def test_files_outside_a_folder_of_a_species_are_refused(birdclf: Command, tmp_path: Path):
    root = tmp_path / "flat"
    root.mkdir()
    soundfile.write(root / "a.wav", np.ones(32_000, dtype=np.float32), 32_000)
    check(birdclf(*on_folder(root, "run"), cwd=tmp_path).mistake, "data.root", "<species>")


def test_a_folder_with_one_species_is_refused(birdclf: Command, tmp_path: Path):
    root = write_recordings(tmp_path / "one", {"Pica pica": 6}, seconds=(0.5, 1))
    outcome = birdclf(*on_folder(root, "run"), cwd=tmp_path)
    check(outcome.mistake, "Pica pica", "at least 2")


def test_too_few_recordings_for_a_split_are_refused(birdclf: Command, tmp_path: Path):
    root = write_recordings(tmp_path / "few", {"Pica pica": 1, "Apus apus": 1}, seconds=(0.5, 1))
    mistake = birdclf(*on_folder(root, "run"), cwd=tmp_path).mistake
    check(mistake, "split.min_recordings")


def test_a_folder_of_bad_files_only_is_refused(birdclf: Command, tmp_path: Path):
    for name in ("Pica pica", "Apus apus"):
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / "a.wav").write_text("no sound")
    outcome = birdclf(*on_folder(tmp_path / "bad", "run"), cwd=tmp_path)
    check(outcome.mistake, "none of the 2 recordings", "a.wav")


# Manifests.


def on_manifest(file: Path, *more: str) -> list[str]:
    return ["train", "data=manifest", f"data.path={file}", *TINY, "hydra.run.dir=run", *more]


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        ("file,bird\na.wav,Pica pica\n", ["path", "species", "file, bird"]),
        ("path,bird\na.wav,Pica pica\n", ["species", "path, bird"]),
        ("path,species\nhere.wav,Pica pica\ngone.wav,Apus apus\n", ["gone.wav", "1 of 2", "relative to"]),
        ("path,species\nhere.wav,\n", ["row 1", "species"]),
        ("path,species,start_s,end_s\nhere.wav,Pica pica,3,1\n", ["here.wav", "start_s=3", "end_s=1"]),
        ("path,species,start_s\nhere.wav,Pica pica,soon\n", ["start_s", "soon"]),
        ("path,species,recording_id\nhere.wav,Pica pica,x\nhere.wav,Apus apus,x\n", ["recording_id", "'x'"]),
        ("path,species\n", ["no recording"]),
        ("", ["data.path", "manifest.csv"]),
    ],
    ids=[
        "no columns",
        "one column missing",
        "path does not exist",
        "no species",
        "backwards",
        "not a number",
        "id twice",
        "no row",
        "empty",
    ],
)
def test_a_wrong_manifest_is_refused(content: str, holds: list[str], birdclf: Command, tmp_path: Path):
    soundfile.write(tmp_path / "here.wav", sing(0, np.random.default_rng(0), 1.0, 16_000), 16_000)
    file = tmp_path / "manifest.csv"
    file.write_text(content)
    outcome = birdclf(*on_manifest(file), cwd=tmp_path)
    check(outcome.mistake, *holds)
    assert outcome.status == 1


def test_a_manifest_of_another_kind_is_refused(birdclf: Command, tmp_path: Path):
    (tmp_path / "list.txt").write_text("path,species\n")
    check(birdclf(*on_manifest(tmp_path / "list.txt"), cwd=tmp_path).mistake, "list.txt", ".csv", ".parquet")


def test_a_split_with_another_word_is_refused(birdclf: Command, manifest: Path, tmp_path: Path):
    table = pd.read_csv(manifest).assign(path=lambda t: [str(manifest.parent / p) for p in t.path])
    table.loc[3, "split"] = "dev"
    table.to_csv(tmp_path / "m.csv", index=False)
    mistake = birdclf(
        *on_manifest(tmp_path / "m.csv", "data.allow_outside=true", "split=predefined"), cwd=tmp_path
    ).mistake
    check(mistake, "'dev'", "train, val or test")
    mistake = birdclf(
        *on_manifest(
            tmp_path / "m.csv", "data.allow_outside=true", "split=predefined", "split.column=fold", "hydra.run.dir=run2"
        ),
        cwd=tmp_path,
    ).mistake
    check(mistake, "'fold'", "split.column")


def test_a_split_file_of_another_source_is_refused(birdclf: Command, own_recordings: Path, tmp_path: Path):
    split = tmp_path / "split.csv"
    split.write_text("recording_id,split\nelsewhere.wav,train\n")
    outcome = birdclf(*on_folder(own_recordings, "run", "split=file", f"split.path={split}"), cwd=tmp_path)
    check(outcome.mistake, str(split), "elsewhere.wav")


# Single bad recordings among good ones.


def spoil(root: Path) -> dict[str, str]:
    """Write bad recordings among good ones and return what is wrong with each."""
    folder = root / "Pica pica"
    (folder / "text.wav").write_text("This is no sound.\n" * 50)
    (folder / "zero bytes.wav").write_bytes(b"")
    soundfile.write(folder / "short.wav", sing(0, np.random.default_rng(0), 0.1, 32_000), 32_000)
    soundfile.write(folder / "silent.wav", np.zeros(32_000, dtype=np.float32), 32_000)
    whole = (folder / "00.wav").read_bytes()
    (folder / "cut.flac").write_bytes(whole[:30])
    return {
        "Pica pica/text.wav": "decoded",
        "Pica pica/zero bytes.wav": "empty",
        "Pica pica/short.wav": "0.10 s",
        "Pica pica/silent.wav": "silent",
        "Pica pica/cut.flac": "decoded",
    }


def test_bad_recordings_are_set_aside_listed_and_counted(birdclf: Command, own_recordings: Path, tmp_path: Path):
    bad = spoil(own_recordings)
    outcome = birdclf(*on_folder(own_recordings, "run"), cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    assert "set aside as unusable: 5 recordings (audit.csv)" in outcome.out
    assert "12 recordings of 3 species" in outcome.out
    audit = pd.read_csv(tmp_path / "run" / "audit.csv").set_index("recording_id")
    assert set(audit.index[audit.verdict == "reject"]) == set(bad) and len(audit) == 17
    for name, reason in bad.items():
        assert reason in audit.reason[name], f"{name}: {audit.reason[name]}"
    split = pd.read_csv(tmp_path / "run" / "split.csv")
    assert len(split) == 12 and not set(split.recording_id) & set(bad)
    assert metrics_of(tmp_path / "run")["classes"] == 3


def test_a_shorter_minimum_takes_a_short_recording(birdclf: Command, own_recordings: Path, tmp_path: Path):
    spoil(own_recordings)
    outcome = birdclf(*on_folder(own_recordings, "run", "audit.min_duration_s=0.05"), cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "Pica pica/short.wav" in pd.read_csv(tmp_path / "run" / "split.csv").recording_id.tolist()


def test_a_good_run_sets_nothing_aside(birdclf: Command, own_recordings: Path, tmp_path: Path):
    outcome = birdclf(*on_folder(own_recordings, "run"), cwd=tmp_path)
    assert outcome.status == 0 and "set aside" not in outcome.out
    assert pd.read_csv(tmp_path / "run" / "audit.csv").verdict.tolist() == ["ok"] * 12


# Losses that are not numbers.

NAN_LOSS = '''
import torch


class NotANumber(torch.nn.Module):
    """NaN from the given step on."""

    def __init__(self, class_counts, after=0, **knobs):
        super().__init__()
        self.after, self.steps = after, 0

    def forward(self, logits, target):
        self.steps += 1
        return logits.sum() * (float("nan") if self.steps > self.after else 0.0)
'''


@pytest.mark.parametrize("after", [0, 2])
def test_a_loss_of_nan_stops_the_run(after: int, birdclf: Command, own_recordings: Path, tmp_path: Path):
    (tmp_path / f"nan_after_{after}.py").write_text(NAN_LOSS)
    words = [f"loss._target_=nan_after_{after}.NotANumber", f"+loss.after={after}", "loader.batch_size=2"]
    outcome = birdclf(*on_folder(own_recordings, "run", *words), cwd=tmp_path)
    assert outcome.status == 1
    check(outcome.mistake, "nan", "epoch 1", "optimizer.lr")
    assert not (tmp_path / "run" / "done.json").exists()


def test_a_rate_that_diverges_stops_the_run(birdclf: Command, own_recordings: Path, tmp_path: Path):
    words = ["optimizer=sgd", "optimizer.lr=1e30", "scheduler=constant", "loader.batch_size=2"]
    outcome = birdclf(*on_folder(own_recordings, "run", *words), cwd=tmp_path)
    assert outcome.status == 1
    check(outcome.mistake, "loss became", "optimizer.lr")
    assert not (tmp_path / "run" / "done.json").exists()


def test_a_store_that_cannot_be_written_is_refused(birdclf: Command, own_recordings: Path, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    outcome = birdclf(*on_folder(own_recordings, "run", "store.dir=file/store"), cwd=tmp_path)
    check(outcome.mistake, "file/store", "store.dir=")
