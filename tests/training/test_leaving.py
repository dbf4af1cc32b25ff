"""A training that is stopped leaves with the status that whoever stopped it waits for."""

import numpy as np
import pytest

from birdclf.data.dataset import Part
from birdclf.training.train import INTERRUPTED, fit


class Stopped:
    """A trainer that leaves with a status."""

    def __init__(self, status: int) -> None:
        self.status = status

    def fit(self, *arguments: object, **named: object) -> None:
        raise SystemExit(self.status)


class Data:
    """Two recordings of validation."""

    part = Part()

    def support(self, stage: str) -> np.ndarray:
        return np.array([1, 1])


def test_ctrl_c_is_passed_on_as_such():
    with pytest.raises(KeyboardInterrupt):
        fit(Stopped(INTERRUPTED), None, Data(), None)


def test_the_status_of_a_queue_that_takes_a_job_back_is_kept():
    with pytest.raises(SystemExit) as leaving:
        fit(Stopped(-1), None, Data(), None)
    assert leaving.value.code == -1
