"""Carrying status, put together from the settings: check-ins, inboxes, enrolment.

On every relay: where no console is configured, the upstream relays take status on, and where those
have no place for it, hosts are told to go elsewhere (503).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import Disk
from fleetward.adapters.entropy import Entropy, SystemEntropy
from fleetward.relay.carrier import Carrier
from fleetward.relay.checkins import CheckInPart
from fleetward.relay.commits import Commits
from fleetward.relay.enrolment import EnrolmentPart
from fleetward.relay.forwarding import ForwardingPart
from fleetward.relay.inbox import InboxPart
from fleetward.relay.part import Part
from fleetward.relay.settings import RelaySettings
from fleetward.relay.sources import Sources
from fleetward.relay.spool import Spool

SPOOL_FOLDER: Final = "spool"


@dataclass(frozen=True, slots=True)
class Carrying:
    """The parts, and where datagrams go.

    Attributes:
        parts: to be run and asked.
        accept_datagram: takes a check-in that came over UDP (bytes, the sender's address).
    """

    parts: tuple[Part, ...]
    accept_datagram: Callable[[bytes, str], None]


def carrying(
    settings: RelaySettings,
    sources: Sources,
    *,
    clock: Clock,
    disk: Disk,
    entropy: Entropy | None = None,
) -> Carrying:
    """Return the parts that carry status; call it inside the event loop.

    Args:
        settings: of the relay.
        sources: the upstreams, asked where no console is configured.
        clock: times of receipt, rates and lifetimes.
        disk: where the spool is.
        entropy: spreads waits.

    Raises:
        ConfigurationError: the console's URL is none.
    """
    limits, folder = settings.carry_limits, settings.cache / SPOOL_FOLDER
    carrier = Carrier(settings, sources)
    commits = Commits(Spool(disk, folder, settings.spool, limits, clock), limits)
    forwarding = ForwardingPart(
        commits, carrier, settings.spool, limits, entropy or SystemEntropy()
    )
    check_ins = CheckInPart(
        commits, settings.spool, limits, clock, is_carried=lambda: forwarding.is_carried
    )
    inboxes = InboxPart(carrier, settings.spool, limits, clock)
    enrolment = EnrolmentPart(carrier, settings.spool, limits, clock)
    return Carrying((check_ins, forwarding, inboxes, enrolment), check_ins.accept_datagram)
