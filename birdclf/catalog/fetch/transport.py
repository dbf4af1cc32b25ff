"""The last step before the wire: one request a second, and the key on requests to the archive's own interface only.

The key is added here and nowhere earlier, so that no URL that httpx logs, follows or names in an exception holds it.
"""

import logging
import time
import urllib.request
from collections.abc import Callable

import httpx


class Throttle:
    """Keeps a distance in time between requests.

    Args:
        interval_s: Least time from the start of one request to the start of the next, in seconds.
        clock: Returns a time in seconds that never runs back.
        sleep: Waits for a number of seconds.
    """

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
    """Sends requests, each at its time; those to ``endpoint`` get the key.

    Redirects pass through here one by one. A key that the server wrote into a redirect is taken out of it, so that
    another host never sees it; proxies are those of the environment.

    Args:
        endpoint: The one URL whose requests carry the key; scheme, host, port and path must all agree.
        key: The key, sent as the parameter ``key``.
        throttle: Decides when a request may start.
    """

    def __init__(self, endpoint: httpx.URL, key: str, throttle: Throttle) -> None:
        self._endpoint, self._key, self._throttle = endpoint, key, throttle
        self._routes: dict[str | None, httpx.HTTPTransport] = {}
        # At DEBUG httpcore logs raw headers, and a redirect's may repeat the key.
        logging.getLogger("httpcore").setLevel(logging.INFO)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        Raises:
            httpx.TransportError: If no answer comes.
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
                raise httpx.RemoteProtocolError("it redirects to an address that is no URL") from None
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
