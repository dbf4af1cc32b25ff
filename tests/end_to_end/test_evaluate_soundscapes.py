"""``birdclf evaluate --soundscapes``: the figures, the folder, and what it refuses."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.metrics import average_precision_score, roc_auc_score
from tiny_runs import SPECIES, Command, Outcome, metrics_of, on_folder, sing

RATE_HZ = 32_000
NAMES = list(SPECIES)
PEER = ("File", "Start (s)", "End (s)", "Scientific name", "Confidence")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def run(birdclf: Command, recordings: Path, work: Path) -> Path:
    """A run on clips of one species each. Tests only add evaluations."""
    done = birdclf(*on_folder(recordings, work / "run", "optimizer.lr=0.02"), cwd=work)
    assert done.status == 0, done.err
    return work / "run"


@pytest.fixture(scope="module")
def field(work: Path) -> Path:
    """Two soundscapes of 40 s with a table of annotations, and that of a peer which hears most of it."""
    rng = np.random.default_rng(3)
    rows, heard = [], []
    (work / "field" / "site").mkdir(parents=True)
    for name in ("site/dawn", "dusk"):
        sound = 0.02 * rng.standard_normal(40 * RATE_HZ)
        for kind, start_s in ((0, 1.0), (1, 7.5), (2, 8.0), (3, 21.0), (0, 22.0), (1, 33.0)):
            song = sing(kind, rng, 3.0, RATE_HZ)
            begin = round(start_s * RATE_HZ)
            sound[begin : begin + len(song)] += song
            rows.append((f"{name}.flac", start_s, start_s + 3, NAMES[kind].upper().replace(" ", "_")))
            if start_s > 5:
                heard.append((Path(name).name + ".flac", start_s - 1, start_s + 2, NAMES[kind], 0.9 - start_s / 100))
        rows.append((f"{name}.flac", 27, 29, "Pica pica"))
        heard.append((f"{name}.flac", 27, 29, "Pica pica", 0.9))
        soundfile.write(work / "field" / f"{name}.flac", np.clip(sound / 2, -1, 1), RATE_HZ)
    write_table(work / "table.csv", ("file", "start_s", "end_s", "label"), rows)
    write_table(work / "peer.csv", PEER, heard)
    return work / "field"


def write_table(file: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> Path:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([header, *rows])
    return file


@pytest.fixture
def judged(birdclf: Command, run: Path, field: Path, work: Path):
    def command(*words: object) -> Outcome:
        given = [] if "--annotations" in words else ["--annotations", work / "table.csv"]
        return birdclf("evaluate", run, "--soundscapes", field, *given, *words, cwd=work)

    return command


@pytest.fixture(scope="module")
def whole(birdclf: Command, run: Path, field: Path, work: Path) -> Outcome:
    """The evaluation beside a peer, in the run's own folder."""
    done = birdclf(
        "evaluate", run, "--soundscapes", field, "--annotations", work / "table.csv", "--detections",
        f"BirdNET={work / 'peer.csv'}", cwd=work,
    )  # fmt: skip
    assert done.status == 0, done.err
    return done


def test_the_folder_holds_what_was_judged(whole: Outcome, run: Path):
    folder = run / "evaluations" / "soundscapes_field"
    metrics, table = metrics_of(folder), pd.read_csv(folder / "per_class.csv")
    counts = {"recordings": 2, "segments": 16, "empty_segments": 2, "segments_of_other_species": 2}
    assert counts.items() <= metrics["counts"].items() and metrics["counts"]["hours"] == pytest.approx(80 / 3600)
    assert metrics["unmapped"] == {"Pica pica": 2} and metrics["soundscape"]["empty_hours"] == pytest.approx(10 / 3600)
    settings = {"segment_s": 5.0, "window_hop_s": 5.0, "min_overlap_s": 0.25, "threshold": 0.5, "task": "single_label"}
    assert settings.items() <= metrics["settings"].items()
    assert table.species.tolist() == NAMES and table.segments.tolist() == [4, 8, 4, 2]
    assert (folder / "precision_recall.png").stat().st_size > 0
    own = pd.read_csv(run / "per_class.csv")
    assert table.train.tolist() == own.train.tolist() and table.focal_clips.tolist() == own.test.tolist()
    np.testing.assert_allclose(table.focal_recall, own.recall)


def test_figures_equal_those_of_scikit_learn(whole: Outcome, run: Path):
    folder = run / "evaluations" / "soundscapes_field"
    metrics, table = metrics_of(folder), pd.read_csv(folder / "per_class.csv")
    rows = pd.read_parquet(folder / "predictions.parquet")
    for name, figures, column in (
        ("soundscape", metrics["soundscape"], "average_precision"),
        ("BirdNET", metrics["detections"]["BirdNET"], "average_precision:BirdNET"),
    ):
        own = rows[rows.split == name]
        assert len(own) == 16
        y, p = (own[[f"{letter}:{species}" for species in NAMES]].to_numpy() for letter in "yp")
        precisions = [average_precision_score(y[:, k], p[:, k]) for k in range(4)]
        np.testing.assert_allclose(table[column], precisions)
        assert figures["cmap"]["value"] == pytest.approx(np.mean(precisions))
        assert figures["auroc"]["value"] == pytest.approx(roc_auc_score(y, p, average="macro"))
        labelled = y.any(axis=1)
        top = y[labelled, p[labelled].argmax(axis=1)]
        assert figures["t1_accuracy"]["value"] == pytest.approx(top.mean())
        empty = ~labelled & ~own.others
        assert figures["false_detections_per_hour"]["value"] == pytest.approx((p[empty] >= 0.5).sum() * 3600 / 10)
    test = pd.read_parquet(run / "predictions.parquet").query("split == 'test'")
    assert metrics["fall"]["cmap"]["species"] == test.target.nunique() == 4
    assert metrics["detections"]["BirdNET"]["cmap"]["value"] > 0.6


def test_what_was_judged_is_printed(whole: Outcome, run: Path):
    metrics = metrics_of(run / "evaluations" / "soundscapes_field")
    for words in (
        "16 segments of 5 s in 2 recordings, 0.02 hours; 2 are empty, in 2 only other species are heard",
        "an overlap of 0.25 s",
        "windows, of 5 s every 5 s",
        "judged are 4 of the model's 4 species, those that are annotated; 0 without a segment",
        "none of the model's species: 1, Pica pica (2)",
        "cmAP of 4 species:",
        "evaluation folder: ",
    ):
        assert words in whole.out
    for figures in (metrics["soundscape"], metrics["detections"]["BirdNET"]):
        assert "{value:.3f} [{low:.3f}, {high:.3f}]".format(**figures["cmap"]) in whole.out


def test_nothing_is_overwritten(whole: Outcome, run: Path, judged):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert "soundscapes_field exists already" in judged().mistake
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_segments_windows_and_columns_are_settings(judged, tmp_path: Path, work: Path):
    table = pd.read_csv(work / "table.csv")
    table.columns = ["Wo", "Von", "Bis", "Wer"]
    table.to_csv(tmp_path / "table.csv", index=False)
    columns = "file=Wo,start=Von,end=Bis,label=Wer"
    done = judged(
        "--annotations", tmp_path / "table.csv", "--columns", columns, "--segment", 10, "--hop", 2, "--min-overlap", 1,
        "--checkpoint", "last", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.status == 0, done.err
    metrics = metrics_of(tmp_path / "out")
    assert metrics["counts"]["segments"] == 8 and metrics["checkpoint"] == "last" and metrics["fall"] is None
    settings = {"segment_s": 10.0, "window_hop_s": 2.0, "min_overlap_s": 1.0}
    assert settings.items() <= metrics["settings"].items()


def test_labels_are_mapped_by_a_table(judged, tmp_path: Path):
    (tmp_path / "labels.csv").write_text("label,species\nPica pica,Corvus corax\n")
    assert judged("--labels", tmp_path / "labels.csv", "--out", tmp_path / "out").status == 0
    metrics = metrics_of(tmp_path / "out")
    assert metrics["unmapped"] == {} and metrics["counts"]["segments_of_other_species"] == 0


def test_of_empty_sound_only_false_detections_are_known(judged, tmp_path: Path):
    table = write_table(tmp_path / "table.csv", ("file", "start_s", "end_s", "label"), [("dusk.flac", 0, 1, "none")])
    given = ("--annotations", table, "--out", tmp_path / "out")
    assert "1 of 2 recordings have no annotation, first dawn.flac" in judged(*given).mistake
    done = judged(*given, "--unannotated", "empty")
    assert done.status == 0, done.err
    figures = metrics_of(tmp_path / "out")["soundscape"]
    assert figures["cmap"]["value"] is None and figures["false_detections_per_hour"]["value"] >= 0
    assert figures["classes_without_positive"] == 4 and "every segment is empty" in done.out
    assert not (tmp_path / "out" / "precision_recall.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--window", "all"], "--window is for an evaluation on clips"),
        (["--source", "data.root=x"], "--source is for an evaluation on clips"),
        (["--average", "logits"], "--average says how several runs are averaged"),
        (["--hop", "6"], "--hop 6: some segments of 5 s would have no window"),
        (["--hop", "0"], "--hop 0: seconds from window to window"),
        (["--segment", "0"], "segment_s"),
        (["--annotations", "nowhere.csv"], "nowhere.csv does not exist"),
        (["--detections", "A=peer.csv", "A=table.csv"], "--detections: A names two tables or the run"),
        (["--detections", "soundscape=peer.csv"], "--detections: soundscape names two tables or the run"),
        (["--detections", "run=peer.csv"], "--detections: run names two tables or the run"),
        (["--columns", "label=Bird"], "has no column 'Bird' (columns.label)"),
        (["--labels", "peer.csv"], "peer.csv lacks the column(s) label, species"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], said: str, judged, tmp_path: Path):
    assert said in judged(*words, "--out", tmp_path / "out").mistake
    assert not (tmp_path / "out").exists()


def test_options_of_soundscapes_need_soundscapes(birdclf: Command, run: Path, work: Path):
    assert "--min-overlap belongs to --soundscapes" in birdclf("evaluate", run, "--min-overlap", 1, cwd=work).mistake
    two = birdclf("evaluate", run, run, "--soundscapes", work, cwd=work)
    assert "--soundscapes judges one run" in two.mistake
    assert birdclf("evaluate", run, "--columns", "file", cwd=work).status == 2


def test_files_and_labels_that_do_not_fit_are_named(judged, birdclf: Command, run: Path, work: Path, tmp_path: Path):
    header = ("file", "start_s", "end_s", "label")
    other = write_table(tmp_path / "other.csv", header, [(f"x{n}.wav", 0, 1, "Pica pica") for n in range(7)])
    mistake = judged("--annotations", other, "--out", tmp_path / "out").mistake
    assert "x0.wav, x1.wav, x2.wav, x3.wav, x4.wav" in mistake and "dawn.flac" in mistake
    strange = write_table(tmp_path / "strange.csv", header, [("dusk.flac", 0, 1, "Pica pica")])
    mistake = judged("--annotations", strange, "--unannotated", "skip", "--out", tmp_path / "out").mistake
    assert "Labels: Pica pica. Species: Alauda arvensis, Bubo bubo, Corvus corax, Turdus merula." in mistake
    (tmp_path / "empty").mkdir()
    assert "holds no sound file" in birdclf("evaluate", run, "--soundscapes", tmp_path / "empty", cwd=work).mistake
    (tmp_path / "bare").mkdir()
    soundfile.write(tmp_path / "bare" / "a.wav", np.zeros(RATE_HZ), RATE_HZ)
    assert "no annotation table" in birdclf("evaluate", run, "--soundscapes", tmp_path / "bare", cwd=work).mistake
    assert "is not a folder" in birdclf("evaluate", run, "--soundscapes", tmp_path / "gone", cwd=work).mistake


def test_what_predict_writes_is_judged_as_a_peer(judged, birdclf: Command, run: Path, field: Path, tmp_path: Path):
    how = ("--no-timelines", "--no-merge", "--min-confidence", 0, "--top-k", 4)
    done = birdclf("predict", run, field, "--out", tmp_path / "found", *how, cwd=tmp_path)
    assert done.status == 0, done.err
    merged = tmp_path / "found" / "detections.selections.txt"
    tables = [f"csv={tmp_path / 'found' / 'detections.csv'}", f"Raven={merged}"]
    assert judged("--detections", *tables, "--out", tmp_path / "out").status == 0
    metrics = metrics_of(tmp_path / "out")
    for figures in metrics["detections"].values():
        for name in ("cmap", "auroc", "t1_accuracy", "false_detections_per_hour"):
            assert figures[name]["value"] == pytest.approx(metrics["soundscape"][name]["value"])
    assert list(metrics["detections"]) == ["csv", "Raven"]


@pytest.mark.slow
def test_an_exported_network_gives_the_same_figures(whole, judged, birdclf, run: Path, field: Path, tmp_path: Path):
    model = tmp_path / "model.onnx"
    assert birdclf("export", run, "--format", "onnx", "--out", model, cwd=tmp_path).status == 0
    words = ["--soundscapes", field, "--annotations", field.parent / "table.csv"]
    assert "--out DIR" in birdclf("evaluate", model, *words, cwd=tmp_path).mistake
    done = birdclf("evaluate", model, *words, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.status == 0, done.err
    metrics, own = metrics_of(tmp_path / "out"), metrics_of(run / "evaluations" / "soundscapes_field")
    assert metrics["soundscape"]["cmap"]["value"] == pytest.approx(own["soundscape"]["cmap"]["value"], abs=1e-3)
    assert metrics["fall"] is None and "buckets" not in metrics["soundscape"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["run"] == "model.onnx"
