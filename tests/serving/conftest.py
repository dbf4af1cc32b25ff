"""Servers that end with the test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving.servers import Loudness, Served

from birdclf.serving.settings import Limits


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Return a maker of servers: ``serving(megabytes=..., minutes=..., wait_s=...)``."""
    made: list[Served] = []

    def make(folder: Path | None = None, megabytes: float = 5, minutes: float = 1, **classifier: Any) -> Served:
        made.append(Served(folder or tmp_path / "kept", Limits(megabytes, minutes), Loudness(**classifier)))
        return made[-1]

    yield make
    for one in made:
        one.session.stop()


@pytest.fixture
def served(serving: Callable[..., Served]) -> Served:
    """Return a server with the limits of :func:`serving`."""
    return serving()
