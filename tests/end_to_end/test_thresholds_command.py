"""``birdclf thresholds`` on validation clips and on soundscapes, and the commands that use what it writes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from tiny_runs import SPECIES, Command, on_folder, sing

from birdclf import load

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def trained(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt a little. Tests copy it."""
    work = tmp_path_factory.mktemp("work")
    done = birdclf(*on_folder(recordings, work / "run", "optimizer.lr=0.02"), cwd=work)
    assert done.status == 0, done.err
    return work / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of 30 s in which every second segment is empty, with a Raven table beside each."""
    root, rng = tmp_path_factory.mktemp("wild"), np.random.default_rng(5)
    for number in range(3):
        sound, rows = [], []
        for segment in range(6):
            kind = (number + segment // 2) % len(SPECIES)
            noise = (1e-3 * rng.standard_normal(5 * RATE_HZ)).astype(np.float32)
            sound.append(noise if segment % 2 else sing(kind, rng, 5, RATE_HZ))
            if not segment % 2:
                rows.append((len(rows) + 1, 5.0 * segment, 5.0 * segment + 5, list(SPECIES)[kind]))
        soundfile.write(root / f"{number}.wav", np.concatenate(sound), RATE_HZ)
        table = pd.DataFrame(rows, columns=["Selection", "Begin Time (s)", "End Time (s)", "Species"])
        table.to_csv(root / f"{number}.Table.1.selections.txt", sep="\t", index=False)
    return root


def test_thresholds_of_validation_clips_are_used_and_can_be_left_out(birdclf, run: Path, wild: Path, tmp_path: Path):
    done = birdclf("thresholds", run, "--precision", 0.5, cwd=tmp_path)
    assert done.status == 0, done.err
    content = json.loads((run / "thresholds.json").read_text())
    assert content["source"].endswith("validation clips") and set(content["species"]) == set(SPECIES)
    assert "species" in done.out and str(run / "thresholds.json") in done.out
    again = birdclf("thresholds", run, "--precision", 0.5, cwd=tmp_path)
    assert again.status == 1 and "nothing is overwritten" in again.mistake

    used = birdclf("predict", run, wild, cwd=tmp_path)
    assert used.status == 0 and "for precision 0.5 are used" in used.err
    assert used.out.splitlines()[0] == "path,start_s,end_s,species,confidence,windows,p_right"
    without = birdclf("predict", run, wild, "--thresholds", "none", cwd=tmp_path)
    assert without.out.splitlines()[0] == "path,start_s,end_s,species,confidence,windows" and "used" not in without.err
    assert (
        list(load(run).predict(wild))[-1] == "p_right"
        and list(load(run, thresholds="none").predict(wild))[-1] != "p_right"
    )

    content["species"][sorted(SPECIES)[0]]["threshold"] = 7
    (run / "thresholds.json").write_text(json.dumps(content))
    bad = birdclf("predict", run, wild, cwd=tmp_path)
    assert bad.status == 1 and "threshold is 7; it must be a number from 0 to 1" in bad.mistake


def test_thresholds_are_chosen_on_soundscapes(birdclf, run: Path, wild: Path, tmp_path: Path):
    words = ("thresholds", run, "--soundscapes", wild, "--precision", 0.1, "--out", tmp_path / "mine.json")
    done = birdclf(*words, cwd=tmp_path)
    assert done.status == 0, done.err
    content = json.loads((tmp_path / "mine.json").read_text())
    assert sum(one["positives"] for one in content["species"].values()) == 9 and not (run / "thresholds.json").exists()
    used = birdclf(
        "predict", run, wild, "--thresholds", tmp_path / "mine.json", "--out", tmp_path / "found", cwd=tmp_path
    )
    assert used.status == 0 and "p_right" in pd.read_csv(tmp_path / "found" / "detections.csv")
    words = ("--near-thresholds", tmp_path / "mine.json", "--n", 4, "--out", tmp_path / "clips")
    name = max(SPECIES, key=lambda name: content["species"][name]["positives"])
    (tmp_path / "list.txt").write_text(name)
    near = birdclf("suggest", run, wild, *words, "--species-list", tmp_path / "list.txt", cwd=tmp_path)
    assert near.status == 0, near.err
    assert len(pd.read_csv(tmp_path / "clips" / "suggestions.csv")) <= 4
    assert f"{content['species'][name]['listen']:,} clips in all make every" in near.out


def test_sets_of_species_are_given(birdclf, run: Path, wild: Path, tmp_path: Path):
    done = birdclf("predict", run, wild, "--sets", 0.8, "--out", tmp_path / "found", cwd=tmp_path)
    assert done.status == 0 and "sets hold each species that is there with probability 0.8" in done.err
    table = pd.read_csv(tmp_path / "found" / "sets.csv", keep_default_na=False)
    assert list(table) == ["path", "start_s", "end_s", "species"] and len(table) == 18
    assert {name for names in table.species for name in names.split(";") if name} <= set(SPECIES)
    from_python = load(run).sets(wild, 0.8)
    assert [";".join(names) for names in from_python.species] == table.species.tolist()
    bad = birdclf("predict", run, wild, "--sets", 1.5, cwd=tmp_path)
    assert bad.status == 1 and "--sets 1.5" in bad.mistake
    (run / "predictions.parquet").unlink()
    gone = birdclf("predict", run, wild, "--sets", 0.8, cwd=tmp_path)
    assert gone.status == 1 and "predictions.parquet does not exist" in gone.mistake


def test_what_does_not_go_together_is_refused(birdclf, run: Path, wild: Path, tmp_path: Path):
    for words, said in (
        (("--segment", 3), "--segment belongs to --soundscapes DIR"),
        (("--precision", 90), "--precision 90"),
        (("--precision", 0.9999999), "No species reaches precision 0.9999999"),
    ):
        done = birdclf("thresholds", run, *words, cwd=tmp_path)
        assert done.status == 1 and said in done.mistake
        assert not (run / "thresholds.json").exists()
