"""How much memory the bodies of requests take, of all connections together and of one client.

A body is counted with the length that its head tells, from then until its answer is made. So a
client is refused before it sends a long body in vain, and a thousand clients that each send a
body of a megabyte very slowly hold no gigabyte.
"""

from collections import Counter

from fleetward.httpd.limits import ServerLimits


class Bodies:
    """The bodies that one server holds.

    Attributes:
        held_bytes: of all clients.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.held_bytes = 0
        self._limits = limits
        self._peers: Counter[str] = Counter()

    def take(self, peer: str, count: int) -> bool:
        """Hold `count` bytes for a client; False where it, or all together, hold too much.

        Args:
            peer: what counts as one client.
            count: at least 1; `give_back` follows.
        """
        is_over = (
            self.held_bytes + count > self._limits.max_bodies_bytes
            or self._peers[peer] + count > self._limits.max_bodies_bytes_per_peer
        )
        if not is_over:
            self.held_bytes += count
            self._peers[peer] += count
        self._forget_if_empty(peer)
        return not is_over

    def give_back(self, peer: str, count: int) -> None:
        """Hold them no more."""
        self.held_bytes -= count
        self._peers[peer] -= count
        self._forget_if_empty(peer)

    def _forget_if_empty(self, peer: str) -> None:
        if self._peers[peer] <= 0:
            del self._peers[peer]
