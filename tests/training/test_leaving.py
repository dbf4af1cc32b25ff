"""A training that is stopped leaves with the status that whoever stopped it waits for."""

from pathlib import Path

import numpy as np
import pytest

from birdclf.data.dataset import Part
from birdclf.training.train import INTERRUPTED, fit


class Stopped:
    """A trainer that leaves with a status."""

    def __init__(self, status: int, folder: Path) -> None:
        self.status, self.default_root_dir = status, str(folder)

    def fit(self, *arguments: object, **named: object) -> None:
        raise SystemExit(self.status)


class Data:
    """Two recordings of validation."""

    part = Part()

    def support(self, stage: str) -> np.ndarray:
        return np.array([1, 1])


def test_ctrl_c_is_passed_on_as_such(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO"), pytest.raises(KeyboardInterrupt):
        fit(Stopped(INTERRUPTED, tmp_path), None, Data(), None)
    assert "begins again, since no snapshot had been written" in caplog.text


def test_the_status_of_a_queue_that_takes_a_job_back_is_kept(tmp_path: Path):
    with pytest.raises(SystemExit) as leaving:
        fit(Stopped(-1, tmp_path), None, Data(), None)
    assert leaving.value.code == -1
