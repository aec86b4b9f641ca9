"""What a server has done since it started: plain numbers, shown by `GET /v1/relay`."""

from dataclasses import dataclass


@dataclass(slots=True)
class ServerCounters:
    """Only ever counted up, but for `connections` and `bodies_bytes`.

    Attributes:
        connections: open now.
        accepted: connections taken.
        overloaded: connections answered 503 because there were too many, and bodies because they
            would take too much memory.
        requests: whole requests that reached the handler.
        refused: requests that broke a rule or a limit (4xx by the data plane itself).
        cut: connections cut since the client read too slowly, or the answer broke off.
        delivered_bytes: body bytes given to clients.
        bodies_bytes: of requests in memory now, as their heads tell.
    """

    connections: int = 0
    accepted: int = 0
    overloaded: int = 0
    requests: int = 0
    refused: int = 0
    cut: int = 0
    delivered_bytes: int = 0
    bodies_bytes: int = 0
