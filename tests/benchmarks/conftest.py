"""The programs of benchmarks/, which import each other by their bare names."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that imports one of them."""
    if not BENCHMARKS.is_dir():
        pytest.skip("an installed package has no benchmarks")
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module
