"""Names of destinations into addresses, without holding up the event loop."""

import asyncio
import contextlib
import socket
from collections.abc import Iterable

from fleetward.adapters.datagram import Destination


async def resolve(targets: Iterable[tuple[str, int]]) -> list[Destination]:
    """Return the first address of each host and port now; names that do not resolve are left out.

    Called in an event loop; a name server is asked in a thread.
    """
    loop = asyncio.get_running_loop()
    found: list[Destination] = []
    for host, port in targets:
        with contextlib.suppress(OSError, UnicodeError):
            address = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0][4][0]
            found.append(Destination(str(address), port))
    return found
