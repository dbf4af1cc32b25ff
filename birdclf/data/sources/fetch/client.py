"""Client of the Xeno-canto API, version 3: pages of recordings, and files, with retries.

Reference: https://xeno-canto.org/explore/api (``GET /api/3/recordings``; 50 to 500 recordings a page).
"""

import email.utils
import logging
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from birdclf.errors import UserError


class Throttle:
    """Enforces a least interval between requests."""

    def __init__(
        self,
        interval_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval_s, self._clock, self._sleep = interval_s, clock, sleep
        self._next = float("-inf")

    def wait(self) -> None:
        """Return once the next request may start."""
        while (left := self._next - self._clock()) > 0:
            self._sleep(left)
        self._next = self._clock() + self._interval_s


class KeyedTransport(httpx.BaseTransport):
    """Sends throttled requests; those to ``endpoint`` get the key.

    Each redirect is a request of its own. A key that the server wrote into a redirect is removed, so it is never sent
    to another host. Proxies are those of the environment.
    """

    def __init__(self, endpoint: httpx.URL, key: str, throttle: Throttle) -> None:
        self._endpoint, self._key, self._throttle = endpoint, key, throttle
        self._routes: dict[str | None, httpx.HTTPTransport] = {}
        # At DEBUG httpcore logs raw headers, and a redirect's may repeat the key.
        logging.getLogger("httpcore").setLevel(logging.INFO)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        Raises:
            httpx.TransportError: If there is no response.
        """
        url = self.without_key(request.url)
        if self._is_endpoint(url):
            url = url.copy_set_param("key", self._key)
        self._throttle.wait()
        sent = httpx.Request(
            request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        response = self._route(url).handle_request(sent)
        if "location" in response.headers:
            try:
                response.headers["location"] = str(self.without_key(url.join(response.headers["location"])))
            except httpx.InvalidURL:
                response.close()
                raise httpx.RemoteProtocolError("it redirects to an invalid URL") from None
        return response

    def without_key(self, url: httpx.URL) -> httpx.URL:
        """Return a URL without the parameters that hold the key."""
        forms = (self._key, self._key.replace("+", " "))  # a "+" that was not escaped is read as a space
        for name in {name for name, value in url.params.multi_items() if any(form in value for form in forms)}:
            url = url.copy_remove_param(name)
        return url

    def close(self) -> None:
        """Close every connection."""
        for route in self._routes.values():
            route.close()

    def _is_endpoint(self, url: httpx.URL) -> bool:
        own = self._endpoint
        return (url.scheme, url.host, url.port, url.path) == (own.scheme, own.host, own.port, own.path)

    def _route(self, url: httpx.URL) -> httpx.HTTPTransport:
        proxies = urllib.request.getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all")
        if proxy is not None and urllib.request.proxy_bypass(url.netloc.decode("ascii")):
            proxy = None
        if proxy not in self._routes:
            self._routes[proxy] = httpx.HTTPTransport(proxy=proxy)
        return self._routes[proxy]


KEY_VARIABLE = "XENO_CANTO_KEY"
URL_VARIABLE = "BIRDCLF_XENO_CANTO_URL"  # for mirrors and tests
HOME = "https://xeno-canto.org"


def key_from_environment() -> str:
    """Return the key in ``XENO_CANTO_KEY``.

    Raises:
        UserError: If it is not set, or holds characters that are not allowed in a key.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise UserError(
            f"Xeno-canto needs a key, and the environment variable {KEY_VARIABLE} is not set. Every member has one, "
            f"free of charge: register at {HOME}, confirm the e-mail address, copy the key from {HOME}/account and "
            f"set it with: export {KEY_VARIABLE}=... (it is sent to Xeno-canto only, and never logged or written)."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{KEY_VARIABLE} holds characters that no key has; copy it again from {HOME}/account.")
    return key


def checked_base(text: str) -> httpx.URL:
    """Return the URL of the server.

    Raises:
        UserError: If it is not ``https`` (``http`` is allowed for this machine only: the key would be readable).
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    near = url.scheme == "http" and url.host in ("127.0.0.1", "localhost", "::1")
    if not url.host or not (url.scheme == "https" or near):
        raise UserError(
            f"{text!r} is not the URL of a server: give one that begins with https:// (http:// is allowed for this "
            f"machine only, since the key would be readable). {URL_VARIABLE} sets it; unset, it is {HOME}."
        )
    return url


RUN_AGAIN = "Run the same command again later: it resumes where it stopped."
LONGEST_WAIT_S = 3600.0  # the archive limits requests per hour

T = TypeVar("T")


class FetchError(Exception):
    """One file that cannot be fetched, with the reason; the others are still fetched."""


class UnreachableError(FetchError):
    """The same, after every attempt failed: the connection or the server may be at fault."""


class _Postponed(Exception):
    """A response that asks for another attempt."""

    def __init__(self, status: int, reason: str, wait_s: float | None) -> None:
        super().__init__(reason)
        self.status, self.wait_s = status, wait_s


class XenoCantoClient:
    """Requests recordings and files, together at most one request per second.

    Lost connections, 429 and 5xx are retried after 1, 2, 4, ... seconds, or at the time in ``Retry-After``.

    Args:
        key: The user's key.
        base_url: URL of the server; None for ``BIRDCLF_XENO_CANTO_URL`` (for mirrors and tests), else the archive.
        attempts: Most attempts for a request.
        interval_s: Least time between the starts of two requests, in seconds.
        clock: Returns a monotonic time in seconds.
        sleep: Waits for a number of seconds.
        say: Called with a message before every wait longer than 10 seconds.

    Raises:
        UserError: If the base URL is not ``https`` (``http`` is allowed for this machine only).
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
        """Yield each recording that a query finds, as in the API's response, with the total number.

        Recordings that several pages repeat are yielded once.

        Args:
            query: A checked query.
            limit: Number that the caller will take, for smaller pages; None for all.

        Raises:
            UserError: If the key or the query is refused, or there is no valid response after every attempt.
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
        """Download a URL to a file, which is complete when this returns.

        Args:
            url: Absolute, or beginning with ``//`` or ``/``.
            target: File to write; a part from an earlier attempt is overwritten.

        Raises:
            FetchError: If this file cannot be fetched.
            UserError: If the server asks for a longer pause, or the file cannot be written.
        """
        source = self.absolute(url)
        self._retried(partial(self._write, source, target), self._fail)

    def absolute(self, url: str) -> str:
        """Return a URL with scheme and host, and without a key that the server may have added.

        Raises:
            FetchError: If it is not a URL of http or https.
        """
        try:
            joined = self._transport.without_key(self._base.join(url.strip()))
        except httpx.InvalidURL as error:
            raise FetchError(f"the archive gives an invalid URL ({error})") from None
        if joined.scheme not in ("http", "https") or not joined.host:
            raise FetchError(f"the archive gives a URL that is not http or https ({joined.scheme or 'no scheme'})")
        return str(joined)

    def without_key(self, text: str) -> str:
        """Return a text from the server with the key masked."""
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
        # h11 compares the body with its Content-Length (or its last chunk): a short one raises a TransportError.
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
            return UserError(f"Xeno-canto asks for a pause ({reason}). {RUN_AGAIN}")
        return UserError(f"{self._base.host} gives no answer ({reason}). Check the network. {RUN_AGAIN}")

    def _fail(self, reason: str, status: int) -> Exception:
        return self._stop(reason, status) if status == 429 else UnreachableError(reason)

    def _said(self, response: httpx.Response) -> str:
        try:
            text = str(response.json()["message"])
        except (ValueError, KeyError, TypeError):
            text = response.reason_phrase
        return self.without_key(f"{response.status_code}: {' '.join(text.split())[:200]}")


def _postponed(response: httpx.Response) -> None:
    """Raise if the response asks for another attempt."""
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
