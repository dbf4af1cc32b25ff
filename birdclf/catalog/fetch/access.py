"""The user's key to Xeno-canto, and the server that it is shown to."""

import os

import httpx

from birdclf.errors import UserError

KEY_VARIABLE = "XENO_CANTO_KEY"
URL_VARIABLE = "BIRDCLF_XENO_CANTO_URL"  # for mirrors and tests
HOME = "https://xeno-canto.org"


def key_from_environment() -> str:
    """Return the key in ``XENO_CANTO_KEY``.

    Raises:
        UserError: If there is none, or it holds what no key holds.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise UserError(
            f"Xeno-canto needs a key, and the environment variable {KEY_VARIABLE} is not set. Every member has one, "
            f"free of charge: register at {HOME}, confirm the e-mail address, copy the key from {HOME}/account and "
            f"set it with: export {KEY_VARIABLE}=... (it is sent to Xeno-canto only, and never logged or written)."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{KEY_VARIABLE} holds spaces or signs that no key has; copy it again from {HOME}/account.")
    return key


def checked_base(text: str) -> httpx.URL:
    """Return the URL of the server to ask.

    Raises:
        UserError: If it is not ``https`` (``http`` serves on this machine only: the key would be readable).
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    near = url.scheme == "http" and url.host in ("127.0.0.1", "localhost", "::1")
    if not url.host or not (url.scheme == "https" or near):
        raise UserError(
            f"{text!r} is no place to ask for recordings: give a URL that begins with https:// (http:// serves on this "
            f"machine only, for the key would be readable on the way). {URL_VARIABLE} sets it; unset, it is {HOME}."
        )
    return url
