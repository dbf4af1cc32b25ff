import re
import shutil

import numpy as np
import pytest
import yaml
from made_up_runs import configured, write_run

from birdclf.metrics.figures import Evaluation
from birdclf.report.document import Figure, Number, Table
from birdclf.report.sections import learning_curve
from birdclf.report.sections.learning_curve import learning_curve_section

QUICK = Evaluation(draws=100)
SKILLS = {0.125: 0.3, 0.25: 0.45, 0.5: 0.6, 1.0: 0.72}


def section(folder):
    return learning_curve_section(configured(folder)[0], QUICK)


def write_curve(folder, skills=SKILLS, seeds=(1, 2), **more):
    job = 0
    for fraction, skill in skills.items():
        for seed in seeds:
            write_run(folder / f"{job}_job", skill, seed, fraction=fraction, data_seed=seed, **more)
            job += 1


def of(found, kind):
    return [block for block in found.blocks if isinstance(block, kind)]


def test_there_is_none_where_train_recordings_do_not_vary(tmp_path):
    write_run(tmp_path / "0_a", loss="a", fraction=0.5)
    write_run(tmp_path / "1_b", loss="b", fraction=1.0)
    assert section(tmp_path) is None


def test_points_go_from_few_recordings_to_many_with_what_twice_would_bring(tmp_path):
    write_curve(tmp_path)
    found = section(tmp_path)
    (figure,), (points, gains) = of(found, Figure), of(found, Table)
    recordings = [row[1].value for row in points.rows]
    assert recordings == sorted(recordings) and len(recordings) == 4 and recordings[-1] / recordings[0] > 6
    assert all(isinstance(row[3], Number) and "[" in row[3].text for row in points.rows)
    assert figure.svg and "accuracy 0." in figure.caption and "Dotted" in figure.caption
    gain = float(gains.rows[0][1].value)
    assert gains.rows[0][0] == "accuracy" and 0.02 < gain < 0.25
    assert any(
        "Twice the recordings" in block and "2 seeds" in block for block in found.blocks if isinstance(block, str)
    )


def test_species_of_a_bucket_are_the_same_at_each_point(tmp_path):
    """An eighth of the recordings leaves no many-shot species; the curve still shows those of the whole split."""
    write_curve(tmp_path, seeds=(1,))
    configurations = configured(tmp_path)[0]
    least = configurations[0].first
    assert least.figure("test/many_recall") is None
    points = of(section(tmp_path), Table)[0]
    many = [row[points.columns.index("recall many")] for row in points.rows]
    hits = least.test.prediction == least.test.target
    members = np.flatnonzero(configurations[-1].first.train_counts > QUICK.many)
    assert many[0].value == pytest.approx(np.mean([hits[least.test.target == k].mean() for k in members]))


def test_the_interval_of_the_gain_is_never_narrower_than_the_test_recordings_allow(tmp_path):
    """Two trainings with equal results on one split have no spread, and know no more than one of them."""
    width = lambda row: float(np.ptp([*map(float, re.findall(r"[-+][0-9.]+", row[1].text)[1:])]))  # noqa: E731
    write_curve(tmp_path / "one", seeds=(1,))
    one = of(section(tmp_path), Table)[1].rows[0]
    for job in sorted((tmp_path / "one").iterdir()):
        again = shutil.copytree(job, tmp_path / "two" / job.name) / "config.yaml"
        config = yaml.safe_load(again.read_text())
        config |= {"seed": 2, "split": config.get("split", {}) | {"seed": 1}}
        again.write_text(yaml.safe_dump(config))
    points, gains = of(section(tmp_path), Table)
    assert [row[2].value for row in points.rows] == [2] * 4
    assert width(gains.rows[0]) >= width(one) > 1  # points, of 160 clips


def test_no_point_of_the_drawing_is_cut_off(tmp_path, monkeypatch):
    """Both drawings share an axis, whose end was that of the first."""
    limits, drawn = [], learning_curve.svg_figure

    def look(title, caption, picture, unique):
        limits.extend(axes.get_ylim() for axes in picture.axes)
        return drawn(title, caption, picture, unique=unique)

    monkeypatch.setattr(learning_curve, "svg_figure", look)
    write_curve(tmp_path)
    ends = [float(text) for row in of(section(tmp_path), Table)[0].rows for cell in row[3:] if cell
            for text in re.findall(r"[0-9.]+(?=\])", cell.text)]  # fmt: skip
    assert len(limits) == 2 and all(low == 0 and high >= max(ends) for low, high in limits)


def test_two_points_are_too_few_for_a_forecast(tmp_path):
    write_curve(tmp_path, {0.5: 0.5, 1.0: 0.7})
    found = section(tmp_path)
    assert len(of(found, Table)) == 1 and "Dotted" not in of(found, Figure)[0].caption
    assert any("takes a fit through 3" in block for block in found.blocks if isinstance(block, str))


def test_each_recipe_has_its_curve(tmp_path):
    write_curve(tmp_path / "a", seeds=(1,), loss="a")
    write_curve(tmp_path / "b", seeds=(1,), loss="b")
    titles = [figure.title for figure in of(section(tmp_path), Figure)]
    assert titles == ["Learning curve of a", "Learning curve of b"]


def test_a_run_from_before_the_setting_is_the_whole_split(tmp_path):
    write_curve(tmp_path, {0.25: 0.4, 0.5: 0.55}, seeds=(1,))
    write_run(tmp_path / "9_old", 0.7, 1, data_seed=1)
    points = of(section(tmp_path), Table)[0]
    assert len(points.rows) == 3
