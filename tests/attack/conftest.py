"""One fleet for each story: an honest origin, a source that serves it, and a host."""

from support.trustfixtures import client, clock, origin, relay, source

__all__ = ["client", "clock", "origin", "relay", "source"]
