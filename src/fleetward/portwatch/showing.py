"""`ports show`: one survey, judged by the operator's expectations, as a document.

Deliberately not here: how it looks on a terminal (cli.ports).
"""

from collections.abc import Iterable

from fleetward.adapters.clock import Clock
from fleetward.core.documents import whole_second
from fleetward.core.ports import Expectations, judge
from fleetward.listeners.surveying import Surveyor
from fleetward.wire.ports import PortsDocument, ports_document


def show(
    surveyor: Surveyor,
    expectations: Expectations,
    *,
    ports: Iterable[int],
    exclude: Iterable[int] = (),
    host: str,
    clock: Clock,
) -> PortsDocument:
    """Return the listeners on `ports` with their verdicts.

    Args:
        surveyor: looks at the machine.
        expectations: what the operator says of it.
        ports: to look at; none for all.
        exclude: ports to leave out.
        host: the host's name.
        clock: time.

    Raises:
        ConfigurationError: this machine does not show its sockets.
    """
    asked = frozenset(ports)
    found = surveyor.survey(asked, frozenset(exclude))
    judged = judge(found, expectations)
    return ports_document(found, judged, ports=asked, host=host, made=whole_second(clock.now()))
