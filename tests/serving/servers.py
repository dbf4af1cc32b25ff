"""A page's server with a classifier by loudness: fast, with known results."""

import io
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from starlette.testclient import TestClient

from birdclf.audio.clip import Samples
from birdclf.audio.mixing import Mix
from birdclf.detection.classifier import InputSpec, Vectors
from birdclf.serving.app import application
from birdclf.serving.guard import Hosts
from birdclf.serving.session import KeptFolder, Session
from birdclf.serving.settings import Limits

CLASSES = ("Apus apus", "Pica pica", "Sitta europaea")
RATE_HZ = 8000


@dataclass
class Loudness:
    """Says the first class of loud windows, the second of quiet ones and the third of silence."""

    input_spec: InputSpec = field(default_factory=lambda: InputSpec(CLASSES, RATE_HZ, RATE_HZ, "silence", Mix()))
    source: Path = Path("runs/phase 2/checkpoints/best.ckpt")
    wait_s: float = 0.0
    broken: Exception | None = None

    def fingerprint(self) -> str:
        return "loudness"

    def __call__(self, windows: Samples) -> tuple[Vectors, Vectors]:
        time.sleep(self.wait_s)
        if self.broken is not None:
            raise self.broken
        level = np.abs(windows).max(axis=1)
        kind = np.digitize(-level, [-0.3, -0.01])
        return np.eye(3, dtype=np.float32)[kind] * 0.8 + 0.05, np.zeros((len(windows), 1), np.float32)


class Served:
    """A server and a way to ask it, as the page does."""

    def __init__(self, folder: Path, limits: Limits, classifier: Loudness) -> None:
        self.folder, self.classifier = folder, classifier
        self.session = Session(classifier, KeptFolder(folder), limits)
        self.client = TestClient(
            application(self.session, Hosts("127.0.0.1")), "http://127.0.0.1:7860", raise_server_exceptions=False
        )

    def upload(self, content: bytes, name: str = "song.wav", **settings: object) -> Any:
        words = {"name": name, **{key: str(value) for key, value in settings.items()}}
        return self.client.post("/recordings", params=words, content=content)

    def heard(self, content: bytes, name: str = "song.wav", **settings: object) -> dict[str, Any]:
        """Upload a recording and return what the page is told of it once it was heard, or not."""
        answer = self.upload(content, name, **settings)
        assert answer.status_code == 201, answer.text
        return self.ended(answer.json()["id"])

    def ended(self, known: str) -> dict[str, Any]:
        for _ in range(500):
            told: dict[str, Any] = self.client.get(f"/recordings/{known}").json()
            if told["state"] in ("done", "failed"):
                return told
            time.sleep(0.02)
        raise AssertionError(f"never heard: {told}")

    def save(self, told: dict[str, Any], *verdicts: tuple[int, str, str]) -> Any:
        rows = [{"row": row, "verdict": verdict, "species": species} for row, verdict, species in verdicts]
        return self.client.post(
            f"/recordings/{told['id']}/corrections", json={"version": told["version"], "rows": rows}
        )

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "recordings").iterdir())


def sound(seconds: tuple[float, ...] = (2, 2), levels: tuple[float, ...] = (0.9, 0.1), **options: Any) -> bytes:
    """Return a WAV of noise whose level changes, or whatever ``format`` says."""
    rate = options.pop("rate", RATE_HZ)
    rng = np.random.default_rng(0)
    parts = [level * rng.uniform(-1, 1, round(s * rate)) for s, level in zip(seconds, levels, strict=True)]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(parts), rate, **({"format": "WAV"} | options))
    return file.getvalue()
