"""A small Xeno-canto on 127.0.0.1, with the faults of the real network, and a folder as fetch leaves it."""

import csv
import io
import json
import threading
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import soundfile

from birdclf.random import stream

KEY = "k3y-0f-a-t3st+er/1234567890"
BIRDS = (("Turdus", "merula", "Common Blackbird"), ("Turdus", "philomelos", "Song Thrush"), ("Strix", "aluco", ""))
Fault = Callable[["Handler"], None]


def sound_bytes(number: int, hz: float = 2000.0, seconds: float = 1.0, rate: int = 32_000, kind: str = "MP3") -> bytes:
    """Return a sound file: a tone over noise drawn from the number."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.4 * np.sin(2 * np.pi * hz * t) + 0.02 * stream("xeno-canto", str(number)).standard_normal(len(t))
    file = io.BytesIO()
    soundfile.write(file, wave.astype(np.float32), rate, format=kind)
    return file.getvalue()


def described(number: int, bird: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a recording as the interface describes it."""
    gen, sp, en = BIRDS[bird]
    return {
        "id": str(number),
        "gen": gen,
        "sp": sp,
        "ssp": "",
        "grp": "birds",
        "en": en,
        "rec": f"Zoë O'Hara, {'ABC'[number % 3]}",
        "cnt": "Côte d'Ivoire",
        "loc": "Forêt,\nwest",
        "lat": "6.1",
        "lon": "-5.2",
        "alt": "120",
        "type": "song",
        "sex": "male",
        "stage": "",
        "method": "field recording",
        "url": f"//xeno-canto.org/{number}",
        "file": f"//{{host}}/{number}/download",
        "file-name": f"XC{number}-{en}.mp3",
        "lic": "//creativecommons.org/licenses/by-nc-sa/4.0/",
        "q": "A",
        "length": "0:01",
        "time": "05:45",
        "date": "2021-05-03",
        "also": ["Parus major", "Pica pica"],
        "rmk": "",
        **changes,
    }


class Handler(BaseHTTPRequestHandler):
    """Answers as the archive does, after the faults that are due."""

    server: "FakeXenoCanto"
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        self.server.asked.append(place.path)
        self.server.raw.append(self.path + str(self.headers))
        self.server.times.append(self.server.clock())
        faults = self.server.faults[place.path]
        if faults:
            faults.pop(0)(self)
        elif place.path == "/api/3/recordings":
            self.page({name: values[0] for name, values in parse_qs(place.query).items()})
        elif (number := place.path.strip("/").partition("/")[0]) in self.server.bodies:
            self.reply(200, self.server.bodies[number], {"Content-Type": "audio/mpeg"})
        else:
            self.reply(404, b"not here")

    def page(self, asked: dict[str, str]) -> None:
        if asked.get("key") != KEY:
            said = f"Missing or invalid 'key' parameter: {asked.get('key')}"
            self.reply(401, json.dumps({"error": "client_error", "message": said}).encode())
            return
        assert 50 <= int(asked["per_page"]) <= 500
        self.server.queries.append(asked["query"])
        size, rows = self.server.page_size, self.server.recordings
        start = (int(asked["page"]) - 1) * size
        host = f"127.0.0.1:{self.server.server_port}"
        some = [{**row, "file": row["file"].replace("{host}", host)} for row in rows[start : start + size]]
        answer = {
            "numRecordings": str(len(rows)),
            "numSpecies": "3",
            "page": int(asked["page"]),
            "numPages": -(-len(rows) // size),
            "recordings": some,
        }
        self.reply(200, json.dumps(answer).encode())

    def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, short: int = 0) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - short])
        self.close_connection = self.close_connection or bool(short)


class FakeXenoCanto(ThreadingHTTPServer):
    """The archive: set ``recordings``, ``bodies`` by id and ``faults`` by path, then ask it at ``url``."""

    daemon_threads = True

    def __init__(self, count: int = 0, page_size: int = 2) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.page_size = page_size
        self.recordings = [described(101 + i, i % 3) for i in range(count)]
        self.bodies = {row["id"]: sound_bytes(int(row["id"])) for row in self.recordings}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.clock: Callable[[], float] = lambda: 0.0
        self.asked: list[str] = []
        self.raw: list[str] = []
        self.queries: list[str] = []
        self.times: list[float] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "FakeXenoCanto":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Return the fault of an answer with a status; ``Retry_After="7"`` becomes a header."""
    return lambda handler: handler.reply(code, body, {name.replace("_", "-"): text for name, text in headers.items()})


def cut(handler: Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def short(handler: Handler) -> None:
    """Promise a whole body and send half of it."""
    body = handler.server.bodies[handler.path.strip("/").partition("/")[0]]
    handler.reply(200, body, short=len(body) // 2)


def write_fetched(root: Path, recordings: int = 12, seconds: float = 1.0) -> Path:
    """Write a folder as ``birdclf fetch xeno-canto`` leaves it, and return it."""
    columns = ["id", "species", "scientific_name", "genus", "recordist", "quality", "length", "date", "licence", "file"]
    root.mkdir(parents=True, exist_ok=True)
    with (root / "recordings.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for i in range(recordings):
            row = described(101 + i, i % 2)
            name = f"{row['gen']} {row['sp']}"
            path = root / name / f"XC{row['id']}.mp3"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(sound_bytes(101 + i, hz=1500.0 + 2000 * (i % 2), seconds=seconds))
            kept = {"id": row["id"], "species": row["en"], "scientific_name": name, "genus": row["gen"]}
            kept |= {"recordist": row["rec"], "quality": ("A", "B", "C", "D", "E", "no score")[i % 6]}
            kept |= {"length": row["length"], "date": row["date"], "licence": f"https:{row['lic']}"}
            writer.writerow({**kept, "file": path.relative_to(root).as_posix()})
    return root
