"""The ``serve`` command: an address, and the application behind it until Ctrl-C."""

import errno
import os
import socket
import sys
from pathlib import Path

import uvicorn

from birdclf.detection.classifier import Classifier
from birdclf.detection.thresholds import Thresholds
from birdclf.errors import UserError
from birdclf.files import writing_to
from birdclf.serving.app import application
from birdclf.serving.guard import Hosts
from birdclf.serving.session import KeptFolder, Session
from birdclf.serving.settings import Limits
from birdclf.text import printable

GRACE_S = 2
"""What is under way when the server ends has so long."""


def serve(
    classifier: Classifier, host: str, port: int, folder: Path, limits: Limits, thresholds: Thresholds | None = None
) -> None:
    """Answer requests until the process is stopped.

    Raises:
        UserError: If the address or the port is taken or none of this machine, or the folder cannot be used.
        KeyboardInterrupt: If Ctrl-C ends it.
    """
    with writing_to(folder, "or choose another with --folder."):
        hosts = Hosts(host)
        with listening(host, port) as opened, (kept := KeptFolder(folder)).lock():
            if not hosts.is_local:
                sys.stderr.write(
                    f"birdclf: at {printable(host)} anybody in the network can open the page, upload recordings and "
                    f"change corrections. Leave --host out to prevent that.\n"
                )
            print(f"corrections: {printable(folder)}")
            print(f"open {address(host, opened.getsockname()[1])} in a browser; Ctrl-C ends it", flush=True)
            session = Session(classifier, kept, limits, thresholds)
            try:
                _run(session, hosts, opened)
            finally:
                session.stop()


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises:
        UserError: If it is none of this machine, or taken.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"--host {host} is no address. Leave it out for 127.0.0.1.") from error
    opened = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two servers have one port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(where)
        opened.listen(socket.SOMAXCONN)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port {port} is taken by another program. Use another, or 0 for any free.") from error
        if error.errno == errno.EACCES:
            raise UserError(f"--port {port} may not be used by you. Use one from 1024 on.") from error
        raise UserError(f"--host {host} is no address of this machine. Leave it out for 127.0.0.1.") from error
    return opened


def address(host: str, port: int) -> str:
    """Return what to open in a browser."""
    shown_host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://[{shown_host}]:{port}" if ":" in shown_host else f"http://{shown_host}:{port}"


def _run(session: Session, hosts: Hosts, opened: socket.socket) -> None:
    config = uvicorn.Config(
        application(session, hosts), log_level="error", access_log=False, lifespan="off", ws="none",
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[opened])
