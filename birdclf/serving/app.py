"""The page and what it asks for, as an ASGI application."""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.files import FileReader, read_format
from birdclf.audio.formats import FORMAT_OF
from birdclf.detection.predict import frequency_range
from birdclf.detection.results import FORMATS
from birdclf.errors import UserError
from birdclf.files import reason
from birdclf.pages import page_template
from birdclf.serving.guard import Guard, Hosts, policy_of
from birdclf.serving.session import PREFIX, Entry, Session
from birdclf.serving.settings import LEAST_HOP_S, MOST_HOP_S, MOST_SPECIES, Limits, RefusedError, RequestSettings
from birdclf.text import printable

KINDS: Final = {
    "WAV": (".wav", "audio/wav"), "WAVEX": (".wav", "audio/wav"), "RF64": (".wav", "audio/wav"),
    "FLAC": (".flac", "audio/flac"), "OGG": (".ogg", "audio/ogg"), "MP3": (".mp3", "audio/mpeg"),
    "MPEG": (".mp3", "audio/mpeg"),
}  # fmt: skip
"""Ending and media type by what libsndfile finds in the content: what browsers play."""
ACCEPTED: Final = ",".join(ending for ending, format in FORMAT_OF.items() if format in KINDS)
PLAYED: Final = "WAV, FLAC, OGG or MP3"
STANDSTILL_S: Final = 60.0
LEAST_RATE_HZ: Final = 1000
MOST_SAMPLES_A_S: Final = 2_000_000
"""Of all channels: a minute, which is decoded at once, is then below 0.5 GB."""


async def store(body: AsyncIterator[bytes], file: Path, limits: Limits) -> str:
    """Write what arrives to a file, and stop as soon as it is too large, whatever was announced.

    Returns:
        SHA-256 of the content, in hexadecimal digits.

    Raises:
        RefusedError: If it is empty, too large or at a standstill. What was written is left for the caller to remove.
    """
    digest, size = hashlib.sha256(), 0
    with file.open("xb") as opened:
        async for block in _flowing(body):
            size += len(block)
            if size > limits.bytes:
                raise limits.too_large
            digest.update(block)
            opened.write(block)
    if not size:
        raise RefusedError("The file is empty. Choose a recording.")
    return digest.hexdigest()


async def _flowing(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what arrives, until nothing does for a while: the place is needed for others."""
    while True:
        try:
            async with asyncio.timeout(STANDSTILL_S):
                block = await anext(body, None)
        except TimeoutError as error:
            raise RefusedError(f"Nothing arrived for {STANDSTILL_S:g} s. Upload the file again.", 408) from error
        if block is None:
            return
        yield block


def probe_upload(file: Path, limits: Limits) -> tuple[str, str, float]:
    """Return what an upload is, after decoding its first minute: ending, media type, seconds by its header or NaN.

    Raises:
        RefusedError: If it is no recording, or one that is too long or cannot be used.
    """
    try:
        format = read_format(file)
    except AudioError as error:
        raise RefusedError(f"The file {error}. Choose a {PLAYED} file.") from error
    if format not in KINDS:
        raise RefusedError(f"The file is {format}, which browsers cannot play. Choose {PLAYED}.")
    try:
        with FileReader().open(Clip("upload", str(file))) as sound:
            rate_hz, channels, duration_s = sound.sample_rate_hz, sound.channels, sound.header_duration_s
            if rate_hz < LEAST_RATE_HZ or rate_hz * channels > MOST_SAMPLES_A_S:
                raise RefusedError(
                    f"The recording has {channels} channels at {rate_hz:,} Hz; from {LEAST_RATE_HZ:,} Hz to "
                    f"{MOST_SAMPLES_A_S:,} samples a second of all channels are taken. Convert it."
                )
            if duration_s > limits.minutes * 60:
                raise limits.too_long(f"is {duration_s / 60:.1f} minutes long")
            first = next(sound.blocks, None)
    except AudioError as error:
        raise RefusedError(f"The recording {error}. Choose another file.") from error
    if first is None:
        raise RefusedError("The recording is empty: it holds no sound. Choose another file.")
    return *KINDS[format], duration_s


class Answer(JSONResponse):
    """JSON in which nothing can be taken for a tag, wherever it may end up."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        text = json.dumps(content, allow_nan=False, separators=(",", ":"))
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def session_json(session: Session) -> dict[str, Any]:
    """Return what the page begins with."""
    input_spec, limits = session.classifier.input_spec, session.limits
    window_s = round(input_spec.window_s, 3)
    return {
        "classes": [printable(name) for name in input_spec.classes],
        "settings": _settings(RequestSettings.read({}, window_s, input_spec.task)),
        "least_hop": min(LEAST_HOP_S, window_s),
        "most_hop": max(MOST_HOP_S, window_s),
        "most_species": MOST_SPECIES,
        "max_bytes": limits.bytes,
        "too_large": limits.too_large.message,
        "recordings": [entry_json(entry, rows=False) for entry in list(session.entries.values())],
    }


def entry_json(entry: Entry, rows: bool = True) -> dict[str, Any]:
    """Return what the page shows of a recording."""
    known = math.isfinite(entry.duration_s)
    content: dict[str, Any] = {
        "id": entry.id, "name": printable(entry.title), "state": entry.state, "problem": entry.problem,
        "duration_s": entry.duration_s if known else None, "heard_s": entry.heard_s, "version": entry.version,
        "settings": _settings(entry.asked),
    }  # fmt: skip
    if rows:
        names = (
            {"predicted": printable(row.predicted), "species": printable("; ".join(row.species))} for row in entry.rows
        )
        content["rows"] = [vars(row) | own for row, own in zip(entry.rows, names, strict=True)]
        content |= {"picture_s": entry.picture_s, "high_hz": entry.high_hz}
    return content


def _settings(asked: RequestSettings) -> dict[str, float]:
    return {"min_confidence": asked.min_confidence, "hop": asked.hop_s, "top_k": asked.top_k}


TABLES: Final = {"csv": "text/csv", "raven": "text/plain", "audacity": "text/plain"}
"""Formats that can be downloaded, with their media types."""
ENDINGS: Final = {"csv": ".csv", "raven": ".Table.1.selections.txt", "audacity": ".txt"}
MOST_UPLOADS: Final = 4
"""At once; the disk takes as many unfinished ones."""
LONGEST_TITLE: Final = 200
LARGEST_CORRECTIONS: Final = 20_000_000


def application(session: Session, hosts: Hosts) -> Starlette:
    """Return the application."""
    page = page_template("serving").render(
        model=_name(session.classifier.source),
        species=f"{len(session.classes):,}",
        window=f"{session.classifier.input_spec.window_s:g}",
        accepted=ACCEPTED,
        played=PLAYED,
        megabytes=f"{session.limits.megabytes:g}",
        minutes=f"{session.limits.minutes:g}",
    )
    return Starlette(
        routes=_Requests(session, page).routes(),
        middleware=[Middleware(Guard, hosts=hosts, policy=policy_of(page))],
        exception_handlers=dict.fromkeys((RefusedError, UserError, OSError, HTTPException, Exception), _problem),
    )


class _Requests:
    """One method a request."""

    def __init__(self, session: Session, page: str) -> None:
        self.session, self.page_text = session, page
        self.uploads = 0

    def routes(self) -> list[Route]:
        one = "/recordings/{known}"
        return [
            Route("/", self.page),
            Route("/favicon.ico", self.icon),
            Route("/session", self.begin),
            Route("/recordings", self.upload, methods=["POST"]),
            Route(one, self.recording),
            Route(f"{one}/sound", self.sound),
            Route(f"{one}/picture", self.picture),
            Route(f"{one}/again", self.again, methods=["POST"]),
            Route(f"{one}/corrections", self.correct, methods=["POST"]),
            Route(f"{one}/table/{{kind}}", self.table),
        ]

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self.page_text)

    async def icon(self, request: Request) -> Response:
        return Response(status_code=204)

    async def begin(self, request: Request) -> Response:
        return Answer(session_json(self.session))

    async def upload(self, request: Request) -> Response:
        session, limits = self.session, self.session.limits
        asked = self._asked(request)
        title = request.query_params.get("name", "").replace("\\", "/").rpartition("/")[2][:LONGEST_TITLE]
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limits.bytes:
            raise limits.too_large
        if self.uploads >= MOST_UPLOADS:
            raise RefusedError(f"{MOST_UPLOADS} recordings are being uploaded already. Come back in a moment.", 503)
        self.uploads += 1
        temporary = session.folder.temporary()
        try:
            digest = await store(request.stream(), temporary, limits)
            ending, media_type, duration_s = await run_in_threadpool(probe_upload, temporary, limits)
            file, fresh = session.folder.keep(temporary, digest, title, ending)
        except ClientDisconnect:
            return Response(status_code=400)  # it is not read
        finally:
            self.uploads -= 1
            temporary.unlink(missing_ok=True)
        entry = Entry(
            digest[:PREFIX], title or "recording", file, media_type, duration_s, fresh, asked,
            high_hz=session.classifier.input_spec.sample_rate_hz / 2,
        )  # fmt: skip
        return Answer(entry_json(session.add(entry)), 201)

    async def recording(self, request: Request) -> Response:
        return Answer(entry_json(self._entry(request)))

    async def sound(self, request: Request) -> Response:
        entry = self._entry(request)
        if not entry.file.is_file():
            raise RefusedError("The recording is no longer in the server's folder. Choose it again.", 404)
        return FileResponse(entry.file, media_type=entry.media_type)

    async def picture(self, request: Request) -> Response:
        entry = self._entry(request)
        if not entry.picture:
            raise RefusedError("There is no picture yet.", 404)
        return Response(entry.picture, media_type="image/png")

    async def again(self, request: Request) -> Response:
        return Answer(entry_json(self.session.again(self._entry(request), self._asked(request))))

    async def correct(self, request: Request) -> Response:
        entry = self._entry(request)
        given = await _json(request)
        saved = await run_in_threadpool(self.session.save, entry, given.get("version"), given.get("rows"))
        return Answer(entry_json(entry) | {"saved": saved._asdict()})

    async def table(self, request: Request) -> Response:
        entry, kind = self._entry(request), request.path_params["kind"]
        if kind not in TABLES or not entry.version:
            raise RefusedError("There is no such table.", 404)
        result = self.session.result(entry)
        written = next(iter(FORMATS[kind]([result], frequency_range(self.session.classifier))), None)
        stem = re.sub(r"[^A-Za-z0-9 _.()-]", "_", result.name.rpartition(".")[0])
        return Response(
            written.content if written else b"",
            media_type=TABLES[kind],
            headers={"content-disposition": f'attachment; filename="{stem}{ENDINGS[kind]}"'},
        )

    def _entry(self, request: Request) -> Entry:
        return self.session.entry(request.path_params["known"])

    def _asked(self, request: Request) -> RequestSettings:
        input_spec = self.session.classifier.input_spec
        return RequestSettings.read(request.query_params, input_spec.window_s, input_spec.task)


def _name(source: Path) -> str:
    """Return what a model is called: its file, or the run folder of its checkpoint, and nothing of where that is."""
    return source.name if source.suffix.lower() == ".onnx" else source.absolute().parents[1].name


async def _json(request: Request) -> dict[str, Any]:
    body = b"".join([block async for block in _limited(request.stream(), LARGEST_CORRECTIONS)])
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError("The corrections cannot be read.") from error
    if not isinstance(content, dict):
        raise RefusedError("The corrections cannot be read.")
    return content


async def _limited(body: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    size = 0
    async for block in body:
        size += len(block)
        if size > most:
            raise RefusedError("There are too many corrections.", 413)
        yield block


async def _problem(request: Request, error: Exception) -> Response:
    headers = None
    match error:
        case RefusedError():
            message, status = error.message, error.status
        case UserError():
            message, status = printable(error), 409
        case OSError():
            message, status = f"The server's folder cannot be written to: {reason(error)}. Nothing is lost.", 507
        case HTTPException():
            message, status, headers = f"{error.detail}.", error.status_code, error.headers
        case _:
            message, status = "Something went wrong in the server; its terminal says what.", 500
    return Answer({"problem": message}, status, headers)
