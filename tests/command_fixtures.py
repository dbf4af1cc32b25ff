"""What tests of whole commands share: a folder of tiny recordings and ways to run the command line."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import torch
from tiny_runs import SPECIES, Command, pictures, run_apart, run_here, write_recordings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SCHEMES = ("light", "dark")
WIDTHS = {"desk": 1200, "phone": 420}
FAST = (("light", "desk"), ("dark", "phone"))
VIEWS = [
    pytest.param(scheme, WIDTHS[name], id=f"{scheme}-{name}", marks=[] if (scheme, name) in FAST else pytest.mark.slow)
    for scheme in SCHEMES
    for name in WIDTHS
]
"""Each scheme and each width once in the fast suite, all pairs in the slow one."""


@pytest.fixture(scope="session")
def birdclf() -> Command:
    """``birdclf(*words, cwd=...)`` in this process."""
    return run_here


@pytest.fixture(scope="session")
def python() -> Command:
    """``python(*words, cwd=..., env=...)`` in another process."""
    return run_apart


@pytest.fixture(scope="module", autouse=True)
def quick_and_wide() -> Iterator[None]:
    """Give torch one thread, for networks this small lose by sharing work, tables a wide terminal, no ink to figures.

    What draws them is tested by itself, and with ``pictures(drawn=True)`` where a command writes them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, pictures(drawn=False):
        patch.setenv("COLUMNS", "200")
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A headless browser; a test without one is skipped. It is closed soon, for its loop stops others of asyncio."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome", playwright.chromium.executable_path)
        found = next((path for name in names if (path := shutil.which(name))), None)
        if found is None:
            pytest.skip("no chromium or chrome on the PATH: install it, or run: playwright install chromium")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four species, 31 recordings of 1 to 6 s, a folder a species. Tests only read it."""
    return write_recordings(tmp_path_factory.mktemp("field") / "recordings", SPECIES)


@pytest.fixture(scope="session")
def manifest(recordings: Path) -> Path:
    """A CSV manifest of the same recordings with groups and a split. Tests only read it."""
    rows = []
    for path in sorted(recordings.rglob("*.wav")):
        number = int(path.stem)
        stage = ("val", "test", "train", "train", "train")[number % 5]
        rows.append(
            {
                "path": path.relative_to(recordings.parent).as_posix(),
                "species": path.parent.name,
                "group": f"observer {number % 3}",
                "split": stage,
            }
        )
    file = recordings.parent / "manifest.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    return file


@pytest.fixture
def own_recordings(tmp_path: Path) -> Path:
    """A folder of three species, 12 recordings, that a test may add to or spoil."""
    return write_recordings(tmp_path / "own", {"Apus apus": 4, "Pica pica": 4, "Sitta europaea": 4}, 3, (0.5, 2))
