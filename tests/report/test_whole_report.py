"""The whole report, from run folders to three files."""

import json

import numpy as np
import pandas as pd
import pytest
from made_up_runs import CRITERIA, REFERENCE, configured, write_run, write_sweep
from test_report_page import Seen

from birdclf.errors import UserError
from birdclf.report.document import Bullets, DotPlot, Figure, Table
from birdclf.report.estimates import estimate
from birdclf.report.report import report

QUICK = {"evaluation": {"draws": 200}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder / "sweep", seeds=(1, 2, 3), criteria=CRITERIA, reference=REFERENCE, **QUICK)
    return report([folder / "sweep"], folder / "out")


def section(made, anchor):
    return next(part for part in made.sections if part.anchor == anchor)


def table(made, anchor, nth=0):
    return [block for block in section(made, anchor).blocks if isinstance(block, Table)][nth]


def summary(made):
    (bullets,) = section(made, "summary").blocks
    assert isinstance(bullets, Bullets)
    return " ".join(bullets.items)


def test_every_part_is_there_in_three_files(made):
    anchors = [
        "summary",
        "results",
        "effects",
        "table",
        "tests",
        "criteria",
        "published",
        "training",
        "calibration",
        "species",
        "gallery",
        "repeat",
    ]
    assert [part.anchor for part in made.sections] == anchors
    page, text = ((made.folder / name).read_text() for name in ("report.html", "report.md"))
    seen = Seen(page)
    assert not seen.open
    assert {a["href"][1:] for a in seen.named("a")} == set(anchors)
    assert all(f"## {part.title}" in text for part in made.sections)
    ids = [a["id"] for _, a in seen.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert len([svg for svg in seen.named("svg") if "aria-label" in svg]) == 12 + 1 + 2
    assert [a["aria-label"] for a in seen.named("div") if a.get("role") == "table"] == [
        block.title for part in made.sections for block in part.blocks if isinstance(block, DotPlot)
    ]


def test_pictures_come_before_tables(made):
    shown = [block for part in made.sections for block in part.blocks]
    first = next(i for i, block in enumerate(shown) if isinstance(block, Table))
    assert [type(block) for block in shown[1:4]] == [DotPlot, DotPlot, DotPlot]  # scores, differences, species
    assert [block.title for block in shown[4:first] if isinstance(block, DotPlot)] == ["Effects of each factor"]
    for part in made.sections:
        kinds = [isinstance(block, Table) for block in part.blocks if isinstance(block, Table | Figure | DotPlot)]
        assert kinds == sorted(kinds), part.title


def test_the_csv_has_a_row_a_configuration_the_best_first(made):
    rows = pd.read_csv(made.folder / "comparison.csv")
    assert len(rows) == 4 and rows.configuration[0].startswith("audio_cnn_v2")
    assert rows.val_score.is_monotonic_decreasing
    assert rows.parameters_per_class[0] == pytest.approx(4_222_041 / 8)
    assert (rows.minutes == 10).all() and (rows.windows_per_s == 130).all() and (rows.seeds == "1 2 3").all()


def test_the_recall_of_rare_species_has_the_interval_of_its_seeds(made):
    rows = {row[0]: row[-1] for row in table(made, "table", 1).rows}
    told = pd.read_csv(made.folder / "comparison.csv").set_index("configuration")
    found = configured(made.folder.parent / "sweep")[0]
    assert rows.keys() == set(told.index) == {one.label for one in found}
    for one in found:
        mean = np.mean(list(one.values("test/few_recall").values()))
        over = estimate(one, "test/few_recall", one.first.evaluation)
        assert rows[one.label].value == pytest.approx(told.test_few_recall[one.label]) == mean
        assert rows[one.label].text == f"{mean:.3f} [{over.low:.3f}, {over.high:.3f}]"


def test_the_summary_says_who_is_beaten_and_what_is_open(made):
    said = summary(made)
    assert "12 runs of 4 configurations. audio_cnn_v2" in said
    assert "beats audio_cnn" in said and "undecided against audio_cnn_v2" in said
    assert "one seed" not in said and "3 seeds" in said


def test_effects_tell_network_and_loss_apart(made):
    p = {row[0]: row[3].value for row in table(made, "effects").rows}
    assert p["model"] < 0.001 < 0.01 < p["loss"]
    assert "model x loss" in p


def test_criteria_have_verdicts(made):
    verdict = {row[1]: row[3] for row in table(made, "criteria").rows}
    assert (verdict["accurate"], verdict["impossible"], verdict["unknown"]) == ("met", "not met", "undecided")
    assert (verdict["better"], verdict["stable"]) == ("met", "met")
    assert "Goals met: accurate" in summary(made)


def test_published_figures_are_other_data(made):
    rows = table(made, "published").rows
    assert {row[-1] for row in rows} == {"other data"}
    assert ("test/accuracy", 0.395) in [(row[1], row[2].value) for row in rows]


def test_training_names_the_best_epochs_and_the_gap(made):
    row = table(made, "training").rows[0]
    history = {epoch: 2.5 / epoch + 0.05 * epoch**2 for epoch in range(1, 7)}
    assert row[3].value == min(history, key=history.get) and row[5].value == 6
    assert row[7].value == pytest.approx(0.1, abs=1e-6)


def test_species_have_intervals(made):
    rows = table(made, "species").rows
    assert len(rows) == 8 and rows[0][1].value == 300
    assert "[" in rows[0][3].text


def test_repeating_needs_only_what_is_written(made):
    (code,) = [block.text for block in section(made, "repeat").blocks if hasattr(block, "text")]
    assert "birdclf train loss=cross_entropy model=audio_cnn_v2 seed=1" in code.splitlines()
    assert table(made, "repeat").rows[0][3] == "c0ffee"


def test_a_reference_can_be_named(tmp_path):
    write_sweep(tmp_path / "in", seeds=(1,), **QUICK)
    made = report([tmp_path / "in"], tmp_path / "out", "audio_cnn focal", with_gallery=False)
    assert "The reference audio_cnn focal was named" in summary(made) and "is beaten by audio_cnn_v2" in summary(made)
    with pytest.raises(UserError, match="--reference nobody.*audio_cnn focal"):
        report([tmp_path / "in"], tmp_path / "other", "nobody")


def test_one_run_is_a_report_that_compares_nothing(tmp_path):
    write_run(tmp_path / "in" / "0_run", **QUICK)
    said = summary(report([tmp_path / "in"], tmp_path / "out"))
    assert "One configuration, made_up, with 1 run" in said and "It was run with one seed" in said
    assert "beats" not in said and "undecided" not in said


def test_two_equal_runs_are_undecided(tmp_path):
    for job, loss in enumerate(("a", "b")):
        write_run(tmp_path / "in" / f"{job}_run", loss=loss, **QUICK)
    said = summary(report([tmp_path / "in"], tmp_path / "out", with_gallery=False))
    assert "Accuracy: undecided against" in said and "beats" not in said


def test_no_relevant_difference_is_said_as_such(tmp_path):
    for job, loss in enumerate(("a", "b")):
        write_run(tmp_path / "in" / f"{job}_run", 0.8, loss=loss, clips=1500, evaluation={"margin": 0.1, "draws": 100})
    said = summary(report([tmp_path / "in"], tmp_path / "out", with_gallery=False))
    assert "Accuracy: no relevant difference, one of more than 10 points, to " in said and "undecided" not in said


def test_runs_of_several_versions_and_precisions_are_named(tmp_path):
    for seed, changed in ((1, {}), (2, {"versions": {"torch": "2.9.0"}, "precision": "32-true"})):
        folder = write_run(tmp_path / "in" / f"{seed}_run", seed=seed)
        known = json.loads((folder / "provenance.json").read_text()) | {"precision": "bf16-mixed"} | changed
        (folder / "provenance.json").write_text(json.dumps(known))
    made = report([tmp_path / "in"], tmp_path / "out", with_gallery=False)
    said = summary(made)
    assert "Runs of several versions are compared" in said and "torch 2.11.0 and 2.9.0" in said
    assert f"The seeds of {made.configurations[0].label} were trained in 32-true and bf16-mixed." in said


def test_what_cannot_be_used_is_left_out_and_the_rest_made(tmp_path):
    for job in range(3):
        write_run(tmp_path / "in" / f"{job}_run", seed=job + 1, **QUICK)
    (tmp_path / "in" / "1_run" / "done.json").unlink()
    (tmp_path / "in" / "2_run" / "metrics.json").write_text("{")
    made = report([tmp_path / "in"], tmp_path / "out", with_gallery=False)
    assert "2 folders are left out" in summary(made)
    assert [folder.name for folder, _ in made.left_out] == ["1_run", "2_run"]
    assert "left-out" in (made.folder / "report.html").read_text()


def test_nothing_usable_is_a_mistake_with_every_reason(tmp_path):
    (write_run(tmp_path / "in" / "0_run") / "done.json").unlink()
    with pytest.raises(UserError, match="None of the 1 run folder can be.*\n.*0_run: .*stopped"):
        report([tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_report_is_never_overwritten(tmp_path):
    write_run(tmp_path / "in" / "0_run", **QUICK)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.md").write_text("mine")
    with pytest.raises(UserError, match="report.md exists already; nothing is overwritten"):
        report([tmp_path / "in"], tmp_path / "out")
    assert (tmp_path / "out" / "report.md").read_text() == "mine"


def test_criteria_of_another_shape_are_a_sentence(tmp_path):
    write_run(tmp_path / "in" / "0_run", criteria={"goals": [{"metric": "accuracy"}]}, **QUICK)
    made = report([tmp_path / "in"], tmp_path / "out", with_gallery=False)
    assert "criteria.goals[0] has no condition" in section(made, "criteria").blocks[0]


@pytest.mark.slow
def test_a_factor_that_varies_with_another_is_refused_an_effect(tmp_path):
    sweep = tmp_path / "sweep"
    for job, (model, loss, rate) in enumerate(
        (m, x, r) for m, x in (("audio_cnn", "a"), ("audio_cnn_v2", "b")) for r in ("0.1", "0.2")
    ):
        for seed in (1, 2):
            write_run(
                sweep / f"{job}_{seed}",
                seed=seed,
                model=model,
                loss=loss,
                optimizer={"lr": rate},
                evaluation={"draws": 100},
                overrides=(f"optimizer.lr={rate}",),
            )
    found = section(report([sweep], tmp_path / "out", with_gallery=False), "effects")
    assert "loss is confounded with model" in found.blocks[0]
    terms = {row[0] for block in found.blocks if isinstance(block, Table) for row in block.rows}
    assert terms == {"model", "optimizer.lr", "model x optimizer.lr"}


def test_an_incomplete_factorial_is_refused(tmp_path):
    write_sweep(tmp_path / "in", seeds=(1,), **QUICK)
    metrics = tmp_path / "in" / "0_job" / "metrics.json"
    metrics.write_text(json.dumps({}))
    made = report([tmp_path / "in"], tmp_path / "out", with_gallery=False)
    assert "1 of 4 combinations are missing" in section(made, "effects").blocks[0]


@pytest.mark.slow
def test_intervals_of_another_confidence_are_called_so(tmp_path):
    found = {}
    for confidence in (0.8, 0.95):
        folder, settings = tmp_path / str(confidence), {"draws": 200, "confidence": confidence}
        write_sweep(folder / "sweep", seeds=(1, 2), criteria=CRITERIA, evaluation=settings)
        found[confidence] = report([folder / "sweep"], folder / "out")
    text = (found[0.8].folder / "report.md").read_text()
    assert text.count("80 %") >= 7 and "95 %" not in text
    narrow, usual = (table(found[confidence], "effects").rows for confidence in (0.8, 0.95))
    assert [row[2].value for row in narrow] == [row[2].value for row in usual]
    assert [row[2].text for row in narrow] != [row[2].text for row in usual]
