"""uvicorn in this process, on a socket of ours, until SIGTERM or SIGINT."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn

from fleetward.config.console import ConsoleFileSettings
from fleetward.console.asgi import Application
from fleetward.errors import NetworkError
from fleetward.httpd import loops
from fleetward.httpd.tls import TlsFiles

BACKLOG = 2048
"""Connections that wait to be accepted, at most."""

MAX_CONCURRENT = 4096
"""Requests at once; 503 beyond it (a flood)."""

DRAIN_SECONDS = 10
"""How long open requests may finish after SIGTERM."""

KEEP_ALIVE_SECONDS = 30
"""How long an idle connection is kept."""

MAX_HEAD_BYTES = 32 * 1024
"""Bytes of a request's head that was not yet complete (endless data)."""


class Server(uvicorn.Server):
    """Says once that it serves, and takes up a renewed certificate."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], tls: TlsFiles | None
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._tls = tls

    async def on_tick(self, counter: int) -> bool:
        """Look at the certificate's files; return whether to end, as uvicorn says."""
        if self._tls is not None:
            self._tls.refresh()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """End on SIGTERM and SIGINT, with exit code 0 (uvicorn raises them again at the end)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket's ground: bound, not yet listening.

    Raises:
        NetworkError: the address is taken or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise NetworkError(f"cannot listen on {host}:{port}: {error}") from error
    return bound


def serve(
    application: Application,
    settings: ConsoleFileSettings,
    bound: socket.socket,
    ready: Callable[[str], None],
) -> None:
    """Serve until the process is told to end.

    Args:
        application: from `asgi.application`.
        settings: for TLS and trusted proxies.
        bound: from `bind`.
        ready: called with the console's URL once it answers.

    Raises:
        ConfigurationError: the certificate cannot be used.
    """
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url = f"{'https' if settings.tls else 'http'}://{shown}:{port}"
    tls = TlsFiles(settings.tls.certificate, settings.tls.key) if settings.tls else None
    config = _config(application, settings)
    config.load()
    if tls is not None:
        config.ssl = tls.context
    loops.run(Server(config, lambda: ready(url), tls).serve(sockets=[bound]))


def _config(application: Application, settings: ConsoleFileSettings) -> uvicorn.Config:
    tls = settings.tls
    return uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        backlog=BACKLOG,
        limit_concurrency=MAX_CONCURRENT,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ssl_certfile=os.fspath(tls.certificate) if tls else None,
        ssl_keyfile=os.fspath(tls.key) if tls else None,
    )
