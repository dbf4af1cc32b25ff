import json
import shlex

import pytest
from made_up_runs import configured, write_run, write_sweep

from birdclf.cli import main
from birdclf.errors import UserError
from birdclf.report.plan import more_seeds, plan
from birdclf.sweep.launches import SWEEP

WORDS = ["loss=cross_entropy,focal", "model=audio_cnn,audio_cnn_v2", "seed=1,2,3"]


@pytest.fixture(scope="module")
def pilot(tmp_path_factory):
    folder = write_sweep(tmp_path_factory.mktemp("pilot") / "sweep", seeds=(1, 2, 3), evaluation={"draws": 100})
    (folder / SWEEP).write_text(json.dumps({"words": WORDS, "launch": 1}))
    return folder


def test_a_smaller_difference_takes_more_seeds(pilot):
    found = {points: plan([pilot], points) for points in (20, 5)}
    assert "against 3 rivals" in found[5] and "seeds for 5" in found[5] and "seeds for 20" in found[20]
    seeds = {points: [int(line.split()[-3]) for line in text.splitlines()[3:6]] for points, text in found.items()}
    assert all(more > less for more, less in zip(seeds[5], seeds[20], strict=True))


def test_the_margin_of_the_runs_is_the_usual_difference(pilot):
    assert "seeds for 2 " in plan([pilot])


def test_the_command_adds_just_the_seeds_that_lack(pilot):
    found = configured(pilot)[0]
    words = shlex.split(more_seeds(found, 6))
    assert words[:3] == ["birdclf", "train", "-m"] and set(WORDS[:2]) < set(words)
    assert words[-3:] == ["seed=4,5,6", f"hydra.sweep.dir={pilot}", "resume=true"]
    assert more_seeds(found, 3) == "" and "'seed=range(4,41)'" in more_seeds(found, 40)


def test_runs_of_no_sweep_have_no_command(tmp_path):
    assert more_seeds(configured(write_sweep(tmp_path))[0], 9) == ""


def test_a_pilot_of_one_seed_says_what_it_rests_on(tmp_path):
    assert "rest on what is usual" in plan([write_sweep(tmp_path, seeds=(1,), evaluation={"draws": 100})], 10)


def test_what_cannot_be_planned_is_refused(tmp_path, pilot):
    for difference in (0, -1, 100, float("nan")):
        with pytest.raises(UserError, match="--difference is .* above 0"):
            plan([pilot], difference)
    write_run(tmp_path / "a" / "0_run")
    with pytest.raises(UserError, match="two configurations or more"):
        plan([tmp_path / "a"])
    write_run(tmp_path / "a" / "1_run", loss="b", data_seed=9)
    with pytest.raises(UserError, match="cannot be compared"):
        plan([tmp_path / "a"])


def test_the_command_line(pilot, tmp_path, capsys):
    main(["report", str(pilot), "--plan", "--difference", "3"])
    assert "seeds for 3" in capsys.readouterr().out
    for words, said in (
        (["--plan", "--out", str(tmp_path / "out")], "leave out --out"),
        (["--difference", "3", "--out", str(tmp_path / "out")], "belongs to --plan"),
        ([], "--out is missing"),
    ):
        with pytest.raises(SystemExit):
            main(["report", str(pilot), *words])
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
