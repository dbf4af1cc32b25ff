"""Wrong values of any setting end in one sentence that names it, or work: a sample of the walk over all of them."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "checks" / "settings_walk.py"
PARTS = 80


@pytest.fixture(scope="module")
def checked():
    spec = importlib.util.spec_from_file_location("settings_walk", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_walk_finds_the_settings(checked):
    keys = [key for _, key in checked.settings()]
    assert len(keys) == len(set(keys)) > 112
    assert {
        "seed",
        "loader.num_workers",
        "loss.gamma",
        "callbacks.checkpoint.save_top_k",
        "augment.mixup.alpha",
    } <= set(keys)


@pytest.mark.slow
@pytest.mark.parametrize("part", [5, 42])
def test_no_value_of_a_sample_ends_in_a_stack_trace(part, checked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    failed = checked.walk(tmp_path, part, PARTS, [])
    said = capsys.readouterr().out
    assert failed == 0 and "NOT WALKED" not in said and len(said.splitlines()) > 10, said
