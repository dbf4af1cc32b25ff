"""A run on each kind of features: trained, evaluated to the same figures, and reported with its moments."""

from pathlib import Path

import pytest
from tiny_runs import Command, on_folder


@pytest.mark.parametrize(
    "words",
    [
        ("features=log_mel", "features.n_mels=64", "model=audio_cnn"),
        ("features=log_mel_delta",),
        ("features=pcen",),
        ("features.channels=[delta2]", "model=audio_cnn"),
    ],
    ids=" ".join,
)
@pytest.mark.slow
def test_a_run_is_evaluated_and_reported(words: tuple[str, ...], birdclf: Command, recordings: Path, tmp_path: Path):
    done = birdclf(*on_folder(recordings, "run", *words), cwd=tmp_path)
    assert done.status == 0, done.err
    done = birdclf("evaluate", "run", cwd=tmp_path)
    assert done.status == 0 and done.out.rstrip().endswith("equal to metrics.json"), done.out + done.err
    done = birdclf("report", "run", "--out", "report", cwd=tmp_path)
    assert done.status == 0, done.err
    page = (tmp_path / "report" / "report.html").read_text()
    assert "(Grad-CAM)" in page and page.count("data:image/png") > 1
