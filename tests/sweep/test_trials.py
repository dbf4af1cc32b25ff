"""The journal of a study: one kind of search a folder, and no line lost to a full disk."""

import json
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from optuna.distributions import FloatDistribution  # noqa: E402
from optuna.pruners import NopPruner  # noqa: E402

from birdclf.errors import UserError  # noqa: E402
from birdclf.sweep.trials import JOURNAL, begin_study, facts_of, read_study, trial_numbered, trial_of  # noqa: E402

SPACE = {"lr": FloatDistribution(0, 1)}


def test_a_study_is_resumed_and_one_of_another_kind_refused(tmp_path: Path):
    study = begin_study(tmp_path, SPACE, "val/nll", "min")
    study.tell(study.ask(SPACE), 0.5)
    again = begin_study(tmp_path, SPACE, "val/nll", "min")
    assert again.best_value == 0.5 and again.direction.name == "MINIMIZE" and facts_of(again)["monitor"] == "val/nll"
    with pytest.raises(UserError, match="monitor was val/nll and is val/accuracy now"):
        begin_study(tmp_path, SPACE, "val/accuracy", "max")
    with pytest.raises(UserError, match=r"lr was .*1\.0.* and is .*2\.0.* now"):
        begin_study(tmp_path, {"lr": FloatDistribution(0, 2)}, "val/nll", "min")


def test_half_a_line_is_cut_off(tmp_path: Path):
    begin_study(tmp_path, SPACE, "val/nll", "min").ask(SPACE)
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + b'{"op_code": 4, "work')
    study = begin_study(tmp_path, SPACE, "val/nll", "min")
    content = (tmp_path / JOURNAL).read_bytes()
    assert content.startswith(whole) and all(json.loads(line) for line in content.splitlines())
    study.tell(0, 0.25)
    assert read_study(tmp_path).best_value == 0.25


def test_a_run_finds_its_trial_by_the_number_of_its_folder(tmp_path: Path):
    study = begin_study(tmp_path, SPACE, "val/nll", "min")
    for _ in range(2):
        study.ask(SPACE)
    trial = trial_of(str(tmp_path / "1_lr-0.5"), NopPruner())
    trial.report(0.75, 3)
    assert trial.number == 1 and not trial.should_prune()
    assert read_study(tmp_path).trials[1].intermediate_values == {3: 0.75}
    for name, said in (("2_lr-0.5", "no trial 2"), ("run", "number of its trial")):
        with pytest.raises(UserError, match=said):
            trial_of(str(tmp_path / name), NopPruner())
    with pytest.raises(UserError, match="no trial 5"):
        trial_numbered(study, 5)


def test_what_cannot_be_read_is_reported(tmp_path: Path):
    with pytest.raises(UserError, match="holds no study.journal"):
        read_study(tmp_path)
    (tmp_path / JOURNAL).write_text("nothing\nof it\n")
    with pytest.raises(UserError, match="cannot be read"):
        read_study(tmp_path)
