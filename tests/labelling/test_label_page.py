"""The page on which clips are labelled."""

import json
import re
from pathlib import Path

import pytest
import soundfile
from detection.made_up import CLASSES, RATE_HZ, tones

from birdclf.audio.mixing import Mix
from birdclf.detection.inputs import Recording
from birdclf.labelling.clips import Suggestion, page


@pytest.fixture
def suggestions(tmp_path: Path) -> list[Suggestion]:
    """Five clips of one recording."""
    file = tmp_path / "a.wav"
    soundfile.write(file, tones(500, 1_250, 2_750, 500, 1_250), RATE_HZ)
    guesses = (("crane", 0.5), ("</script><b>", 0.3), ("wood lark", 0.2))
    recording = Recording(str(file), "a.wav", str(file))
    return [Suggestion(n + 1, recording, float(n), n + 1.0, guesses, 0.9) for n in range(5)]


def counts(text: str) -> tuple[int, int]:
    return text.count('<img src="data:image/png'), text.count('src="data:audio/wav')


def test_past_the_limit_sounds_are_left_out_and_then_pictures(suggestions):
    whole = page(suggestions, CLASSES, Mix())
    assert counts(whole) == (5, 5) and "left out" not in whole
    for most in (150_000, 60_000, 0):
        text = page(suggestions, CLASSES, Mix(), most)
        pictures, sounds = counts(text)
        assert sounds < 5 and sounds <= pictures
        assert text.count("The sound is left out to keep the page small") == 5 - sounds
        assert len(text) < most + 40_000
    assert counts(page(suggestions, CLASSES, Mix(), 0)) == (0, 0)


def test_a_recording_that_is_gone_has_a_card_that_says_so(suggestions):
    Path(suggestions[0].recording.file).unlink()
    text = page(suggestions, CLASSES, Mix())
    assert counts(text) == (0, 0) and text.count("The recording cannot be decoded (no such file)") == 5


def test_what_a_name_holds_ends_no_script(suggestions):
    text = page(suggestions, ("</script><b>", '"><img src=x>'), Mix())
    assert "<b>" not in text and "<img src=x" not in text and text.count("</script>") == 2
    (data,) = re.findall(r'<script type="application/json" id="clips">(.*?)</script>', text)
    assert json.loads(data)["guesses"][0][1] == "</script><b>"


def test_no_clip_is_a_page(suggestions):
    assert "0 clips of 0 recordings" in page([], CLASSES, Mix())
