"""Ways to run the command line, and recordings small enough to do it often."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hydra.core.global_hydra import GlobalHydra
from matplotlib.backends.backend_agg import FigureCanvasAgg

from birdclf.metrics import plots

REPO = Path(__file__).resolve().parents[1]
SPECIES = {"Alauda arvensis": 10, "Bubo bubo": 8, "Corvus corax": 7, "Turdus merula": 6}
RATES_HZ = (16_000, 22_050, 32_000)

# One small epoch: what a run needs to be quick and still whole.
TINY = (
    "model=audio_cnn_v2",
    "model.width=0.03",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "callbacks.progress=null",
    "+trainer.enable_progress_bar=false",
    "store.workers=0",
)

HYDRA_SAYS = "Error executing job with overrides:"


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit status, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line that a user's mistake is answered with.

        Hydra's own line before it is passed over here; a test of its own asks whether it is there.
        """
        assert self.status != 0, f"the command succeeded:\n{self.out}"
        assert "Traceback" not in self.err + self.out, self.err + self.out
        lines = [line for line in self.err.splitlines() if line.strip() and not line.startswith(HYDRA_SAYS)]
        assert len(lines) == 1, f"expected one line on stderr, got:\n{self.err}"
        assert lines[0].startswith("birdclf: "), lines[0]
        return lines[0].removeprefix("birdclf: ")


Command = Callable[..., Outcome]

DRAW = FigureCanvasAgg.draw


def leave_blank(canvas: FigureCanvasAgg) -> None:
    """Take the place of ``draw``: the picture has its size and nothing on it."""
    canvas.renderer = canvas.get_renderer()
    if "draw" in vars(canvas.figure):  # of a file that is written, only the renderer is asked for
        canvas.figure.draw(canvas.renderer)


@contextmanager
def pictures(drawn: bool) -> Iterator[None]:
    """Draw figures, or leave them blank: drawing takes as long as the rest of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "draw", DRAW if drawn else leave_blank)
        plots._confusion_labels.cache_clear()
        yield
    plots._confusion_labels.cache_clear()


def run_here(*words: object, cwd: Path) -> Outcome:
    """Run ``birdclf WORDS`` in this process, which saves the seconds that importing torch takes."""
    from birdclf.cli import main

    out, err, status = StringIO(), StringIO(), 0
    argv, path, before = sys.argv, sys.path[:], Path.cwd()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    os.chdir(cwd)
    GlobalHydra.instance().clear()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main([str(word) for word in words])
            except SystemExit as leaving:
                if isinstance(leaving.code, str):
                    err.write(leaving.code + "\n")
                    status = 1
                else:
                    status = leaving.code or 0
    finally:
        GlobalHydra.instance().clear()
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.argv, sys.path[:] = argv, path
        os.chdir(before)
    return Outcome(status, out.getvalue(), err.getvalue())


def run_apart(*words: object, cwd: Path, env: dict[str, str] | None = None) -> Outcome:
    """Run ``python WORDS`` in a process of its own, as a user's shell does."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def sing(kind: int, rng: np.random.Generator, seconds: float, rate_hz: int) -> np.ndarray:
    """Return one recording: a species' own chirp, over noise, with a pitch of its own."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch_hz = 900.0 * (kind + 1) * rng.uniform(0.95, 1.05)
    sweep_hz = (0.0, 300.0, -200.0, 600.0)[kind % 4]
    gate = np.sin(2 * np.pi * (2 + kind) * t) > -0.3
    song = 0.4 * np.sin(2 * np.pi * (pitch_hz * t + sweep_hz * np.sin(2 * np.pi * 3 * t) / 18)) * gate
    return (song + 0.02 * rng.standard_normal(len(t))).astype(np.float32)


def write_recordings(root: Path, species: dict[str, int], seed: int = 7, seconds: tuple[float, float] = (1, 6)) -> Path:
    """Write ``root/<species>/<number>.wav`` and return the root."""
    rng = np.random.default_rng(seed)
    for kind, (name, count) in enumerate(species.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            rate_hz = RATES_HZ[i % len(RATES_HZ)]
            soundfile.write(root / name / f"{i:02d}.wav", sing(kind, rng, rng.uniform(*seconds), rate_hz), rate_hz)
    return root


def on_folder(recordings: Path, run: Path | str, *more: str) -> list[str]:
    """Return the words of a tiny training on a folder of recordings."""
    return ["train", "data=folder", f"data.root={recordings}", *TINY, f"hydra.run.dir={run}", *more]


def metrics_of(run: Path) -> dict[str, Any]:
    """Return a run's ``metrics.json``."""
    return json.loads((run / "metrics.json").read_text())
