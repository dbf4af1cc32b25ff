"""Checks of every request: it must come from the page itself, and the page loads nothing from elsewhere."""

import base64
import hashlib
import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Hosts:
    """The names under which a server may be asked for, so that no other site can stand for it by a name of its own."""

    def __init__(self, host: str) -> None:
        self.is_local = is_loopback(host)
        own = socket.gethostname().lower()
        self.names = {*LOOPBACK, host.lower()} | (set() if self.is_local else {own, f"{own}.local"})

    def allows(self, header: str) -> bool:
        """Return whether a Host header names this server; the port is not looked at.

        Where others in the network may come, any address of numbers will do: a foreign site has a name.
        """
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        return name in self.names or (not self.is_local and _address(name) is not None)


class Guard:
    """Middleware that refuses foreign requests and sets the page's security headers."""

    def __init__(self, app: ASGIApp, hosts: Hosts, policy: str) -> None:
        self.app, self.hosts = app, hosts
        self.headers = {
            "content-security-policy": policy, "x-content-type-options": "nosniff", "referrer-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin", "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-store",
        }  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        headers = Headers(scope=scope)
        answer = self.app
        if not self.hosts.allows(headers.get("host", "")):
            answer = PlainTextResponse("This server is not called that. Open the address that it printed.", 400)
        elif scope["method"] not in ("GET", "HEAD") and not _is_own(headers):
            answer = PlainTextResponse("Only the server's own page may do this.", 403)
        await answer(scope, receive, send_with_headers)


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine alone."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def policy_of(page: str) -> str:
    """Return the Content-Security-Policy of a page: its own script and style, by hash, and files of this server."""
    scripts, styles = (_hashes(re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src 'self'; media-src 'self'; "
        f"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(contents: Iterable[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _is_own(headers: Headers) -> bool:
    """Return whether a request that changes something was not sent by a page of another site.

    Browsers say where it comes from; programs that are none say nothing, and cannot be made to send it by a page.
    """
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
