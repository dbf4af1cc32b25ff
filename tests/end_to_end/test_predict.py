"""``birdclf predict``: recordings in, detections out, and what it refuses."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from detection.made_up import write_run
from tiny_runs import Command, Outcome, metrics_of, on_folder, sing

from birdclf.detection.detector import load

RATE_HZ = 16_000
COLUMNS = ["path", "start_s", "end_s", "species", "confidence", "windows"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def run(birdclf: Command, recordings: Path, work: Path) -> Path:
    """A run that has learnt a little. Tests only read it, or copy it."""
    done = birdclf(*on_folder(recordings, work / "run", "optimizer.lr=0.02"), cwd=work)
    assert done.status == 0, done.err
    return work / "run"


@pytest.fixture(scope="module")
def field(work: Path) -> Path:
    """Three recordings: of 12 s, of 5 s in a folder, and one shorter than a window. Tests only read it."""
    rng = np.random.default_rng(3)
    root = work / "field"
    for kind, (name, seconds) in enumerate({"long.wav": 12.0, "site/five.flac": 5.0, "short.ogg": 1.5}.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, sing(kind, rng, seconds, RATE_HZ), RATE_HZ)
    return root


@pytest.fixture
def predict(birdclf: Command, run: Path, work: Path):
    def command(*words: object, of: Path = run) -> Outcome:
        return birdclf("predict", of, *words, "--device", "cpu", cwd=work)

    return command


@pytest.fixture
def said(monkeypatch):
    """Let bytes stand on standard input."""

    def put(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return put


def table(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


def test_a_table_is_printed(predict, field: Path):
    done = predict(field, "--min-confidence", 0, "--top-k", 1, "--no-merge")
    assert done.status == 0 and done.err == ""
    found = table(done.out)
    assert list(found.columns) == COLUMNS
    spans = {(Path(one.path).name, one.start_s, one.end_s) for one in found.itertuples()}
    assert spans == {
        ("long.wav", 0.0, 5.0), ("long.wav", 5.0, 10.0), ("long.wav", 7.0, 12.0), ("five.flac", 0.0, 5.0),
        ("short.ogg", 0.0, 1.5),
    }  # fmt: skip


def test_lines_of_json_are_printed(predict, field: Path):
    words = (field / "long.wav", "--min-confidence", 0)
    objects = [json.loads(line) for line in predict(*words, "--format", "jsonl").out.splitlines()]
    pd.testing.assert_frame_equal(pd.DataFrame(objects), table(predict(*words).out))


def test_a_folder_gets_all_formats(predict, field: Path, tmp_path: Path):
    out = tmp_path / "out"
    words = (field, "--out", out, "--min-confidence", 0.1, "--embeddings")
    done = predict(*words, "--format", "csv", "parquet", "--format", "raven", "audacity", "jsonl")
    assert done.status == 0 and "3 recordings, 0.01 hours" in done.out and f"results: {out}" in done.out
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names - {"predict.lock"} == {
        "detections.csv", "detections.parquet", "detections.jsonl", "detections.selections.txt", "files.csv",
        "summary.csv", "predict.json", "predict.jsonl",
        *(f"raven/{stem}.Table.1.selections.txt" for stem in ("long", "short", "site/five")),
        *(f"audacity/{stem}.txt" for stem in ("long", "short", "site/five")),
        *(f"timelines/{name}.png" for name in ("long.wav", "short.ogg", "site/five.flac")),
        *(f"embeddings/{name}.npz" for name in ("long.wav", "short.ogg", "site/five.flac")),
    }  # fmt: skip
    found = pd.read_csv(out / "detections.csv")
    pd.testing.assert_frame_equal(found, pd.read_parquet(out / "detections.parquet"))
    with np.load(out / "embeddings" / "long.wav.npz") as arrays:
        assert arrays["start_s"].tolist() == [0.0, 5.0, 7.0] and len(arrays["embeddings"]) == 3
    files = pd.read_csv(out / "files.csv")
    assert sorted(files.duration_s) == [1.5, 5.0, 12.0] and files.detections.sum() == len(found)
    summary = pd.read_csv(out / "summary.csv")
    assert summary.detections.sum() == len(found) and set(summary.species) == set(found.species)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    again = predict(*words, "--format", "csv", "parquet", "raven", "audacity", "jsonl")
    assert again.status == 0 and "3 of 3 recordings are done already" in again.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_what_the_user_changed_is_left_and_told(predict, field: Path, tmp_path: Path):
    words = (field / "short.ogg", "--out", tmp_path / "out", "--min-confidence", 0.1)
    assert predict(*words).status == 0
    (tmp_path / "out" / "detections.csv").write_text("mine\n")
    more = predict(field, *words[1:])
    assert more.status == 0 and "detections.csv was changed since it was written, and is left as it is" in more.err
    assert (tmp_path / "out" / "detections.csv").read_text() == "mine\n"
    assert len(pd.read_csv(tmp_path / "out" / "files.csv")) == 3


def test_a_list_on_standard_input(predict, said, field: Path):
    said(f"{field / 'short.ogg'}\n\n{field}/l*.wav\r\n".encode())
    found = table(predict("-", "--min-confidence", 0).out)
    assert [Path(path).name for path in dict.fromkeys(found.path)] == ["short.ogg", "long.wav"]
    said(b"caf\xe9.wav\n")
    assert "caf\\udce9.wav does not exist" in predict("-").mistake
    said(b"")
    assert "no sound file in -" in predict("-").mistake


@pytest.fixture
def spoilt(field: Path, tmp_path: Path) -> Path:
    """The recordings, with three more that cannot be decoded."""
    root = Path(shutil.copytree(field, tmp_path / "spoilt"))
    (root / "text.wav").write_text("I am no sound.\n")
    (root / "empty.mp3").touch()
    soundfile.write(root / "nothing.wav", np.zeros(0), RATE_HZ)
    return root


@pytest.mark.parametrize("to_folder", [False, True])
def test_bad_files_are_listed_and_the_rest_done(predict, spoilt: Path, tmp_path: Path, to_folder: bool):
    done = predict(spoilt, "--min-confidence", 0, *(("--out", tmp_path / "out") if to_folder else ()))
    assert done.status == 0 and "Traceback" not in done.err
    for name in ("text.wav", "empty.mp3", "nothing.wav"):
        assert f"birdclf: {spoilt / name} " in done.err
    if to_folder:
        assert "3 recordings could not be decoded" in done.out
        files = pd.read_csv(tmp_path / "out" / "files.csv", keep_default_na=False)
        assert (files.problem != "").sum() == 3 and (files.windows == 0).sum() == 3
    else:
        assert table(done.out).path.nunique() == 3


@pytest.mark.parametrize("to_folder", [False, True])
def test_nothing_decodable_is_a_mistake(predict, spoilt: Path, tmp_path: Path, to_folder: bool):
    words = (spoilt / "text.wav", spoilt / "empty.mp3", *(("--out", tmp_path / "out") if to_folder else ()))
    done = predict(*words)
    assert done.status == 1 and "Traceback" not in done.err
    assert "None of the 2 recordings could be decoded" in done.err.splitlines()[-1]


def test_an_empty_folder_and_a_missing_file(predict, tmp_path: Path):
    assert "There is no sound file" in predict(tmp_path).mistake
    assert "gone.wav does not exist" in predict(tmp_path / "gone.wav", "--out", tmp_path / "out").mistake
    assert not (tmp_path / "out").exists()


def test_species_that_occur(predict, field: Path, tmp_path: Path):
    (tmp_path / "list.txt").write_text("bubo bubo\nCorvus corax\n")
    found = table(predict(field, "--species-list", tmp_path / "list.txt", "--min-confidence", 0).out)
    assert set(found.species) == {"Bubo bubo", "Corvus corax"}
    (tmp_path / "list.txt").write_text("Bubo bobo\n")
    assert "Did you mean 'Bubo bubo'?" in predict(field, "--species-list", tmp_path / "list.txt").mistake


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "raven"], "--format raven is for results in a folder"),
        (["--format", "csv", "jsonl"], "--format csv jsonl is for results in a folder"),
        (["--embeddings"], "--embeddings is for results in a folder"),
        (["--no-timelines"], "--no-timelines is for results in a folder"),
        (["--hop", "0"], "--hop 0"),
        (["--hop", "nan"], "--hop nan"),
        (["--min-confidence", "2"], "--min-confidence 2"),
        (["--top-k", "0"], "--top-k 0"),
        (["--smooth", "-1"], "--smooth -1"),
        (["--batch-size", "0"], "--batch-size 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(predict, field: Path, words, message):
    assert message in predict(field, *words).mistake


def test_formats_with_a_comma_are_told_to_use_spaces(predict, field: Path):
    done = predict(field, "--format", "csv,raven")
    assert done.status == 2 and "csv,raven: separate formats by spaces" in done.err


def test_other_settings_in_one_folder_are_refused(predict, field: Path, tmp_path: Path):
    words = (field / "short.ogg", "--out", tmp_path / "out")
    assert predict(*words).status == 0
    assert "hop was 5.0 and is 2.5 now" in predict(*words, "--hop", 2.5).mistake
    assert "holds no results" in predict(field, "--out", field).mistake


def test_a_run_that_cannot_be_used(predict, run: Path, field: Path, tmp_path: Path):
    assert "best.ckpt does not exist" in predict(field, of=tmp_path).mistake
    (tmp_path / "checkpoints").mkdir()
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["birdclf"]["format"] = 99
    torch.save(content, tmp_path / "checkpoints" / "best.ckpt")
    assert "has format 99" in predict(field, of=tmp_path).mistake
    (tmp_path / "checkpoints" / "best.ckpt").write_text("nothing")
    assert "checkpoint" in predict(field, of=tmp_path).mistake


def test_a_device_that_is_not_there(birdclf: Command, run: Path, field: Path, work: Path):
    assert "--device nonsense is not there" in birdclf("predict", run, field, "--device", "nonsense", cwd=work).mistake


def test_a_recording_of_one_window_is_judged_as_in_evaluation(run: Path, recordings: Path):
    rows = pd.read_parquet(run / "predictions.parquet")
    model, temperature = load(run, device="cpu"), metrics_of(run)["temperature"]
    compared = 0
    for row in rows.to_dict("records"):
        file = recordings / row["recording_id"]
        if soundfile.info(file).duration <= model.window_s:
            (found,) = model.probabilities(file)[list(model.classes)].to_numpy()
            uncalibrated = np.maximum(found, 1e-30) ** temperature  # as the file holds them
            expected = [row[f"p:{name}"] for name in model.classes]
            np.testing.assert_allclose(uncalibrated / uncalibrated.sum(), expected, atol=5e-3)
            compared += 1
    assert compared >= 3


GROWTH = """
import resource, sys
from birdclf.cli import main
def peak_mb(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
main(["predict", "run", "short.wav", "--device", "cpu", "--out", "short"])
before = peak_mb()
main(["predict", "run", "half_hour.wav", "--device", "cpu", "--out", "long"])
print("GROWTH", peak_mb() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(python: Command, tmp_path: Path):
    write_run(tmp_path / "run")
    block = (0.3 * np.random.default_rng(0).standard_normal(60 * RATE_HZ)).astype(np.float32)
    soundfile.write(tmp_path / "short.wav", block, RATE_HZ)
    with soundfile.SoundFile(tmp_path / "half_hour.wav", "w", RATE_HZ, 1) as file:
        for _ in range(30):
            file.write(block)
    done = python("-c", GROWTH, cwd=tmp_path)
    assert done.status == 0, done.err
    growth_mb = float(done.out.split("GROWTH")[1])
    # Half an hour at the rate of the model is 230 MB; a minute, its windows and those that wait are 30.
    assert growth_mb < 80
    assert pd.read_csv(tmp_path / "long" / "files.csv").duration_s.tolist() == [1800.0]
