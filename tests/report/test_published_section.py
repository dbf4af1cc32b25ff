"""Published figures stand beside the study's data only where it is the study's, species for species."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from made_up_runs import configured, write_run

from birdclf.data.sources.synthetic import has_the_studys_counts, study_counts
from birdclf.report.sections.published import is_the_studys, published_section
from birdclf.runs.run import Run

STUDY = [(species, n) for species, n in study_counts() if n > 1]
XENO_CANTO = {"_target_": "birdclf.data.sources.xeno_canto.xeno_canto_catalog", "root": "somewhere"}


def changed(run: Run, **parts) -> Run:
    """Return a run of which parts are read as something else."""
    other = copy.copy(run)
    vars(other).update(parts)
    return other


@pytest.fixture
def run(tmp_path):
    """A run of the study's species and numbers, from Xeno-canto, where the names are written another way."""
    classes = tuple(species.title().replace("Red Winged", "Red-winged") for species, _ in STUDY)
    made = Run(write_run(tmp_path / "run", data=XENO_CANTO))
    return changed(made, classes=classes, counts=np.array([n for _, n in STUDY]))


def test_the_study_has_89_species_and_11_075_recordings():
    assert (len(STUDY), sum(n for _, n in STUDY)) == (89, 11_075)
    assert has_the_studys_counts(STUDY[::-1]) and not has_the_studys_counts(study_counts())


def test_species_and_numbers_and_source_of_the_study_are_the_studys(run):
    assert is_the_studys(run)


def test_the_same_totals_of_other_numbers_are_other_data(run):
    counts = run.counts.copy()
    counts[:2] += (-1, 1)
    assert counts.sum() == 11_075 and not is_the_studys(changed(run, counts=counts))


def test_the_same_numbers_of_other_species_are_other_data(run):
    assert not is_the_studys(changed(run, classes=("common blackbird", *run.classes[1:])))
    assert not is_the_studys(changed(run, classes=run.classes[1:], counts=run.counts[1:]))


def test_the_same_numbers_of_another_source_are_other_data(run):
    node = {"_target_": "birdclf.data.sources.synthetic.synthetic_catalog"}
    assert not is_the_studys(changed(run, config=run.config | {"data": node}))


def test_the_table_says_whose_data_it_is(run, tmp_path):
    write_run(tmp_path / "in" / "0_run", data=XENO_CANTO, reference={"test": {"accuracy": 0.395}})
    (found,), _ = configured(tmp_path / "in")
    (_, table) = published_section([found]).blocks
    assert [row[-1] for row in table.rows] == ["other data"]
    studys = changed(found.first, classes=run.classes, counts=run.counts)
    (_, table) = published_section([replace(found, runs={1: studys})]).blocks
    assert [row[-1] for row in table.rows] == ["the study's"]
