"""Resumable download of the recordings that a query finds."""

import csv
import io
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.files import FileReader
from birdclf.audio.formats import FORMAT_OF
from birdclf.data.sources.fetch.client import RUN_AGAIN, FetchError, UnreachableError, XenoCantoClient
from birdclf.data.tables import distinct_columns, read_text, rows_of, safe_name
from birdclf.errors import UserError
from birdclf.files import lock_file, write_whole
from birdclf.text import printable

log = logging.getLogger(__name__)


class Ledger:
    """A table of texts with one row per ``id``; an incomplete last row, from a killed run, is dropped.

    Columns that a user added are kept. Line breaks in values become spaces, so a row is one line.

    Raises:
        UserError: If the file is not a table with a column ``id``.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.rows: dict[str, dict[str, str]] = {}
        self._columns = list(columns)
        self._ready = False  # whether the file ends in a whole line and has these columns in this order
        if path.exists():
            self._read()

    def add(self, row: Mapping[str, object]) -> None:
        """Append a row and flush it to disk.

        Raises:
            UserError: If the file cannot be written.
        """
        if not self._ready:
            self.rewrite()
        kept = self.rows.get(str(row["id"]), {})
        full = {name: " ".join(str(row.get(name, kept.get(name, ""))).split()) for name in self._columns}
        self.rows[full["id"]] = full
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._text([full]))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def drop(self, id: str) -> None:
        """Drop a row, from the file at the next :meth:`rewrite`."""
        self.rows.pop(id, None)

    def rewrite(self) -> None:
        """Replace the file atomically by the table, sorted by id.

        Raises:
            UserError: If the file cannot be written.
        """
        order = sorted(self.rows.values(), key=lambda row: (len(row["id"]), row["id"]))
        text = self._text([dict(zip(self._columns, self._columns, strict=True)), *order])
        try:
            write_whole(self.path, text, alone=True, sync=True)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._ready = True

    def _read(self) -> None:
        header, rows = read_ledger(self.path)
        self._columns += [name for name in header if name and name not in self._columns]
        self.rows = {id: {name: row.get(name, "") for name in self._columns} for id, row in rows.items()}

    def _text(self, rows: list[dict[str, str]]) -> str:
        buffer = io.StringIO(newline="")
        csv.DictWriter(buffer, self._columns, lineterminator="\n").writerows(rows)
        return buffer.getvalue()


def read_ledger(path: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the columns of a ledger and its rows by ``id``; of several rows of one id the last one counts.

    Raises:
        UserError: If the file is not a table with a column ``id``.
    """
    text = read_text(path)
    whole, _, rest = text.rpartition("\n")
    if rest:
        log.warning("%s: its last line is not whole, and is skipped", printable(path))
    if not whole:  # killed before the header was complete
        return [], {}
    header, lines = rows_of(whole, path)
    distinct_columns(header, path)
    if "id" not in header:
        raise UserError(f"{path} has no column 'id', so fetch did not write it. Give a folder of its own.")
    rows = [dict(zip(header, cells, strict=True)) for _, cells in lines]
    if nameless := sum(not row["id"] for row in rows):
        log.warning("%s: %d rows have no id, and are skipped", printable(path), nameless)
    return header, {row["id"]: row for row in rows if row["id"]}


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written: {error.strerror}. Make room or give another folder, and run it again.")


_TERM = re.compile(r'(?P<tag>-?[A-Za-z]+):(?P<value>"[^"]*"|[^\s"]*)')
_WORD = re.compile(r'(?:"[^"]*"|[^\s"])+')
_EXAMPLE = 'for example "gen:turdus q:A", "sp:\\"larus fuscus\\" cnt:brazil" or "en:\\"barn owl\\" len:10-60"'


def checked_query(query: str) -> str:
    """Return the query with single spaces between its terms, each of them ``tag:value`` or ``tag:"two words"``.

    Version 3 of the API accepts no free text; the server checks the tags.

    Raises:
        UserError: If the query is empty, a quotation mark is left open, or a term has no tag or no value.
    """
    if not query.strip():
        raise UserError(f"The Xeno-canto query is empty; give terms with tags, {_EXAMPLE}.")
    if query.count('"') % 2:
        raise UserError(
            f"The Xeno-canto query {query!r} leaves a quotation mark open. Quote values of several words, {_EXAMPLE}."
        )
    terms = _WORD.findall(query)
    for place, term in enumerate(terms):
        match = _TERM.fullmatch(term)
        if match is None:
            raise UserError(_no_tag(query, terms, place))
        if not match["value"].strip('" '):
            raise UserError(f"The Xeno-canto query {query!r}: {term!r} has no value. Write tag:value, {_EXAMPLE}.")
        if re.search(r"\+-?[A-Za-z]+:", match["value"]) and not match["value"].startswith('"'):
            raise UserError(f"The Xeno-canto query {query!r}: put a space instead of '+' between terms, {_EXAMPLE}.")
    return " ".join(terms)


def _no_tag(query: str, terms: list[str], place: int) -> str:
    term = terms[place]
    before = _TERM.fullmatch(terms[place - 1]) if place else None
    guess = ""
    if before is not None and before["value"] and not before["value"].startswith('"'):
        guess = f'; if it belongs to the term before it, write {before["tag"]}:"{before["value"]} {term}"'
    return (
        f"The Xeno-canto query {query!r}: {term!r} has no tag, and version 3 of the interface needs one on every "
        f"term{guess}. Tags are gen, sp, en, cnt, q, type, rec, len, since, area, grp and more, {_EXAMPLE}."
    )


def decoded_length(path: Path) -> tuple[float, int]:
    """Decode a file to its end.

    Returns:
        Decoded duration in seconds, and sample rate in Hz.

    Raises:
        AudioError: If it is not a sound file, cannot be decoded or is empty.
    """
    with FileReader().open(Clip(path.name, str(path))) as sound:
        samples = sum(map(len, sound.blocks))
    if not samples:
        raise AudioError("holds no sound")
    return samples / sound.sample_rate_hz, sound.sample_rate_hz


# Name of a column, and the API's name of the field.
FIELDS = {
    "genus": "gen", "subspecies": "ssp", "taxon_group": "grp", "recordist": "rec", "country": "cnt", "locality": "loc",
    "latitude": "lat", "longitude": "lon", "altitude": "alt", "type": "type", "sex": "sex", "stage": "stage",
    "method": "method", "quality": "q", "length": "length", "date": "date", "time": "time", "also": "also",
}  # fmt: skip
LISTED_COLUMNS = (
    *("id", "species", "scientific_name"),
    *FIELDS,
    *("licence", "url", "source", "file", "duration_s", "sample_rate_hz"),
)
SKIPPED_COLUMNS = ("id", "species", "scientific_name", "recordist", "licence", "url", "reason")
UNREACHABLE_IN_A_ROW = 3  # then the network or the server is at fault, not a file


@dataclass(frozen=True)
class Fetched:
    """Numbers of recordings in a run: ``found`` by the query, ``new``, there ``already``, ``skipped``."""

    found: int
    new: int
    already: int
    skipped: int


def fetch_xeno_canto(client: XenoCantoClient, query: str, out: Path, limit: int | None = None) -> Fetched:
    """Download the recordings of a query to ``out/<scientific name>/XC<id>.<ending>``, listed in ``recordings.csv``.

    A recording that is listed and exists is not fetched again. One that cannot be fetched (restricted, gone, no sound)
    is listed with its reason in ``out/skipped.csv`` and tried again in the next run.

    Args:
        client: Client of the archive.
        query: Terms with tags, such as ``gen:turdus q:A``.
        out: Folder to fill; it may hold an earlier run's recordings, of this query or another.
        limit: Most recordings of the query, including those that exist already; None for all.

    Raises:
        UserError: If the query is malformed or refused, finds nothing, another run fills the folder, the folder
            cannot be written, or the archive stays out of reach.
    """
    query = checked_query(query)
    if limit is not None and limit < 1:
        raise UserError(f"The limit is {limit}; give 1 or more recordings, or leave it out for all.")
    busy = UserError(f"Another birdclf fetch is filling {out}. Wait for it, or give another folder.")
    try:
        (out / ".part").mkdir(parents=True, exist_ok=True)
        with lock_file(out / ".part" / "lock", busy):
            return _Run(client, out).all(query, limit)
    except OSError as error:
        raise UserError(f"{out} cannot be filled: {error}. Give a folder that you may write to.") from error


class _Run:
    """One run over one folder, under its lock."""

    def __init__(self, client: XenoCantoClient, out: Path) -> None:
        self.client, self.out = client, out
        self.listed = Ledger(out / "recordings.csv", LISTED_COLUMNS)
        self.skipped = Ledger(out / "skipped.csv", SKIPPED_COLUMNS)
        self.count: Counter[str] = Counter()
        self.unreachable = 0
        for left in (out / ".part").glob("XC*"):  # of a run that was killed
            left.unlink()

    def all(self, query: str, limit: int | None) -> Fetched:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        found = 0
        try:
            with Progress(*columns) as progress:
                bar = progress.add_task("Fetching", total=limit)
                self.client.say = lambda text: progress.console.print(printable(text), markup=False)
                for row, found in self.client.recordings(query, limit):
                    progress.update(bar, total=found if limit is None else min(limit, found))
                    self.one(row)
                    progress.update(bar, completed=self.count.total() if limit is None else self.had)
                    if self.had == limit:
                        break
        finally:
            for ledger in (self.listed, self.skipped):
                if ledger.rows or ledger.path.exists():
                    ledger.rewrite()
        if not found:
            raise UserError(f"The Xeno-canto query {query!r} finds no recording. Ask for less at once, or check names.")
        if not self.had:
            raise UserError(
                f"None of the {found} recordings that {query!r} finds can be fetched; {self.skipped.path} says why."
            )
        return Fetched(found, self.count["new"], self.count["already"], self.count["skipped"])

    @property
    def had(self) -> int:
        return self.count["new"] + self.count["already"]

    def one(self, answer: Mapping[str, Any]) -> None:
        """Fetch one recording unless it exists, or list the reason why it cannot be fetched."""
        row = self._row(answer)
        listed = self.listed.rows.get(row["id"])
        if listed is not None and listed["file"] and (self.out / listed["file"]).is_file():
            self._have(row["id"], "already")
            return
        try:
            if not re.fullmatch(r"[0-9]{1,20}", row["id"]):
                raise FetchError("the archive gives an id that is not a number")
            if not row["source"]:
                raise FetchError("restricted: the archive gives no file, to protect the species or by the recordist")
            row["source"] = self.client.absolute(row["source"])
            self._fetch(row, PurePosixPath(str(answer.get("file-name") or "")).suffix.lower())
        except (FetchError, AudioError) as error:
            reason = f"the file {error}" if isinstance(error, AudioError) else str(error)
            self.skipped.add({**row, "reason": self.client.without_key(reason)})
            self.count["skipped"] += 1
            self.unreachable = self.unreachable + 1 if isinstance(error, UnreachableError) else 0
            if self.unreachable == UNREACHABLE_IN_A_ROW:
                raise UserError(
                    f"{UNREACHABLE_IN_A_ROW} recordings in a row could not be fetched, the last ({row['id']}) because: "
                    f"{reason}. Check the network. {RUN_AGAIN}"
                ) from None
            return
        self._have(row["id"], "new")

    def _have(self, id: str, how: str) -> None:
        self.skipped.drop(id)
        self.count[how] += 1
        self.unreachable = 0

    def _fetch(self, row: dict[str, str], ending: str) -> None:
        name = f"XC{row['id']}{ending if ending in FORMAT_OF else '.mp3'}"
        target = self.out / (safe_name(row["scientific_name"]) or "unknown") / name
        if target.is_file():  # killed between renaming and listing
            try:
                duration_s, rate_hz = decoded_length(target)
            except AudioError as error:
                raise FetchError(f"{target} exists already, not from this run, and {error}; move it away") from None
        else:
            part = self.out / ".part" / name
            try:
                self.client.save(row["source"], part)
                duration_s, rate_hz = decoded_length(part)
                target.parent.mkdir(exist_ok=True)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        sound = {"duration_s": f"{duration_s:.3f}", "sample_rate_hz": rate_hz}
        source = self.client.without_key(row["source"])
        self.listed.add({**row, "source": source, "file": target.relative_to(self.out).as_posix(), **sound})

    def _row(self, answer: Mapping[str, Any]) -> dict[str, str]:
        def text(field: str) -> str:
            value = answer.get(field)
            if isinstance(value, list):
                value = "; ".join(str(part) for part in value)
            if value is None:
                return ""
            whole = str(value).encode("utf-8", errors="backslashreplace").decode("utf-8")  # JSON can hold half a letter
            return self.client.without_key(whole).strip()

        scientific = f"{text('gen')} {text('sp')}".strip()
        row = {"id": text("id"), "species": text("en") or scientific, "scientific_name": scientific}
        row |= {column: text(field) for column, field in FIELDS.items()}
        row |= {"licence": _https(text("lic")), "url": _https(text("url"))}
        return {**row, "source": str(answer.get("file") or "").strip()}


def _https(url: str) -> str:
    return f"https:{url}" if url.startswith("//") else url
