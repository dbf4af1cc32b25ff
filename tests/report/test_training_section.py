import pytest
from made_up_runs import write_run
from statsmodels.stats.proportion import confint_proportions_2indep

from birdclf.metrics.figures import Evaluation
from birdclf.report.sections.training import best_epochs, curves, generalisation_gap
from birdclf.runs.run import Run


def test_the_gap_has_newcombes_interval(tmp_path):
    run = Run(write_run(tmp_path / "run"))
    gap, low, high = generalisation_gap(run, Evaluation())
    last, n_train, n_val = run.history.iloc[-1], int(run.train_counts.sum()), run.metrics["val"]["clips"]
    hits = [round(last["train/accuracy"] * n_train), round(last["val/accuracy"] * n_val)]
    expected = confint_proportions_2indep(hits[0], n_train, hits[1], n_val, method="newcomb", compare="diff")
    assert gap == pytest.approx(0.1)
    assert (low, high) == pytest.approx(expected, abs=2e-3)  # the gap itself is not rounded to whole clips


def test_nll_and_the_monitored_metric_have_epochs_of_their_own(tmp_path):
    run = Run(write_run(tmp_path / "run"))
    assert best_epochs(run) == (3, 6)
    figure = curves("best", run)
    assert "best in epoch 3" in figure.caption and "in epoch 6 of 6" in figure.caption
    assert "var(--first)" in figure.svg and "#010203" not in figure.svg
