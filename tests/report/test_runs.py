import json

import pytest
from made_up_runs import write_run

from birdclf.errors import UserError
from birdclf.runs.run import Run, find_runs, read_runs


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "0_run")


def test_a_run_is_read_whole(run):
    found = Run(run)
    assert found.seed == 1 and found.name == "made_up"
    assert found.train_counts[0] == 300 and len(found.classes) == 8
    assert found.test.confusion.sum() == 160
    assert found.counts.sum() == found.train_counts.sum() + 2 * 160 and (found.counts >= found.train_counts).all()
    assert found.figure("test/accuracy") == found.metrics["test"]["accuracy"]["value"]
    assert found.figure("few_f1") == found.metrics["test"]["buckets"]["few"]["f1"]
    assert found.figure("val/unheard_of") is None


def test_runs_are_found_once_and_in_the_order_of_their_jobs(tmp_path):
    for job in (10, 2, 0):
        write_run(tmp_path / f"{job}_run", seed=job)
    found = find_runs([tmp_path, tmp_path / "2_run"])
    assert [folder.name for folder in found] == ["0_run", "2_run", "10_run"]


def test_hydras_own_folder_is_no_run(run):
    (run / ".hydra" / "config.yaml").write_text("seed: 1")
    assert find_runs([run]) == [run]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_path_without_a_run_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name):
        find_runs([tmp_path / name])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("done.json", None, "stopped before its end"),
        ("predictions.parquet", None, "no predictions.parquet"),
        ("predictions.parquet", "PAR1 nonsense", "predictions.parquet"),
        ("metrics.json", "{", "metrics.json cannot be read"),
        ("metrics.json", "{}", "lacks"),
        ("metrics.json", "[]", "metrics.json is damaged: it holds no figures"),
        ("history.json", "[]", "another program or version"),
        ("config.yaml", "a: [", "config.yaml cannot be read"),
        ("split.csv", None, "split.csv"),
        ("split.csv", "", "split.csv"),
    ],
)
def test_a_damaged_run_is_left_out_with_a_sentence(run, name, content, said):
    (run / name).unlink() if content is None else (run / name).write_text(content)
    runs, left_out = read_runs([run])
    assert not runs
    assert said in left_out[0].reason and left_out[0].folder == run
    assert "\n" not in left_out[0].reason


def test_a_run_of_before_provenance_is_read(run):
    (run / "provenance.json").unlink()
    assert Run(run).provenance == {}
    assert json.loads((run / "done.json").read_text())["seconds"] == Run(run).seconds


def test_what_evaluate_wrote_into_a_run_is_no_run(tmp_path):
    run = write_run(tmp_path / "run")
    write_run(run / "evaluations" / "all")
    assert find_runs([tmp_path]) == [run]
