"""Fixed cost of a job: from the end of one job's training to the first step of the next, in one process.

    python benchmarks/jobs.py FOLDER [OVERRIDE ...]

Runs a sweep of seeds on the synthetic source at full size (11,075 recordings of 89 species, 1,662 of them test), with
windows of a tenth of a second and a tiny network, so that training and predicting cost next to nothing. The features
are made up. Writes FOLDER/changes.json: a row for each change of jobs but the first, which imports and fills caches.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

JOBS = 5
WINDOW_S, MOST_FRAMES = 0.1, 30
SETTINGS = (
    "data.scale=1.0", f"features.window_s={WINDOW_S}", "model=audio_cnn", "model.width=0.05", "trainer.max_epochs=1",
    "trainer.accelerator=cpu", "trainer.precision=32-true",
)  # fmt: skip
SIDES: dict[str, tuple[str, ...]] = {"defaults": (), "no figures": ("logger=none", "pictures=false")}
STARTING = "start of the training"
STAGES = {
    "checking the settings": ("birdclf.training.train", "check_settings"),
    "catalog": ("birdclf.training.train", "build_data"),
    "store, split, normalisation": ("birdclf.data.module", "RecordingDataModule.prepare"),
    "split, leaks and audit as files": ("birdclf.training.train", "write_beginning"),
    "predicting": ("birdclf.training.train", "predict"),
    "calibration": ("birdclf.training.train", "fit_calibration"),
    "figures with intervals": ("birdclf.runs.results", "Calibration.metrics"),
    "tables and pictures": ("birdclf.training.results", "write_tables"),
    "projector": ("birdclf.training.loggers", "Loggers.project"),
}
"""What is measured apart: a function or method by its module and name there."""

Figures = dict[str, Any]


class Changes:
    """Notes the time from a job's last epoch to the next one's first step, and the CPU time of its stages."""

    def __init__(self) -> None:
        self.rows: list[Figures] = []
        self.stages: dict[str, float] | None = None
        self.began = self.fit_began = (0.0, 0.0)

    def end(self) -> None:
        """Begin a change: a job's epoch is over."""
        self.stages, self.began = dict.fromkeys([*STAGES, STARTING], 0.0), _now()

    def begin(self) -> None:
        """End a change: a job takes its first step."""
        if self.stages is None:
            return
        wall, cpu = _now()
        self.stages[STARTING] = cpu - self.fit_began[1]
        self.rows.append({"wall_s": wall - self.began[0], "cpu_s": cpu - self.began[1], "stages": self.stages})
        self.stages = None

    def watch(self) -> None:
        """Take the time of the stages, and of the hooks of training, by functions around birdclf's."""
        from lightning.pytorch import Trainer

        from birdclf.training.module import SpeciesClassifier

        for name, (module, path) in STAGES.items():
            *owners, last = path.split(".")
            owner: Any = import_module(module)
            for part in owners:
                owner = getattr(owner, part)
            setattr(owner, last, self._timed(name, getattr(owner, last)))
        epoch_end, batch_start = SpeciesClassifier.on_train_epoch_end, SpeciesClassifier.on_train_batch_start
        fit = Trainer.fit

        def ended(module: SpeciesClassifier) -> None:
            epoch_end(module)
            self.end()

        def started(trainer: Trainer, *args: Any, **kwargs: Any) -> None:
            self.fit_began = _now()
            fit(trainer, *args, **kwargs)

        def stepped(module: SpeciesClassifier, *args: Any) -> None:
            self.begin()
            batch_start(module, *args)

        for owner, hook, run in (
            (SpeciesClassifier, "on_train_epoch_end", ended),
            (SpeciesClassifier, "on_train_batch_start", stepped),
            (Trainer, "fit", started),
        ):
            setattr(owner, hook, run)

    def _timed(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            result = run(*args, **kwargs)
            if self.stages is not None:
                self.stages[name] += time.process_time() - began
            return result

        return timed


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def write_store(root: Path) -> None:
    """Write a made-up store of the synthetic source where the command looks for it."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.utils import instantiate

    from birdclf.config import conf_dir
    from birdclf.store.extraction import Extraction
    from birdclf.store.plan import StorePlan

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[*SETTINGS, "run_dir=."])
    catalog, features = instantiate(cfg.data), instantiate(cfg.features)
    plan = StorePlan(catalog, Extraction(catalog.reader, instantiate(cfg.audio), features), root)
    rng = np.random.default_rng(1)
    frames = rng.integers(features.frames, MOST_FRAMES, len(catalog), endpoint=True)
    plan.building.mkdir(parents=True)
    (plan.building / "journal.jsonl").touch()
    for name, width in (("frames.f16", features.n_bands), ("level.f16", 1)):
        rng.standard_normal((int(frames.sum()), width), dtype=np.float32).astype(np.float16).tofile(
            plan.building / name
        )
    measured = {
        "native_rate_hz": 32_000, "channels": 1, "peak": 0.5, "rms": 0.1, "dc": 0.0,
        "clipped_share": 0.0, "silent_share": 0.0, "mix_loss_db": 0.0, "top_hz": 15_000.0, "goes_on": "", "error": "",
        "reason": "",
    }  # fmt: skip
    rows = [
        {
            "recording_id": name,
            "frames": int(n),
            "duration_s": seconds,
            "header_duration_s": seconds,
            "audio_hash": f"{i:032x}",
            **measured,
        }
        for i, (name, n, seconds) in enumerate(
            zip(catalog.table.recording_id, frames, catalog.table.duration_s, strict=True)
        )
    ]
    plan.finish(rows)


def fixed_cost(folder: Path) -> Figures:
    """Return the median time of a change of jobs, and of its stages, with the defaults and without TensorBoard."""
    found = {}
    for side, overrides in SIDES.items():
        place = folder / side
        place.mkdir()
        command = [sys.executable, __file__, str(place), *overrides]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{__file__} {side}: exit status {done.returncode}\n{done.stderr}")
        rows = json.loads((place / "changes.json").read_text())
        stages = {name: median(row["stages"][name] for row in rows) for name in rows[0]["stages"]}
        found[side] = {name: median(row[name] for row in rows) for name in ("wall_s", "cpu_s")} | {"stages": stages}
    return found


def main() -> None:
    from birdclf import cli

    folder, overrides = Path(sys.argv[1]).resolve(), sys.argv[2:]
    write_store(folder / "store")
    changes = Changes()
    changes.watch()
    seeds = ",".join(map(str, range(1, JOBS + 1)))
    words = ["train", "-m", f"seed={seeds}", *SETTINGS, f"store.dir={folder / 'store'}", *overrides]
    cli.main([*words, f"hydra.sweep.dir={folder / 'sweep'}"])
    (folder / "changes.json").write_text(json.dumps(changes.rows[1:], indent=1))


if __name__ == "__main__":
    main()
