import pandas as pd
import pytest
from made_up_runs import configured, write_run, write_sweep

from birdclf.metrics.figures import Evaluation
from birdclf.report.document import Bullets, Table
from birdclf.report.paired_tests import compare
from birdclf.report.sections.comparison import comparison_section

QUICK = Evaluation(draws=300)


def compared(folder, reference=-1):
    found = configured(folder)[0]
    reference = found[reference]
    return reference, compare(reference, [c for c in found if c is not reference], QUICK)


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


def test_a_difference_within_the_margin_is_not_relevant(tmp_path):
    write_run(tmp_path / "0_a", 0.8, loss="a", clips=2000)
    write_run(tmp_path / "1_b", 0.8, loss="b", clips=2000)
    reference, rival = configured(tmp_path)[0]
    margins = {0.0: "undecided", 0.005: "undecided", 0.2: "no relevant difference"}
    for margin, verdict in margins.items():
        (comparison,) = compare(reference, [rival], Evaluation(draws=300, margin=margin))
        assert comparison.verdict("accuracy") == verdict


def test_two_seeds_with_the_same_gap_do_not_decide_against_many_rivals(tmp_path):
    """Equal gaps had p < 0.001 and an interval of width 0."""
    for job, (skill, loss) in enumerate(((0.70, "a"), (0.62, "b"))):
        for seed in (1, 2):
            write_run(tmp_path / f"{job}_{seed}", skill, seed, loss=loss, data_seed=1, clips=178)
            for name in ("predictions.parquet", "metrics.json"):
                (tmp_path / f"{job}_{seed}" / name).write_bytes((tmp_path / f"{job}_1" / name).read_bytes())
    reference, rival = configured(tmp_path)[0]
    (comparison,) = compare(reference, [rival], QUICK)
    difference = comparison.difference("accuracy")
    one = comparison.pairs[0].difference["accuracy"]
    assert len(comparison.pairs) == 2 and difference.value == pytest.approx(one.value)
    assert difference.high - difference.low > 0.8 * (one.high - one.low) and difference.p_value > 0.001


def test_what_could_have_been_seen_and_how_many_seeds_decide(tmp_path):
    reference, comparisons = compared(write_sweep(tmp_path, seeds=(1, 2, 3)))
    for comparison in comparisons:
        assert comparison.level == pytest.approx(0.05 / 3)
        seen = comparison.detectable("accuracy")
        assert 0.01 < seen < 0.3
        assert comparison.seeds_needed("accuracy", seen) <= 3 < comparison.seeds_needed("accuracy", 0.6 * seen)
    tables = {b.caption: b for b in comparison_section(reference, comparisons, QUICK).blocks if isinstance(b, Table)}
    rows = tables["What could have been seen"].rows
    assert [row[0] for row in rows] == [c.rival.label for c in comparisons]
    for comparison, row in zip(comparisons, rows, strict=True):
        undecided = comparison.verdict("accuracy") == "undecided"
        assert (row[2] != "") == undecided
    assert any(row[2] for row in rows) and not all(row[2] for row in rows)


def test_seeds_that_one_configuration_lacks_are_said(tmp_path):
    for job, (seed, loss) in enumerate(((1, "a"), (2, "a"), (3, "a"), (1, "b"), (2, "b"))):
        write_run(tmp_path / f"{job}_run", seed=seed, loss=loss)
    reference, comparisons = compared(tmp_path, reference=0)
    section = comparison_section(reference, comparisons, QUICK)
    assert section.blocks[-1] == Bullets(("b: compared on 2 seeds that both have, of 3 and 2.",))
