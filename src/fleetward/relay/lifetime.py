"""When a relay begins to listen and when it stops, for the parts that need to know."""

import asyncio
from urllib.parse import urlsplit


class Lifetime:
    """One run of a relay; made inside its event loop.

    Attributes:
        stopping: set once the relay is told to stop; answers that wait must end now.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._port: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def begin(self, stop: asyncio.Event) -> None:
        """Take the event that means stop, before any part runs."""
        self.stopping = stop

    def listens(self, url: str) -> None:
        """Take the URL that the relay listens on."""
        if not self._port.done():
            self._port.set_result(urlsplit(url).port or 0)

    async def port(self) -> int:
        """Return the TCP port, once it is listened on."""
        return await asyncio.shield(self._port)
