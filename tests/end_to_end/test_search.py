"""A search: trials that learn of each other, that are stopped early, and of which none is lost or done twice."""

import json
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from stopping import Killed, stop_in, training
from tiny_runs import TINY, Command

optuna = pytest.importorskip("optuna")

from birdclf.sweep.trials import read_study  # noqa: E402
from birdclf.training import train as one_training  # noqa: E402
from birdclf.training.callbacks.snapshot import Snapshot  # noqa: E402

TRIALS = 3
SPACE = ("optimizer.lr=tag(log,interval(1e-3,1e-1))", "loss=choice(cross_entropy,focal)")
QUICK = ("trainer.max_epochs=2", "loader.batch_size=8", "callbacks.snapshot.every_s=0", "scheduler=constant")


def on_search(recordings: Path, *more: str) -> list[str]:
    data = ("data=folder", f"data.root={recordings}", "hydra.sweep.dir=search", f"hydra.sweeper.n_trials={TRIALS}")
    return [
        "train",
        "-m",
        "sweep=optuna",
        *data,
        *TINY,
        *QUICK,
        *SPACE,
        "hydra.sweeper.sampler.n_startup_trials=2",
        *more,
    ]


def params_and_values(cwd: Path) -> list[tuple[str, dict[str, object], float | None]]:
    return [(trial.state.name, trial.params, trial.value) for trial in read_study(cwd / "search").trials]


def stamps(cwd: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in (cwd / "search").glob("*/done.json")}


@pytest.fixture(scope="module")
def searched(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of a search that nothing stopped. Tests only read it."""
    cwd = tmp_path_factory.mktemp("searched")
    done = birdclf(*on_search(recordings), cwd=cwd)
    assert done.status == 0, done.err
    return cwd


def test_every_trial_is_a_job_of_its_number(searched: Path):
    table = pd.read_csv(searched / "search" / "sweep.csv").sort_values("job").reset_index(drop=True)
    assert table.status.tolist() == ["finished"] * TRIALS and table.job.tolist() == list(range(TRIALS))
    for trial, row in zip(read_study(searched / "search").trials, table.to_dict("records"), strict=True):
        rate = float(f"{trial.params['optimizer.lr']:.4g}")
        assert trial.value == row["val/macro_f1"] and f"optimizer.lr={rate} " in row["overrides"]
        (folder,) = (searched / "search").glob(f"{trial.number}_*")
        rows = json.loads((folder / "history.json").read_text())
        assert trial.intermediate_values == {row["epoch"]: row["val/macro_f1"] for row in rows}
        assert "=" not in folder.name and "pruning" not in row["overrides"] + folder.name
    assert len({trial.params["optimizer.lr"] for trial in read_study(searched / "search").trials}) == TRIALS


@pytest.mark.slow
def test_a_search_continues_with_more_trials_only(birdclf, recordings, searched: Path, tmp_path: Path):
    stop = pytest.MonkeyPatch()
    with stop.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", 7)  # in the second trial
        with pytest.raises(Killed):
            birdclf(*on_search(recordings), cwd=tmp_path)
    before = stamps(tmp_path)
    assert [how for how, *_ in params_and_values(tmp_path)] == ["COMPLETE", "RUNNING"] and len(before) == 1
    done = birdclf(*on_search(recordings), cwd=tmp_path)
    assert done.status == 0, done.err
    assert params_and_values(tmp_path) == params_and_values(searched) and before.items() <= stamps(tmp_path).items()
    (second,) = (tmp_path / "search").glob("1_*")
    assert "resuming after epoch" in (second / "train.log").read_text()
    before = stamps(tmp_path)
    assert birdclf(*on_search(recordings), cwd=tmp_path).status == 0 and stamps(tmp_path) == before
    more = birdclf(*on_search(recordings, f"hydra.sweeper.n_trials={TRIALS + 1}"), cwd=tmp_path)
    assert more.status == 0 and len(stamps(tmp_path)) == TRIALS + 1 and before.items() <= stamps(tmp_path).items()


@pytest.mark.slow
def test_one_killed_outright_loses_and_doubles_no_trial(birdclf, recordings, searched: Path, tmp_path: Path):
    with training(on_search(recordings), tmp_path, tmp_path / "said") as process:
        began = time.monotonic()
        while not list((tmp_path / "search").glob("1_*/checkpoints/last.ckpt")):
            assert process.poll() is None and time.monotonic() - began < 300, (tmp_path / "said").read_text()
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    assert birdclf(*on_search(recordings), cwd=tmp_path).status == 0
    assert params_and_values(tmp_path) == params_and_values(searched)
    assert sorted(name.split("_")[0] for name in stamps(tmp_path)) == [str(number) for number in range(TRIALS)]


@pytest.fixture(scope="module")
def pruned(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of a search whose trial 1 was stopped early."""
    cwd = tmp_path_factory.mktemp("pruned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.pruners.MedianPruner, "prune", lambda self, study, trial: trial.number == 1)
        done = birdclf(*on_search(recordings, "hydra.sweeper.n_trials=3"), cwd=cwd)
    assert done.status == 0, done.err
    return cwd


@pytest.mark.slow
def test_a_trial_stopped_early_is_no_failure_and_not_done_again(birdclf, recordings, pruned: Path):
    assert [how for how, *_ in params_and_values(pruned)] == ["COMPLETE", "PRUNED", "COMPLETE"]
    (folder,) = (pruned / "search").glob("1_*")
    assert json.loads((folder / "pruned.json").read_text())["epoch"] == 1 and not (folder / "done.json").exists()
    assert len(json.loads((folder / "history.json").read_text())) == 1 and not (folder / "failed.json").exists()
    statuses = pd.read_csv(pruned / "search" / "sweep.csv").status.tolist()
    assert statuses == ["finished", "finished", "pruned after epoch 1"]
    before, files = stamps(pruned), sorted((pruned / "search").rglob("*"))
    again = birdclf(*on_search(recordings, "hydra.sweeper.n_trials=3"), cwd=pruned)
    assert again.status == 0 and stamps(pruned) == before and "epoch 1:" not in again.out
    assert sorted((pruned / "search").rglob("*")) == files


def test_the_report_has_a_section_on_the_search(birdclf, pruned: Path):
    done = birdclf("report", "search", "--out", "told", "--no-gallery", cwd=pruned)
    assert done.status == 0 and "Its search stopped the trial early" in done.out, done.err
    text = (pruned / "told" / "report.md").read_text()
    assert "3 trials: 2 trained to their end, 1 stopped early" in text
    assert "Best trials, the best first" in text and "| optimizer.lr |" in text
    (whole,) = (pruned / "search").glob("0_*")
    assert birdclf("evaluate", whole, cwd=pruned).out.rstrip().endswith("equal to metrics.json")


@pytest.mark.slow
def test_a_failed_trial_is_listed_and_tried_again(birdclf, recordings, tmp_path: Path):
    words = on_search(recordings, "hydra.sweeper.n_trials=2", "trainer.max_epochs=1")
    usual = one_training.build_data

    def build(cfg):
        if "0_" in cfg.run_dir.rpartition("/")[2][:2]:
            raise RuntimeError("bad luck")
        return usual(cfg)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_training, "build_data", build)
        done = birdclf(*words, cwd=tmp_path)
    assert done.status == 1 and "1 job failed" in done.err and len(stamps(tmp_path)) == 1
    assert [how for how, *_ in params_and_values(tmp_path)] == ["RUNNING", "COMPLETE"]
    assert birdclf(*words, cwd=tmp_path).status == 0
    assert [how for how, *_ in params_and_values(tmp_path)] == ["COMPLETE"] * 2 and len(stamps(tmp_path)) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials is 0"),
        (["trainer=ddp"], "only a trial of one process"),
        (["monitor=val/nll,val/accuracy"], "monitor varies"),
        (["optimizer.lr=tag(log,interval(0,1))"], "no range to search"),
        (["hydra.sweep.subdir=all_in_one"], "hydra.sweep.subdir"),
        (["hydra.sweeper.n_trial=3"], "n_trial"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_trial(birdclf, recordings, words, said, tmp_path: Path):
    assert said in birdclf(*on_search(recordings, *words), cwd=tmp_path).mistake
    assert not list(tmp_path.glob("search/*/config.yaml"))
