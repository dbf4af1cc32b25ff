import subprocess
import sys
import time
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
import yaml

from birdclf.audio.aviary.naming import RecordingName
from birdclf.audio.resampling import read_waveform
from birdclf.data.catalog import Selection
from birdclf.data.sources.synthetic import synthetic_catalog
from birdclf.errors import UserError


@pytest.fixture(scope="module")
def counts() -> pd.Series:
    with (files("birdclf.data.sources") / "species_counts.csv").open() as file:
        return pd.read_csv(file).set_index("species").recordings


def test_full_scale_has_exactly_the_shipped_counts(counts: pd.Series) -> None:
    catalog = synthetic_catalog()
    assert len(catalog) == 11_076 == counts.sum()
    assert len(catalog.classes) == 90
    assert catalog.class_counts.to_dict() == counts.to_dict()
    assert (catalog.class_counts == 1).sum() == 1


@pytest.mark.parametrize(("scale", "least"), [(0.02, 4), (0.2, 4), (0.2, 1), (0.01, 10), (2.0, 4)])
def test_scaled_counts(counts: pd.Series, scale: float, least: int) -> None:
    got = synthetic_catalog(scale=scale, min_per_species=least).class_counts
    for species, n in counts.items():
        assert got[species] == max(round(scale * n), min(n, least))


def test_a_smaller_scale_is_nested_in_a_larger_one() -> None:
    tables = [synthetic_catalog(scale=s).table for s in (0.05, 0.2, 1.0, 1.5)]
    for small, large in zip(tables, tables[1:], strict=False):
        merged = small.merge(large, on=list(small.columns))
        assert len(merged) == len(small) < len(large)


def test_columns_say_what_the_sound_is() -> None:
    catalog = synthetic_catalog(scale=0.05)
    table = catalog.table
    assert (table.sample_rate_hz == 32_000).all() and (table.path == "").all()
    assert table.group.str.fullmatch(r"r\d{4}").all()
    for row in table.sample(8, random_state=1).itertuples():
        name = RecordingName.parse(row.recording_id)
        assert name.species == row.species.replace(" ", "-") and name.recordist == row.group
        assert name.duration_s == row.duration_s
    sound = read_waveform(catalog.reader, catalog.clips()[0], 32_000)
    assert len(sound) == round(table.duration_s[0] * 32_000)


def test_recordists_are_skewed_and_record_several_species() -> None:
    table = synthetic_catalog().table
    sizes = table.group.value_counts()
    assert len(sizes) > 200
    assert sizes.iloc[:10].sum() > 0.2 * len(table)
    assert sizes.iloc[0] < 0.1 * len(table)
    assert table.groupby("group").species.nunique().median() >= 3


def test_the_same_everywhere(counts: pd.Series) -> None:
    code = "from birdclf.data.sources.synthetic import synthetic_catalog as s; print(s(scale=0.1).content_hash)"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fresh.stdout.strip() == synthetic_catalog(scale=0.1).content_hash
    assert synthetic_catalog(scale=0.1, snr_db=(0, 1)).content_hash != fresh.stdout.strip()


def test_fast() -> None:
    synthetic_catalog(scale=0.01)
    start = time.process_time()
    synthetic_catalog()
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("n", [2, 10, 45, 89, 90])
def test_fewer_species_keep_head_and_tail(counts: pd.Series, n: int) -> None:
    got = synthetic_catalog(num_species=n).class_counts
    assert len(got) == n
    assert got.max() == counts.max()
    assert got.min() <= counts.median()
    if n >= 10:
        assert got.min() <= 10 and got.median() <= 1.3 * counts.median()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"scale": 0}, "data.scale is 0; it must be a number above 0, and at most 10"),
        ({"scale": -1.0}, "data.scale is -1.0"),
        ({"scale": 11}, "data.scale is 11"),
        ({"scale": float("nan")}, "data.scale is nan"),
        ({"scale": "big"}, "data.scale is 'big'"),
        ({"min_per_species": 0}, "data.min_per_species is 0; it must be a whole number from 1"),
        ({"min_per_species": 1.5}, "data.min_per_species is 1.5"),
        ({"num_species": 1}, "data.num_species is 1; it must be a whole number from 2 to 90"),
        ({"num_species": 91}, "data.num_species is 91"),
        ({"snr_db": [5, 0]}, r"snr_db is \[5, 0\]"),
    ],
)
def test_bad_settings_are_refused(setting: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        synthetic_catalog(**setting)


def test_the_config_states_every_argument_and_builds(request: pytest.FixtureRequest) -> None:
    import inspect

    from hydra.utils import instantiate

    config = yaml.safe_load((request.config.rootpath / "conf/data/synthetic.yaml").read_text())
    defaults = {k: p.default for k, p in inspect.signature(synthetic_catalog).parameters.items()}
    assert set(config) == {"_target_", *defaults, *Selection.__annotations__} - {"selection"}
    assert config["scale"] == 0.1
    assert tuple(config["snr_db"]) == tuple(defaults["snr_db"])
    catalog = instantiate(config)
    assert len(catalog.classes) == 90
    assert np.isfinite(catalog.table.duration_s).all()
