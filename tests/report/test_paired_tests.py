import pandas as pd
import pytest
from made_up_runs import configured, write_run, write_sweep
from statsmodels.stats.multitest import multipletests

from birdclf.metrics.figures import Evaluation
from birdclf.report.document import Bullets
from birdclf.report.paired_tests import compare, holm
from birdclf.report.sections.comparison import comparison_section

QUICK = Evaluation(draws=300)


def compared(folder, reference=-1):
    found = configured(folder)[0]
    reference = found[reference]
    return reference, compare(reference, [c for c in found if c is not reference], QUICK)


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03, 0.5], [0.2], [0.05, 0.05], []])
def test_holm_is_that_of_statsmodels(p):
    assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]) if p else [])


def test_a_real_difference_is_decided_and_chance_is_not(tmp_path):
    write_run(tmp_path / "0_low", 0.3, loss="focal")
    write_run(tmp_path / "1_equal", 0.8, loss="cross_entropy")
    write_run(tmp_path / "2_high", 0.8, loss="ldam")
    _, comparisons = compared(tmp_path)
    low, equal = comparisons
    assert (low.decided("accuracy"), low.decided("macro_f1")) == (1, 1)
    assert equal.decided("accuracy") == 0
    assert low.adjusted["accuracy"] >= low.p_value("accuracy")
    _, (against_high, *_) = compared(tmp_path, reference=0)
    assert against_high.decided("accuracy") == -1


def test_several_seeds_are_paired_by_seed(tmp_path):
    _, comparisons = compared(write_sweep(tmp_path, seeds=(1, 2, 3)))
    assert all(len(c.pairs) == 3 and c.difference("accuracy") is c.by_seed["accuracy"] for c in comparisons)


def test_runs_on_other_recordings_or_species_are_refused_with_the_reason(tmp_path):
    write_run(tmp_path / "0_a", classes=8)
    write_run(tmp_path / "1_b", classes=9, loss="b")
    write_run(tmp_path / "2_c", data_seed=7, loss="c")
    write_run(tmp_path / "3_d", seed=5, loss="d")
    reference, comparisons = compared(tmp_path, reference=0)
    reasons = [c.refused for c in comparisons]
    assert "class lists differ" in reasons[0] and "recordings differ" in reasons[1] and "share no seed" in reasons[2]
    assert all(c.decided("accuracy") == 0 for c in comparisons)
    section = comparison_section(reference, comparisons, QUICK)
    bullets = section.blocks[-1]
    assert isinstance(bullets, Bullets) and len(bullets.items) == 3


def test_the_order_of_the_recordings_does_not_matter(tmp_path):
    for job, skill in ((0, 0.3), (1, 0.8)):
        write_run(tmp_path / f"{job}_run", skill, loss=f"l{job}")
    before = compared(tmp_path)[1][0].pairs[0].mcnemar
    path = tmp_path / "0_run" / "predictions.parquet"
    pd.read_parquet(path).iloc[::-1].to_parquet(path)
    assert compared(tmp_path)[1][0].pairs[0].mcnemar == before
