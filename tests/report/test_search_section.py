"""What a report says of a search."""

from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

from birdclf.report.document import Figure, Table  # noqa: E402
from birdclf.report.sections.search import importances, search_section, studies_below  # noqa: E402
from birdclf.sweep.trials import JOURNAL, begin_study, read_study  # noqa: E402

SPACE = {"lr": FloatDistribution(1e-4, 1e-1, log=True), "loss": CategoricalDistribution(["focal", "cross_entropy"])}


def search(folder: Path, trials: int, monitor: str = "val/accuracy") -> Path:
    """Write a search in which the rate decides all; every fourth trial was stopped early."""
    folder.mkdir(parents=True)
    study = begin_study(folder, SPACE, monitor, "min" if monitor == "val/nll" else "max")
    study.sampler = optuna.samplers.RandomSampler(seed=3)
    for number in range(trials):
        trial = study.ask(SPACE)
        value = trial.params["lr"] * 10
        trial.report(value / 2, 1)
        if number % 4 == 3:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
    return folder


@pytest.mark.parametrize(("monitor", "best"), [("val/accuracy", max), ("val/nll", min)])
def test_history_best_settings_and_importances(tmp_path: Path, monitor: str, best):
    folder = search(tmp_path / "sweep" / "one", 12, monitor)
    assert studies_below([tmp_path, folder]) == [folder.resolve()]
    before = (folder / JOURNAL).read_bytes()
    section = search_section(folder)
    assert (folder / JOURNAL).read_bytes() == before
    said, history, importance, table = section.blocks
    assert "12 trials: 9 trained to their end, 3 stopped early" in said and "flatters" in said
    assert isinstance(history, Figure) and "Crosses: 3 trials" in history.caption and "var(--first)" in history.svg
    values = [trial.value for trial in read_study(folder).trials if trial.state == TrialState.COMPLETE]
    assert isinstance(table, Table) and table.columns == ("trial", monitor, "loss", "lr")
    assert table.rows[0][1].value == pytest.approx(best(values)) and len(table.rows) == 9
    assert isinstance(importance, Figure) and "Of fewer than 20 trials it is a guess" in importance.caption
    shares = importances(read_study(folder))
    assert list(shares) == ["lr", "loss"] and shares["lr"] > 0.8 and sum(shares.values()) == pytest.approx(1)


def test_few_trials_say_nothing_of_importance(tmp_path: Path):
    assert "cannot be estimated" in str(search_section(search(tmp_path / "one", 1)).blocks[-2])
    assert search_section(search(tmp_path / "none", 0)).blocks[0].startswith("0 trials")


def test_a_damaged_study_is_a_sentence(tmp_path: Path):
    (tmp_path / JOURNAL).write_text("half\na line\n")
    (said,) = search_section(tmp_path).blocks
    assert "cannot be read" in said
