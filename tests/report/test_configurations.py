import pytest
from made_up_runs import configured, write_run, write_sweep

from birdclf.metrics.figures import Evaluation
from birdclf.report.configurations import best_first, what_varied
from birdclf.report.paired_tests import compare


def test_runs_that_differ_by_seed_alone_are_one_configuration(tmp_path):
    found, left_out = configured(write_sweep(tmp_path, seeds=(2, 1)))
    assert [c.label for c in found] == [
        "audio_cnn cross_entropy",
        "audio_cnn focal",
        "audio_cnn_v2 cross_entropy",
        "audio_cnn_v2 focal",
    ]
    assert [list(c.runs) for c in found] == [[(1, 1), (2, 2)]] * 4
    assert not left_out


def test_the_best_on_validation_data_is_first_whatever_its_name(tmp_path):
    ranked, monitor = best_first(configured(write_sweep(tmp_path, seeds=(1,)))[0])
    assert monitor == "val/accuracy"
    scores = [c.first.metrics["score"] for c in ranked]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1]


def test_a_repeated_run_is_left_out(tmp_path):
    write_run(tmp_path / "0_a")
    write_run(tmp_path / "1_b")
    found, left_out = configured(tmp_path)
    assert len(found) == 1 and left_out[0].folder.name == "1_b"
    assert "0_a" in left_out[0].reason


def test_equal_overrides_are_told_apart_by_the_configuration(tmp_path):
    write_run(tmp_path / "0_a", window={"eval": "center"})
    write_run(tmp_path / "1_b", window={"eval": "all"})
    assert [c.label for c in configured(tmp_path)[0]] == ["made_up window.eval=center", "made_up window.eval=all"]


def test_one_configuration_has_the_name_of_its_experiment(tmp_path):
    write_run(tmp_path / "0_a", name="phase0")
    assert configured(tmp_path)[0][0].label == "phase0"


def test_runs_that_build_on_the_run_of_their_seed_are_one_configuration(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / f"{seed}_first", name="first", seed=seed)
        write_run(tmp_path / f"{seed}_second", name="second", seed=seed, init_from=f"sweep/{seed}_first")
        write_run(tmp_path / f"{seed}_both", name="both", seed=seed, members=[f"{seed}_first", f"{seed}_second"])
    write_run(tmp_path / "3_other", name="other", seed=1, init_from="elsewhere/run")
    found, left_out = configured(tmp_path)
    both = [(1, 1), (2, 2)]
    assert sorted(list(c.runs) for c in found) == [[(1, 1)], both, both, both] and not left_out


def test_what_one_sweep_sets_and_the_others_have_anyway_is_no_part_of_a_label(tmp_path):
    write_run(tmp_path / "0_a", overrides=("experiment=plain", "monitor=val/accuracy"))
    write_run(tmp_path / "1_b", overrides=("experiment=wide",), loss="focal")
    assert [c.label for c in configured(tmp_path)[0]] == ["plain cross_entropy", "wide focal"]
    write_run(tmp_path / "2_c", overrides=("experiment=low", "monitor=val/nll"), monitor="val/nll")
    assert [c.label for c in configured(tmp_path)[0]][2] == "low cross_entropy val/nll"


def write_seeds(folder, seeds, **more):
    """Write two losses with seeds of training and split; the split's seed decides the recordings."""
    for loss, skill in (("a", 0.4), ("b", 0.7)):
        for seed, own in seeds:
            name = f"{loss}_{seed}_{own}"
            words = (f"split.seed={own}",)
            write_run(
                folder / name, skill, seed, loss=loss, data_seed=own, split={"seed": own}, overrides=words, **more
            )


@pytest.mark.parametrize(
    "seeds, says",
    [
        ([(1, 1), (2, 2)], "both training and split"),
        ([(1, 0), (2, 0), (3, 0)], "training alone, on one split"),
        ([(0, 1), (0, 2), (0, 3)], "the split alone"),
        ([(1, 1)], ""),
    ],
)
def test_seeds_of_training_and_split_make_replicates_of_one_configuration(tmp_path, seeds, says):
    write_seeds(tmp_path, seeds)
    found, left_out = configured(tmp_path)
    assert not left_out and [c.label for c in found] == ["a", "b"]
    assert [list(c.runs) for c in found] == [sorted(seeds)] * 2
    assert (says in what_varied(found)) if says else what_varied(found) == ""
    (comparison,) = compare(found[1], found[:1], Evaluation(draws=100))
    assert len(comparison.pairs) == len(seeds)
    assert len({pair.seeds for pair in comparison.pairs}) == len(seeds)


def test_configurations_of_which_other_seeds_varied_are_said_to_mix(tmp_path):
    write_seeds(tmp_path / "split", [(0, 1), (0, 2)])
    write_seeds(tmp_path / "training", [(1, 0), (2, 0)], model="audio_cnn_v2")
    assert "something else in others" in what_varied(configured(tmp_path)[0])


def test_a_run_from_before_split_seed_is_of_the_configuration_of_those_after(tmp_path):
    write_run(tmp_path / "0_old", seed=1, split={"train": 0.7})
    write_run(tmp_path / "1_new", seed=2, split={"train": 0.7, "seed": None, "train_fraction": 1.0})
    found, _ = configured(tmp_path)
    assert [list(c.runs) for c in found] == [[(1, 1), (2, 2)]]


def test_a_truth_value_or_a_number_has_its_name_in_a_label(tmp_path):
    for number, redraw in enumerate(("true", "false")):
        config = {"redraw_output": redraw == "true"}
        write_run(tmp_path / f"{number}_a", overrides=(f"redraw_output={redraw}", "pictures=false"), **config)
    labels = [c.label for c in configured(tmp_path)[0]]
    assert labels == ["redraw_output=true", "redraw_output=false"]
