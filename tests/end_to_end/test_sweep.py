"""A multirun: a folder a job, a table of its jobs, and nothing overwritten."""

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf
from tiny_runs import TINY, Command, Outcome

from birdclf.config import conf_dir


def on_sweep(recordings: Path, *more: str) -> list[str]:
    tiny = [word for word in TINY if not word.startswith("model=")]
    return ["train", "-m", "data=folder", f"data.root={recordings}", *tiny, *more]


@pytest.fixture(scope="module")
def sweep(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """Two networks times two seeds."""
    cwd = tmp_path_factory.mktemp("work")
    words = ["model=audio_cnn,audio_cnn_v2", "seed=1,2", "hydra.sweep.dir=outputs/networks"]
    done = birdclf(*on_sweep(recordings, *words), cwd=cwd)
    assert done.status == 0, done.err
    return done, cwd / "outputs" / "networks"


def jobs_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def test_every_job_has_a_folder_named_by_what_it_varies(sweep: tuple[Outcome, Path]):
    jobs = jobs_of(sweep[1])
    assert [job.name.split("_", 1)[0] for job in jobs] == ["0", "1", "2", "3"]
    for job, model, seed in zip(jobs, ("audio_cnn", "audio_cnn", "audio_cnn_v2", "audio_cnn_v2"), "1212", strict=True):
        assert "=" not in job.name and "/" not in job.name
        assert f"seed-{seed}" in job.name
        assert ("v2" in job.name) == model.endswith("v2")
        assert "max_epochs" not in job.name and "data" not in job.name, "what all jobs share is in the name"
        config = OmegaConf.load(job / "config.yaml")
        assert config.seed == int(seed) and config.run_dir == str(job)
    assert not [path for path in sweep[1].rglob("*") if "=" in path.name]


def test_every_job_is_a_complete_run_of_its_own(sweep: tuple[Outcome, Path]):
    for job in jobs_of(sweep[1]):
        assert len(list((job / "tensorboard").glob("events.out.tfevents.*"))) >= 1
        for name in ("done.json", "metrics.json", "predictions.parquet", "checkpoints/best.ckpt", "train.log"):
            assert (job / name).is_file(), f"{job.name} lacks {name}"
        assert (job / "train.log").read_text().count("run folder") <= 1
        assert (job / "train.log").read_text().count("epoch 1:") == 1, "a job logs into another job's file"


def test_jobs_of_one_seed_share_their_split(sweep: tuple[Outcome, Path]):
    splits = [(job / "split.csv").read_bytes() for job in jobs_of(sweep[1])]
    assert splits[0] == splits[2] and splits[1] == splits[3] and splits[0] != splits[1]


def test_a_job_equals_the_run_of_its_settings(sweep: tuple[Outcome, Path], birdclf: Command, recordings: Path):
    job = jobs_of(sweep[1])[3]
    words = [word for word in on_sweep(recordings, "model=audio_cnn_v2", "seed=2") if word != "-m"]
    done = birdclf(*words, f"hydra.run.dir={sweep[1].parent / 'alone'}", cwd=sweep[1].parent)
    assert done.status == 0, done.err
    alone = sweep[1].parent / "alone" / "metrics.json"
    assert alone.read_bytes() == (job / "metrics.json").read_bytes(), "earlier jobs of the process change a job"


def test_the_table_is_best_first(sweep: tuple[Outcome, Path]):
    table = pd.read_csv(sweep[1] / "sweep.csv")
    assert len(table) == 4 and set(table.job.astype(str)) == set("0123") and set(table.status) == {"finished"}
    scores = table["val/macro_f1"].tolist()
    assert scores == sorted(scores, reverse=True)
    for job in jobs_of(sweep[1]):
        row = table[table.job.astype(str) == job.name.split("_")[0]].iloc[0]
        metrics = json.loads((job / "metrics.json").read_text())
        assert row["val/macro_f1"] == pytest.approx(json.loads((job / "done.json").read_text())["score"])
        assert row["test accuracy"] == pytest.approx(metrics["test"]["accuracy"]["value"])
        assert row["low"] <= row["test accuracy"] <= row["high"]


def test_the_table_is_printed_and_kept_as_markdown(sweep: tuple[Outcome, Path]):
    done, folder = sweep
    lines = (folder / "sweep.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 4 and "test accuracy" in rows[0]
    assert "4 jobs, best first" in done.out
    after = done.out[done.out.index("4 jobs, best first") :]
    assert all(text in after for text in ("audio_cnn_v2", "seed=1", "seed=2"))
    assert "sweep folder: " in after.rstrip().splitlines()[-1]
    order = [line.split("|")[1].split()[0] for line in rows[2:]]
    assert order == pd.read_csv(folder / "sweep.csv").job.astype(str).tolist()


def test_an_existing_sweep_folder_is_refused(sweep: tuple[Outcome, Path], birdclf: Command, recordings: Path):
    folder = sweep[1]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = birdclf(*on_sweep(recordings, "seed=7,8", f"hydra.sweep.dir={folder}"), cwd=folder.parent)
    assert done.status == 1
    assert "hydra.sweep.dir" in done.mistake and str(folder) in done.mistake
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_job_that_fails_is_named(birdclf: Command, recordings: Path, tmp_path: Path):
    words = on_sweep(recordings, "loss=focal", "loss.gamma=1,-1", "hydra.sweep.dir=gammas")
    done = birdclf(*words, cwd=tmp_path)
    assert done.status == 1
    first, job, _, again = done.err.splitlines()
    assert first == "birdclf: 1 job failed:" and "1_loss.gamma--1: loss.gamma is -1" in job
    assert shlex.split(again) == ["birdclf", *words]
    assert (tmp_path / "gammas" / jobs_of(tmp_path / "gammas")[0].name / "done.json").is_file()


@pytest.mark.slow
def test_the_published_phases_as_one_multirun(birdclf: Command, tmp_path: Path):
    tiny = [word for word in TINY if not word.startswith("model=")]
    words = ["train", "-m", "sweep=phases", "data.num_species=6", "data.scale=0.01", *tiny]
    done = birdclf(*words, cwd=tmp_path)
    assert done.status == 0, done.err
    (folder,) = (tmp_path / "outputs" / "phases").iterdir()
    assert "=" not in folder.name
    phases = OmegaConf.load(conf_dir() / "sweep" / "phases.yaml").hydra.sweeper.params.experiment.split(",")
    names = [OmegaConf.load(job / "config.yaml").name for job in jobs_of(folder)]
    assert sorted(names) == sorted(phases)
    for job, phase in zip(jobs_of(folder), phases, strict=True):
        assert phase in job.name and list((job / "tensorboard").glob("events.out.tfevents.*"))
    assert "5 jobs, best first" in done.out
    assert len(pd.read_csv(folder / "sweep.csv")) == 5
