"""The Xeno-canto interface, version 3: pages of recordings, and files, with patience.

Reference: https://xeno-canto.org/explore/api (``GET /api/3/recordings``; 50 to 500 recordings a page).
"""

import email.utils
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from birdclf.catalog.fetch.access import HOME, KEY_VARIABLE, URL_VARIABLE, checked_base
from birdclf.catalog.fetch.transport import KeyedTransport, Throttle
from birdclf.errors import UserError

GO_ON = "Run the same command again later: it goes on where it stopped."
LONGEST_WAIT_S = 3600.0  # the archive's limit on requests is counted over an hour

T = TypeVar("T")


class FetchError(Exception):
    """One file that cannot be fetched, with the reason; the others go on."""


class UnreachableError(FetchError):
    """The same, after every attempt failed: the connection or the server may be at fault."""


class _Postponed(Exception):
    """An answer that asks for another attempt."""

    def __init__(self, status: int, reason: str, wait_s: float | None) -> None:
        super().__init__(reason)
        self.status, self.wait_s = status, wait_s


class XenoCantoClient:
    """Asks for recordings and files, one request a second over both.

    Connections that are cut, 429 and 5xx are tried again after 1, 2, 4, ... seconds, or when ``Retry-After`` says.

    Args:
        key: The user's key.
        base_url: Where the interface is; None takes ``BIRDCLF_XENO_CANTO_URL`` (for mirrors and tests) or the
            archive itself.
        attempts: How often a request is sent at most.
        interval_s: Least time between the starts of two requests, in seconds.
        clock: Returns a time in seconds that never runs back.
        sleep: Waits for a number of seconds.
        say: Told of every wait longer than 10 seconds.

    Raises:
        UserError: If the base URL is not ``https`` (``http`` serves on this machine only: the key would be readable).
    """

    def __init__(
        self,
        key: str,
        base_url: str | None = None,
        *,
        attempts: int = 6,
        interval_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._base = checked_base(base_url or os.environ.get(URL_VARIABLE) or HOME)
        self._endpoint = self._base.copy_with(path=self._base.path.rstrip("/") + "/api/3/recordings")
        self._key, self._attempts, self._sleep, self.say = key, attempts, sleep, say
        self._transport = KeyedTransport(self._endpoint, key, Throttle(interval_s, clock, sleep))
        self._http = httpx.Client(
            transport=self._transport,
            follow_redirects=True,
            timeout=httpx.Timeout(60.0, connect=20.0),
            headers={"User-Agent": "birdclf (bird sound research)"},
        )

    def __enter__(self) -> "XenoCantoClient":
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def recordings(self, query: str, limit: int | None = None) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield each recording that a query finds, as the interface describes it, with how many there are.

        A page that shifts while it is read may repeat a recording; repeats are passed over.

        Args:
            query: A checked query.
            limit: How many the caller will take, for smaller pages; None for all.

        Raises:
            UserError: If the key or the query is refused, or no sensible answer comes after every attempt.
        """
        size = 500 if limit is None else min(500, max(50, limit))
        seen: set[str] = set()
        page, pages = 1, 1
        while page <= pages:
            answer = self._retried(partial(self._page, query, size, page), self._stop)
            try:
                pages, found = int(answer["numPages"]), int(answer["numRecordings"])
                rows = {str(row["id"]): dict(row) for row in answer["recordings"]}
            except (KeyError, TypeError, ValueError):
                raise UserError(
                    f"{self._base.host} answers with something that is not version 3 of the Xeno-canto interface. "
                    f"Check {URL_VARIABLE} if it is set; otherwise a login page of the network may be in between."
                ) from None
            for number in [number for number in rows if number not in seen]:
                yield rows[number], found
            seen |= rows.keys()
            page += 1

    def save(self, url: str, target: Path) -> None:
        """Write what a URL holds to a file, from its beginning; the file is whole when this returns.

        Args:
            url: Absolute, or beginning with ``//`` or ``/``.
            target: File to write, which may hold the start of an earlier attempt.

        Raises:
            FetchError: If this file cannot be had.
            UserError: If the server asks for a longer pause, or the file cannot be written.
        """
        source = self.absolute(url)
        self._retried(partial(self._write, source, target), self._fail)

    def absolute(self, url: str) -> str:
        """Return a URL with its scheme and host, and without a key that the server may have put into it.

        Raises:
            FetchError: If it is no URL, or not one of http.
        """
        try:
            joined = self._transport.without_key(self._base.join(url.strip()))
        except httpx.InvalidURL as error:
            raise FetchError(f"the archive gives an address that is no URL ({error})") from None
        if joined.scheme not in ("http", "https") or not joined.host:
            raise FetchError(f"the archive gives an address that is not of the web ({joined.scheme or 'no scheme'})")
        return str(joined)

    def without_key(self, text: str) -> str:
        """Return a text of the server's with the key struck out."""
        return text.replace(self._key, "***").replace(quote(self._key, safe=""), "***")

    def _page(self, query: str, size: int, page: int) -> Any:
        response = self._http.get(self._endpoint, params={"query": query, "per_page": size, "page": page})
        _postponed(response)
        if response.status_code in (401, 403):
            raise UserError(
                f"Xeno-canto refuses the key in {KEY_VARIABLE} ({self._said(response)}). Compare it with the one at "
                f"{HOME}/account; it works once the e-mail address is confirmed."
            )
        if response.is_error:
            raise UserError(
                f"Xeno-canto refuses the query {query!r} ({self._said(response)}). Correct it and try again."
            )
        try:
            return response.json()
        except ValueError:
            return None

    def _write(self, source: str, target: Path) -> None:
        # h11 holds the body to its Content-Length (or its last chunk): a short one arrives here as a TransportError.
        with self._http.stream("GET", source, headers={"Accept-Encoding": "identity"}) as response:
            _postponed(response)
            if response.is_error:
                raise FetchError(f"the server answers {response.status_code} {response.reason_phrase}".rstrip())
            blocks = response.iter_bytes(1 << 16)
            try:
                with target.open("wb") as file:
                    for block in blocks:
                        file.write(block)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise UserError(f"{target} cannot be written: {error.strerror}. Make room and run it again.") from error

    def _retried(self, attempt: Callable[[], T], give_up: Callable[[str, int], Exception]) -> T:
        for number in range(1, self._attempts + 1):
            wait_s, status = 2.0 ** (number - 1), 0
            try:
                return attempt()
            except httpx.TooManyRedirects:
                raise give_up("it redirects in circles", 0) from None
            except httpx.RequestError as error:
                reason = self.without_key(str(error)) or type(error).__name__
            except _Postponed as error:
                reason, status = str(error), error.status
                wait_s = wait_s if error.wait_s is None else error.wait_s
            if number == self._attempts or wait_s > LONGEST_WAIT_S:
                break
            if wait_s > 10:
                self.say(f"{reason}; waiting {wait_s:.0f} s")
            self._sleep(wait_s)
        raise give_up(reason, status) from None

    def _stop(self, reason: str, status: int) -> UserError:
        if status == 429:
            return UserError(f"Xeno-canto asks for a pause ({reason}). {GO_ON}")
        return UserError(f"{self._base.host} gives no answer ({reason}). Check the network. {GO_ON}")

    def _fail(self, reason: str, status: int) -> Exception:
        return self._stop(reason, status) if status == 429 else UnreachableError(reason)

    def _said(self, response: httpx.Response) -> str:
        try:
            text = str(response.json()["message"])
        except (ValueError, KeyError, TypeError):
            text = response.reason_phrase
        return self.without_key(f"{response.status_code}: {' '.join(text.split())[:200]}")


def _postponed(response: httpx.Response) -> None:
    """Raise if the answer asks for another attempt."""
    if response.status_code != 429 and response.status_code < 500:
        return
    after = response.headers.get("Retry-After", "").strip()
    wait_s: float | None = None
    if after.isdigit():
        wait_s = float(after)
    elif after:
        try:
            wait_s = max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
        except ValueError:
            wait_s = None
    raise _Postponed(response.status_code, f"{response.status_code} {response.reason_phrase}".rstrip(), wait_s)
