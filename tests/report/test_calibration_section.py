import json

import pytest
from made_up_runs import configured, write_run, write_sweep

from birdclf.metrics.figures import Evaluation
from birdclf.report.document import Number, Table
from birdclf.report.sections.calibration import calibration_section, reliability_drawing
from birdclf.runs.run import Run


def calibrated(folder, **figures):
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["temperature"] = figures.pop("temperature")
    metrics["test"] |= figures
    (folder / "metrics.json").write_text(json.dumps(metrics))


def test_a_row_has_the_means_over_seeds(tmp_path):
    for seed, temperature, ece in ((1, 1.5, 0.04), (2, 2.5, 0.06)):
        run = write_run(tmp_path / str(seed), seed=seed)
        calibrated(run, temperature=temperature, ece=0.2, ece_calibrated=ece, nll_calibrated=1.25)
    found, _ = configured(tmp_path)
    table = next(block for block in calibration_section(found, Evaluation()).blocks if isinstance(block, Table))
    (row,) = table.rows
    assert row[1] == Number(2.0, "2.00")
    assert [cell.value for cell in row[2:4]] == pytest.approx([0.2, 0.05])
    assert row[4].value == pytest.approx(found[0].mean("test/nll")) and row[5].value == 1.25


def test_a_run_without_a_temperature_has_gaps_and_one_curve(tmp_path):
    found, _ = configured(write_sweep(tmp_path / "sweep"))
    section = calibration_section(found, Evaluation())
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert len(table.rows) == 4 and all(row[1] == row[3] == row[5] == "" for row in table.rows)
    figure = reliability_drawing("best", found[0].first, Evaluation())
    assert "Squares" not in figure.caption and "var(--second)" not in figure.svg


def test_the_drawing_says_the_temperature(tmp_path):
    folder = write_run(tmp_path / "run")
    calibrated(folder, temperature=1.7)
    figure = reliability_drawing("best", Run(folder), Evaluation())
    assert "the temperature, 1.70" in figure.caption and "var(--second)" in figure.svg
