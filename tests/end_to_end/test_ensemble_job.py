"""Jobs that build on other jobs of their sweep: a second stage, and an ensemble."""

import json
from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import TINY, Command

MEMBERS = ("phase3_balanced_softmax", "phase3_specaugment", "phase3_log_mel")
pytestmark = pytest.mark.slow

JOBS = ("phase2b", *MEMBERS, "phase3_crt", "phase3_ensemble")
DATA = ("monitor=val/macro_f1", "data=synthetic", "data.num_species=4", "data.scale=0.01")


def folder_of(sweep: Path, experiment: str) -> Path:
    (folder,) = sweep.glob(f"*_experiment-{experiment},seed-2")
    return folder


@pytest.fixture(scope="module")
def sweep(birdclf: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("phase3")
    words = ("train", "-m", f"experiment={','.join(JOBS)}", "seed=2,3", *DATA, *TINY, "hydra.sweep.dir=sweep")
    done = birdclf(*words, cwd=work)
    assert done.status == 0, done.err
    return work / "sweep"


def test_the_second_stage_starts_from_the_run_of_its_seed(sweep: Path):
    provenance = json.loads((folder_of(sweep, "phase3_crt") / "provenance.json").read_text())
    assert (sweep.parent / provenance["init_from"]["file"]).is_relative_to(folder_of(sweep, "phase2b"))


def test_the_ensemble_is_the_mean_of_its_members(sweep: Path):
    tables = [pd.read_parquet(folder_of(sweep, name) / "predictions.parquet") for name in (*MEMBERS, "phase3_ensemble")]
    species = [column for column in tables[0] if column not in ("recording_id", "split", "target", "prediction")]
    species = [column for column in species if tables[0][column].dtype.kind == "f"]
    *members, whole = (table.sort_values(["split", "recording_id"])[species].to_numpy() for table in tables)
    assert len(species) >= 4
    difference = abs(sum(members) / len(members) - whole).max()
    assert difference < 1e-5
    metrics = json.loads((folder_of(sweep, "phase3_ensemble") / "metrics.json").read_text())
    assert [sweep.parent / one["folder"] for one in metrics["members"]] == [folder_of(sweep, name) for name in MEMBERS]


def test_the_table_holds_every_job_and_nothing_runs_twice(birdclf: Command, sweep: Path):
    table = pd.read_csv(sweep / "sweep.csv")
    assert len(table) == 2 * len(JOBS) and table["val/macro_f1"].notna().all()
    stamps = {path: path.stat().st_mtime_ns for path in sweep.glob("*/done.json")}
    words = ("train", "-m", f"experiment={','.join(JOBS)}", "seed=2,3", *DATA, *TINY, "hydra.sweep.dir=sweep")
    again = birdclf(*words, cwd=sweep.parent)
    assert again.status == 0, again.err
    assert {path: path.stat().st_mtime_ns for path in sweep.glob("*/done.json")} == stamps


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=phase3_ensemble"], "members is [None, None, None]; it must be a list of two run folders or more"),
        (["members=[sweep]"], "members is ['sweep']; it must be a list of two run folders or more"),
        (["members=[a,b]", "loss=focal"], "nothing is trained, so that"),
        (["experiment=phase3_crt"], "Give its folder by init_from=RUN"),
        (["-m", "experiment=phase3_crt,phase2b"], "builds on the one with experiment=phase2b, which has not finished"),
    ],
)
def test_without_the_runs_it_builds_on_a_job_says_what_it_needs(birdclf: Command, tmp_path: Path, words, said):
    done = birdclf("train", *words, *DATA, *TINY, cwd=tmp_path)
    assert done.status != 0 and said in done.err, done.err
    assert "Traceback" not in done.err
