import numpy as np
import pytest

from birdclf.report.sections.gallery import _over_middle

KNOWN = np.linspace(0.1, 1, 500, dtype=np.float32)  # 5 s


def test_a_picture_of_the_window_itself_changes_nothing():
    np.testing.assert_allclose(_over_middle(KNOWN, 0.01, 5.0), KNOWN, atol=1e-6)


@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_a_picture_shorter_than_the_window_shows_its_middle(seconds):
    cut = round((5 - seconds) / 2 * 100)
    np.testing.assert_allclose(_over_middle(KNOWN, 0.01, seconds), KNOWN[cut:-cut], atol=1e-6)


def test_a_picture_longer_than_the_window_is_dark_outside():
    over = _over_middle(KNOWN, 0.01, 10.0)
    assert over.shape == (1000,)
    np.testing.assert_allclose(over[250:750], KNOWN, atol=1e-6)
    assert (over[:249] == 0).all() and (over[751:] == 0).all()


def test_a_recording_that_is_no_whole_number_of_frames_is_bright_to_its_end():
    assert (_over_middle(KNOWN[:123], 0.01, 1.2387) > 0).all()
