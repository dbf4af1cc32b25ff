"""A model card says what a run's folder tells, and what others wrote in it stays words."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from onnx_embedders import embedder_of, write_embedder, write_probe

from birdclf.errors import UserError
from birdclf.export.card import card, write_card

BAD = '<img src=x onerror="alert(1)"> | **bold**'
SPECIES = {"Alauda arvensis": (120, 10, 20), "Bubo bubo": (40, 4, 6), BAD: (3, 1, 2), "Pica pica": (2, 1, 0)}


def bucket(**figures: float) -> dict:
    return {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "classes": 1,
        "clips": 8,
        "f1_low": 0.4,
        "f1_high": 0.6,
    } | figures


def figures() -> dict:
    interval = {"value": 0.8, "low": 0.7, "high": 0.9}
    named = dict.fromkeys(("accuracy", "macro_f1", "macro_f1_evaluable", "balanced_accuracy", "weighted_f1"), interval)
    return named | {
        "top5_accuracy": 0.95, "macro_average_precision": 0.75, "nll": 0.5, "ece": 0.1, "nll_calibrated": 0.4,
        "ece_calibrated": 0.02, "clips": 28, "buckets": {"many": bucket(), "medium": bucket(), "few": bucket(f1=0.0)},
    }  # fmt: skip


def make_run(folder: Path, synthetic: bool = False) -> Path:
    folder.mkdir(parents=True)
    config = {
        "name": "phase2b", "seed": 7, "data": {"_target_": "birdclf.data.sources.folder.folder_catalog"},
        "features": {"_target_": "birdclf.features.mfcc.MFCCStack", "window_s": 5.0, "sample_rate_hz": 32000},
        "model": {"_target_": "birdclf.models.audio_cnn_v2.AudioCNNv2"}, "window": {"eval": "center"},
        "split": {"_target_": "birdclf.data.splits.StratifiedSplit"}, "evaluation": {"many": 100, "few": 20},
    }  # fmt: skip
    if synthetic:
        config["data"] = {"_target_": "birdclf.data.sources.synthetic.synthetic_catalog"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {"temperature": 1.5, "monitor": "val/macro_f1", "best_epoch": 9, "epochs": 12, "parameters": 4_222_041}
    (folder / "metrics.json").write_text(json.dumps({"val": figures(), "test": figures(), "classes": 4} | facts))
    provenance = {
        "overrides": ["experiment=phase2b", "store.dir=/home/me/store", "data.root=mine", "optimizer.lr=0.001"],
        "versions": {"torch": "2.11.0"}, "machine": {"processor": "Fast <b>CPU</b>", "cpus": 8, "gpu": None},
        "catalog": {"name": "folder mine", "content_hash": "abc123"},
    }  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(provenance))
    (folder / "done.json").write_text(json.dumps({"seconds": 9000.0}))
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in SPECIES}
    stages = [
        (name, split)
        for name, counts in SPECIES.items()
        for split, n in zip(("train", "val", "test"), counts, strict=True)
        for _ in range(n)
    ]
    rows = [f"r{number},{quoted[name]},{split}" for number, (name, split) in enumerate(stages)]
    (folder / "split.csv").write_text("recording_id,species,split\n" + "\n".join(rows) + "\n")
    recalls = (0.9, 0.5, 0.0, 0.0)
    lines = [f"{name},1,1,1,{r},{r},{r}" for name, r in zip(quoted.values(), recalls, strict=True)]
    (folder / "per_class.csv").write_text("species,train,val,test,precision,recall,f1\n" + "\n".join(lines) + "\n")
    (folder / "leaks.csv").write_text("split,leak,recordings,known,shared,share\ntest,recordist,28,28,14,0.5\n")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.mark.parametrize(
    "said",
    [
        "# phase2b",
        "AudioCNNv2 with 4,222,041 parameters",
        "Recordings: 165 train, 16 val, 28 test",
        "abc123",
        "4: 1 many-shot, 1 medium-shot, 2 few-shot",
        "| Bubo bubo | 40 | 4 | 6 | medium | 0.500 |",
        "| accuracy | 0.800 (0.700 to 0.900) | 0.800 (0.700 to 0.900) |",
        "temperature of 1.5",
        "| calibration error, calibrated | 0.020 | 0.020 |",
        "1 of the 3 species with a test recording were not recognised in any of them, 1 of them few-shot",
        "1 species have no test recording: Pica pica",
        "50.0% of the test recordings share a recordist with a training one",
        "one of the 4 species, also rain",
        "takes 5 s at a time and nothing above 16 kHz",
        "birdclf predict RUN",
        "Time: 2.5 hours",
        "8 CPUs, no GPU",
        "torch 2.11.0",
        "birdclf train experiment=phase2b optimizer.lr=0.001",
        "Not stated: add one before sharing",
    ],
)
def test_it_says_what_the_folder_holds(run: Path, said: str):
    assert said in card(run)


def test_it_names_no_folder_of_this_machine(run: Path):
    text = card(run)
    assert "/home/me" not in text and "data.root" not in text and str(run) not in text


def test_what_others_wrote_stays_words(run: Path):
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(card(run, "<script>alert(2)</script>"))
    assert "<img" not in page and "<script" not in page and "<b>" not in page
    assert "&lt;img src=x onerror=" in page and "**bold**" in page and "<td>few</td>" in page
    assert page.count("<table>") == 4


def test_made_up_sound_is_reported_first(run: Path, tmp_path: Path):
    told = card(make_run(tmp_path / "aviary", synthetic=True))
    assert told.split("\n\n")[1].startswith("> **Trained on made-up sound.**") and "made-up" not in card(run)


def test_a_licence_is_the_users_word(run: Path):
    assert card(run, "CC BY-NC 4.0").endswith("## Licence\n\nCC BY-NC 4.0\n")


@pytest.fixture
def on_vectors(run: Path, tmp_path: Path) -> Path:
    """Return a run whose features are a frozen network of 8 kHz and windows of 1 s."""
    shutil.rmtree(run / "checkpoints")
    features = embedder_of(write_embedder(tmp_path / "frozen_net.onnx"))
    write_probe(run, features)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["features"] = {"_target_": "birdclf.features.embedders.embedder.Embedder", "file": "frozen_net.onnx"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def test_a_frozen_network_is_named_with_both_licences(on_vectors: Path, tmp_path: Path):
    (tmp_path / "frozen_net.onnx").unlink()  # a card needs no more than the run
    text = card(on_vectors, "CC BY 4.0")
    assert (
        "takes vectors of 6 values, whose network was not trained here: frozen_net.onnx, content hash"
        in text.replace("\\_", "_")
    )
    assert "1 s at a time" in text and "brought to 8,000 Hz" in text and "nothing above 4 kHz" in text
    licences = text.partition("## Licence")[2].strip().splitlines()
    assert licences[0].endswith(": not known. Ask who made it before sharing")
    assert licences[1:] == ["- This model: CC BY 4.0"]
    assert "Not stated: add one" in card(on_vectors)


def test_a_known_licence_of_a_frozen_network_is_said(on_vectors: Path, monkeypatch):
    monkeypatch.setattr("birdclf.features.embedders.embedder.Embedder.licence", "CC BY-NC-SA 4.0")
    assert card(on_vectors).count(": CC BY-NC-SA 4.0\n") == 1


@pytest.mark.parametrize("gone", ["provenance.json", "done.json", "per_class.csv", "leaks.csv"])
def test_older_runs_have_cards_too(run: Path, gone: str):
    (run / gone).unlink()
    text = card(run)
    assert "## Training" in text and ("not known" in text) == (gone == "leaks.csv")


@pytest.mark.parametrize("gone", ["metrics.json", "config.yaml", "split.csv", "checkpoints/best.ckpt"])
def test_what_a_card_cannot_do_without_is_named(run: Path, gone: str):
    (run / gone).unlink()
    with pytest.raises(UserError, match=f"{gone} does not exist"):
        card(run)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.json", "{"),
        ("metrics.json", "[]"),
        ("metrics.json", '{"val": 3}'),
        ("metrics.json", json.dumps({"val": figures(), "test": figures(), "classes": 4, "temperature": 1, "epochs": 1,
                                     "monitor": "m", "best_epoch": 1, "parameters": "<script>"})),
        ("provenance.json", '{"machine": [3]}'),
        ("split.csv", "a,b\n1,2\n"),
        ("per_class.csv", "species,precision,recall,f1\nBubo bubo,x,y,z\n"),
        ("leaks.csv", "split,leak,recordings,known,shared\ntest,recordist,a,b,c\n"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(run: Path, file: str, content: str):
    (run / file).write_text(content)
    with pytest.raises(UserError, match=file.split(".")[0]):
        card(run)


def test_nothing_is_overwritten(tmp_path: Path):
    (tmp_path / "card.md").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        write_card(tmp_path / "card.md", "new")
    write_card(tmp_path / "new" / "card.md", "new")
    assert (tmp_path / "card.md").read_text() == "mine" and (tmp_path / "new" / "card.md").read_text() == "new"


def test_a_folder_that_is_a_file_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written to"):
        write_card(tmp_path / "file" / "card.md", "new")


def of_sets(run: Path) -> Path:
    """Make a run one of sets: of five recordings, of which one has two species and one has none."""
    interval = {"value": 0.6, "low": 0.5, "high": 0.7}
    names = ("cmap", "auroc", "t1_accuracy", "macro_f1", "micro_f1")
    own = dict.fromkeys(names, interval) | {"false_detections_per_hour": {"value": 12.5, "low": 8.0, "high": 19.0}}
    few = {"cmap": 0.3, "cmap_low": 0.1, "cmap_high": 0.6, "auroc": 0.7, "f1": 0.2, "recall": 0.4, "classes": 2}
    own |= {"buckets": dict.fromkeys(("many", "medium", "few"), few), "clips": 2, "empty_hours": 0.25}
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"val": own, "test": own, "classes": 3}))
    rows = [
        *('r0,wren,train,\'["wren", "tit"]\'', "r1,none,train,[]", "r2,owl,val,'[\"owl\"]'"),
        *('r3,wren,test,\'["wren", "tit"]\'', "r4,none,test,[]"),
    ]
    text = "\n".join(rows).replace('"', '""').replace("'", '"')
    (run / "split.csv").write_text(f"recording_id,species,split,labels\n{text}\n")
    (run / "per_class.csv").write_text(
        "species,train,val,test,average_precision,auroc,precision,recall,f1\n"
        "owl,0,1,0,,,,,\ntit,1,0,1,0.25,0.5,0,0,0\nwren,1,0,1,0.75,0.9,1,1,1\n"
    )
    return run


@pytest.mark.parametrize(
    "said",
    [
        "those that it hears of 3, several or none",
        "Each species has a probability of its own",
        "| mean average precision (cmAP) | 0.600 (0.500 to 0.700) |",
        "| false detections an hour | 12.500 (8.000 to 19.000) |",
        "false detections over the 0.25 hours of test sound without any of them",
        "| few-shot | fewer than 20 | 2 | 0.300 (0.100 to 0.600) | 0.700 | 0.200 |",
        "Their cmAP on test is 0.300",
        "Recordings: 2 train, 1 val, 2 test",
        "| tit | 1 | 0 | 1 | few | 0.250 | 0.500 | 0.000 |",
        "| owl | 0 | 1 | 0 | few | – | – | – |",
    ],
)
def test_of_sets_it_says_several_or_none(run: Path, said: str):
    assert said in card(of_sets(run))


def test_of_sets_it_names_no_closed_set(run: Path):
    text = card(of_sets(run))
    assert "Closed set" not in text and "accuracy |" in text and "balanced" not in text and "sum to 1, so" not in text


def test_a_class_none_is_told(run: Path):
    for name in ("split.csv", "per_class.csv"):
        file = run / name
        file.write_text(file.read_text().replace("Bubo bubo", "none"))
    text = card(run)
    assert "one of 3 species, or the class `none`" in text and "also rain" not in text
