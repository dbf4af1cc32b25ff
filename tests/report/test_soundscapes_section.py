"""The section on soundscapes, from evaluations of made-up runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_up_runs import configured, species_names, write_run

from birdclf.audio.mixing import Mix
from birdclf.data.soundscapes import SegmentSettings
from birdclf.detection.classifier import InputSpec
from birdclf.detection.evaluate import evaluate_soundscapes
from birdclf.detection.soundscapes import SoundscapeSettings
from birdclf.metrics.label_predictions import read_label_predictions
from birdclf.report.document import Bullets, DotPlot, Figure, Table
from birdclf.report.estimates import interval_of_mean
from birdclf.report.report import report
from birdclf.report.sections.soundscapes import soundscapes_section

RATE_HZ = 8_000
NAMES = tuple(species_names(8))
QUICK = {"evaluation": {"draws": 200}}


class Hears:
    """Hears windows of 1 s: the loudness of a species' own pitch, and noise of its own."""

    def __init__(self, noise: float, seed: int) -> None:
        self.input_spec = InputSpec(NAMES, RATE_HZ, RATE_HZ, "repeat", Mix())
        self.source = Path("made up")
        self.noise, self.rng = noise, np.random.default_rng(seed)

    def fingerprint(self) -> str:
        return "hears"

    def __call__(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        power = np.abs(np.fft.rfft(windows, axis=1))[:, 200 : 200 + 100 * len(NAMES) : 100] / RATE_HZ
        p = 1 / (1 + np.exp(4 - 40 * power - self.noise * self.rng.standard_normal(power.shape)))
        return p.astype(np.float32), power.astype(np.float32)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six soundscapes of 30 s, in which the last species is not heard, and a peer's table beside the folder."""
    root, rng = tmp_path_factory.mktemp("soundscapes"), np.random.default_rng(1)
    rows = ["file,start_s,end_s,label"]
    (root / "field").mkdir()
    for n in range(6):
        t = np.arange(30 * RATE_HZ) / RATE_HZ
        sound = np.zeros(len(t))
        for start_s in range(30):
            k = int(rng.integers(0, 14))
            if k < 7:
                here = (t >= start_s) & (t < start_s + 1)
                sound += 0.3 * here * np.sin(2 * np.pi * (200 + 100 * k) * t)
                rows.append(f"{n}.wav,{start_s},{start_s + 1},{NAMES[k]}")
        soundfile.write(root / "field" / f"{n}.wav", sound, RATE_HZ)
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    (root / "peer.csv").write_text("\n".join(rows[::2]) + "\n")
    return root / "field"


def evaluated(run: Path, field: Path, noise: float, seed: int, peers: bool = False) -> None:
    settings = SoundscapeSettings(
        field, field.parent / "table.csv", segments=SegmentSettings(segment_s=1.0, unannotated="empty"),
        detections={"peer": field.parent / "peer.csv"} if peers else {},
    )  # fmt: skip
    evaluate_soundscapes(run, Hears(noise, seed), settings, settings.folder(run, "best", None))


@pytest.fixture(scope="module")
def sweep(field: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two configurations of three seeds, one of which was judged beside a peer, and a run that was not judged."""
    folder = tmp_path_factory.mktemp("sweep")
    for job, (model, noise) in enumerate((("audio_cnn_v2", 2.0), ("audio_cnn", 6.0))):
        for seed in (1, 2, 3):
            run = write_run(folder / f"{job}_{seed}", 0.8 - 0.2 * job, seed, model=model, **QUICK)
            evaluated(run, field, noise, seed, peers=job == 0)
    write_run(folder / "9_job", 0.3, 1, model="audio_cnn", loss="focal", **QUICK)
    return folder


def plots(section) -> dict[str, DotPlot]:
    return {block.title: block for block in section.blocks if isinstance(block, DotPlot)}


def tables(section) -> dict[str, Table]:
    return {block.caption: block for block in section.blocks if isinstance(block, Table)}


def test_configurations_stand_beside_peers(sweep: Path):
    found, _ = configured(sweep)
    section = soundscapes_section(found)
    plot = plots(section)["Scores on field"]
    labels = [found[0].label, found[1].label, "peer"]
    assert [row.label for row in plot.rows] == labels and [axis.name for axis in plot.axes] == [
        "cmAP", "AUROC", "false detections / h",
    ]  # fmt: skip
    table = tables(section)["Figures on field"]
    assert [row[0] for row in table.rows] == labels
    runs = [json.loads(path.read_text()) for path in sorted(sweep.glob("0_*/evaluations/*/metrics.json"))]
    values = [run["soundscape"]["cmap"]["value"] for run in runs]
    own, mark = table.rows[0][table.columns.index("cmAP")], plot.rows[0].marks[0]
    assert own.value == mark.value == pytest.approx(np.mean(values))
    assert own.text == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" and table.rows[0][1].value == 3
    assert 0 <= mark.low < mark.value < mark.high <= 1 and mark.filled
    peer, stored = plot.rows[2].marks[0], runs[0]["detections"]["peer"]["cmap"]
    assert (peer.value, peer.low, peer.high) == (stored["value"], stored["low"], stored["high"]) and not peer.filled
    assert plot.rows[0].marks[0].value > plot.rows[1].marks[0].value
    assert "Over 7 species cmAP is" in plots(section)["From test recordings to field"].caption
    assert all(words in plot.caption for words in (f"{labels[0]}: cmAP {np.mean(values):.3f} [", "peer: cmAP"))


def test_one_seed_has_its_own_interval_and_several_that_of_the_mean(sweep: Path, field: Path, tmp_path: Path):
    noisy = configured(sweep)[0][1]
    mark = plots(soundscapes_section([noisy]))["Scores on field"].rows[0].marks[1]
    measured = [
        read_label_predictions(run.folder / "evaluations" / "soundscapes_field" / "predictions.parquet", "soundscape")[
            0
        ].measured("auroc", np.zeros(7, np.int64), run.evaluation)
        for run in noisy.runs.values()
    ]
    assert (mark.low, mark.high) == interval_of_mean(measured, True, 0.95)
    evaluated(write_run(tmp_path / "run", 0.6, 1, **QUICK), field, 6.0, 1)
    (alone,) = configured(tmp_path)[0]
    mark = plots(soundscapes_section([alone]))["Scores on field"].rows[0].marks[1]
    stored = json.loads(next(tmp_path.rglob("soundscapes_field/metrics.json")).read_text())["soundscape"]["auroc"]
    assert (mark.value, mark.low, mark.high) == (stored["value"], stored["low"], stored["high"])


def test_the_curve_of_the_best_stands_beside_those_of_peers(sweep: Path):
    found, _ = configured(sweep)
    (figure,) = (block for block in soundscapes_section(found).blocks if isinstance(block, Figure))
    assert figure.title == "Precision and recall on field"
    assert f"{found[0].label}, seed 1 " in figure.caption and "peer 1.00, 1.00, 0.0" in figure.caption


def test_of_empty_sound_only_false_detections_are_shown(field: Path, tmp_path: Path):
    (tmp_path / "table.csv").write_text("file,start_s,end_s,label\n0.wav,0,1,none\n")
    run = write_run(tmp_path / "run", **QUICK)
    segments = SegmentSettings(segment_s=1.0, unannotated="empty")
    settings = SoundscapeSettings(field, tmp_path / "table.csv", segments=segments)
    evaluate_soundscapes(run, Hears(2.0, 1), settings, settings.folder(run, "best", None))
    section = soundscapes_section(configured(tmp_path)[0])
    (plot,) = plots(section).values()
    assert [axis.name for axis in plot.axes] == ["false detections / h"] and plot.rows[0].marks[0].value > 0
    assert "8 of these have no segment and are left out of means" in section.blocks[0]
    assert len(tables(section)) == 2


def test_species_are_sorted_by_their_fall(sweep: Path):
    section = soundscapes_section(configured(sweep)[0])
    plot = plots(section)["From test recordings to field"]
    falls = [before.value - after.value for before, after in (row.marks for row in plot.rows)]
    assert falls == sorted(falls, reverse=True) and len(falls) == 7
    (table,) = (block for name, block in tables(section).items() if name.startswith("Species of"))
    assert [row[0] for row in table.rows] == [row.label for row in plot.rows]
    assert all(mark.low <= mark.value <= mark.high for row in plot.rows for mark in row.marks)
    assert table.columns[-1] == "AP, peer" and sorted(row[0] for row in table.rows) == list(NAMES[:7])


def test_it_is_a_part_of_the_report_where_there_is_one(sweep: Path, tmp_path: Path):
    made = report([sweep], tmp_path / "out", with_gallery=False)
    assert "soundscapes" in [part.anchor for part in made.sections]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## Soundscapes" in text and "field: 180 segments of 1 s in 6 recordings, 0.1 hours; 94 are empty" in text
    assert soundscapes_section(configured(sweep / "9_job")[0]) is None


def test_a_damaged_evaluation_is_left_out_and_named(field: Path, tmp_path: Path):
    evaluated(write_run(tmp_path / "run", **QUICK), field, 2.0, 1)
    file = next(tmp_path.rglob("soundscapes_field/metrics.json"))
    file.write_text("{")
    (bullets,) = soundscapes_section(configured(tmp_path)[0]).blocks
    assert isinstance(bullets, Bullets) and f"{file} cannot be read" in bullets.items[0]
