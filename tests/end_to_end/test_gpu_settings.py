"""The settings for a GPU, on the way that they take through the code, in so far as a CPU can go it."""

import shutil

import pytest
import torch
from tiny_runs import metrics_of, on_folder


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_run_ends_as_one_that_is_not(birdclf, recordings, tmp_path, backend):
    if backend == "inductor" and not shutil.which("g++"):
        pytest.skip("inductor needs a C++ compiler, g++")
    for name, more in (("as_is", ()), ("compiled", ("trainer=gpu", f"trainer.compile={backend}"))):
        done = birdclf(*on_folder(recordings, tmp_path / name, *more), cwd=tmp_path)
        assert done.status == 0, done.err
    ours, theirs = (metrics_of(tmp_path / name) for name in ("compiled", "as_is"))
    assert ours["val"]["nll"] == pytest.approx(theirs["val"]["nll"], rel=1e-3)
    weights = [
        torch.load(tmp_path / name / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for name in ("compiled", "as_is")
    ]
    assert list(weights[0]) == list(weights[1])
    assert birdclf("evaluate", tmp_path / "compiled", cwd=tmp_path).status == 0


def test_without_a_gpu_it_is_refused_with_a_sentence(birdclf, recordings, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    refused = birdclf(*on_folder(recordings, tmp_path / "run", "trainer=gpu", "trainer.accelerator=gpu"), cwd=tmp_path)
    assert "The trainer refuses its settings" in refused.mistake and "gpu" in refused.mistake
    assert not (tmp_path / "run" / "split.csv").exists()
