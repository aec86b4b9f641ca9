"""`origin serve`: the repository's files over HTTP, read only.

Holds no key and writes nothing; any HTTP server can take its place.
"""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from fleetward.adapters.disk import Disk, Kind
from fleetward.errors import ConfigurationError
from fleetward.httpd.background import serve
from fleetward.httpd.files import RepositoryHandler
from fleetward.httpd.server import Server
from fleetward.wire.layout import TIMESTAMP_PATH


async def serve_repository(
    disk: Disk, folder: Path, address: tuple[str, int], ready: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then let running answers finish.

    Args:
        disk: where the repository lies.
        folder: the repository's.
        address: host and port; port 0 takes a free one.
        ready: called once with the URL.

    Raises:
        ConfigurationError: there is no repository, or the address cannot be listened on.
    """
    if disk.kind(folder / TIMESTAMP_PATH) is not Kind.FILE:
        raise ConfigurationError(
            f"{folder} is no repository: make one with `fleetward origin init`"
        )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for each in signals:
        loop.add_signal_handler(each, stop.set)
    try:
        server = Server(RepositoryHandler(folder))
        await serve(server, address[0], address[1], ready=ready, stop=stop)
    finally:
        for each in signals:
            loop.remove_signal_handler(each)
