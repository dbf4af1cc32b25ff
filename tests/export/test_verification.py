"""A file is held to the checkpoint: what differs is found, and too much of it is refused."""

import numpy as np
import pytest

from birdclf.errors import UserError
from birdclf.export.verification import SoundWindow, batches, compare


def sounds(count: int) -> list[SoundWindow]:
    return [SoundWindow(f"r{i // 2}", np.full(8, i + 1, np.float32)) for i in range(count)]


def answers(shift: float = 0.0, alone: float = 0.0, embedding: float = 0.0):
    def of(windows: np.ndarray):
        level = windows.mean(axis=1, keepdims=True) / 100
        p = np.concatenate([level, 1 - level], axis=1) + shift + (alone if len(windows) == 1 else 0)
        return p.astype(np.float32), (level * 100 + embedding).astype(np.float32)

    return of


def test_what_is_equal_agrees():
    found = compare(answers(), answers(), sounds(37))
    found.check("onnx")
    assert (found.recordings, found.windows) == (19, 37)
    assert found.probability == found.embedding == found.alone == 0


@pytest.mark.parametrize(
    ("exported", "said"),
    [
        (answers(shift=2e-4), "probabilities differ from the checkpoint's by 2.0e-04"),
        (answers(shift=np.nan), "probabilities differ from the checkpoint's by nan"),
        (answers(alone=2e-4), "between a batch of one and a larger one"),
        (answers(embedding=1.0), "embeddings differ"),
    ],
)
@pytest.mark.parametrize("count", [1, 17])
def test_what_differs_is_refused(exported, said: str, count: int):
    if said.startswith("embeddings") and count == 17:
        exported = answers(embedding=0.1)
    with pytest.raises(UserError, match=f"onnx file is not written: .*{said}"):
        compare(answers(), exported, sounds(count)).check("onnx")


def test_a_small_difference_is_reported_and_passes():
    found = compare(answers(), answers(shift=5e-5), sounds(3))
    found.check("onnx")
    assert found.probability == pytest.approx(5e-5, rel=0.01) and "5.0e-05" in str(found)


def test_no_window_proves_nothing():
    with pytest.raises(UserError):
        compare(answers(), answers(), []).check("onnx")


def test_batches_reach_across_recordings():
    assert [len(batch) for batch in batches(sounds(37))] == [16, 16, 5]
