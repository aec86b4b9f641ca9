"""Hosts as the console's tests enrol them, and what they send."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from datetime import datetime, timedelta
from typing import Any

from fleetward.console.fleet.models import Event, Host, HostKey
from fleetward.console.fleet.standings import HostStanding, KeyStanding
from fleetward.console.ingest.opening import open_envelopes
from fleetward.console.ingest.rows import Delivery, Verdict
from fleetward.console.ingest.storing import store
from fleetward.console.organisation.models import Site
from fleetward.core.status import HostId
from fleetward.identity.checkins import verify_inbox
from support.fakes import START
from support.status import CONSOLE, host_key, sealed

MINUTE = timedelta(minutes=1)


class InlineExecutor(Executor):
    """Runs what it is given at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 (as Executor has it)
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 (a future carries whatever it was)
            done.set_exception(error)
        return done


def add_host(number: int = 0, *, site: Site | None = None, name: str = "") -> Host:
    """Enrol host `number` of `support.status`."""
    key = host_key(number)
    host = Host.objects.create(
        record=f"{number:016x}",
        name=name or f"pc-{number:03}",
        standing=HostStanding.ACTIVE,
        site=site,
        created=START,
        standing_since=START,
    )
    host.key = HostKey.objects.create(
        key=key.id, public=key.public, host=host, standing=KeyStanding.ACTIVE, enrolled=START
    )
    host.save()
    return host


def bring(
    *envelopes: bytes,
    at: datetime | None = None,
    now: datetime | None = None,
    peer: str = "10.0.0.7",
) -> list[Verdict]:
    """Store envelopes as one batch that was received at `at`."""
    received = at or START
    opened = open_envelopes(envelopes, (CONSOLE,))
    deliveries = [Delivery(envelope, received, peer) for envelope in envelopes]
    return store(list(zip(deliveries, opened, strict=True)), now or received)


def check_in(number: int = 0, n: int = 1, **more: object) -> bytes:
    """The envelope of check-in `n` of host `number`, sent `n` minutes after the start."""
    return sealed(number, n, **{"sent": START + n * MINUTE, **more})


def stored_events(number: int = 0) -> list[tuple[str, int]]:
    rows = Event.objects.filter(key__key=host_key(number).id).order_by("epoch", "e")
    return list(rows.values_list("epoch", "e"))


def acknowledged(content: bytes | None, number: int = 0, seen: int = 0) -> dict[str, int]:
    """What a signed inbox acknowledges, as host `number` believes it."""
    assert content is not None
    inbox = verify_inbox(
        content, host_key(number).id, [CONSOLE.public.signing], seen=seen, now=START
    )
    return {ack.epoch: ack.e for ack in inbox.acks}


def ids(numbers: Iterable[int]) -> list[HostId]:
    return [host_key(number).id for number in numbers]
