"""Rollouts as the catalogue and the fleet know them, in few words."""

from datetime import datetime, timedelta
from typing import Any

from console.hosts import add_host
from fleetward.console.catalogue.models import Channel, Move, Product, Release
from fleetward.console.fleet.models import Event, Host, Presence, ProductState
from fleetward.console.organisation.models import Site
from fleetward.core.rollout import HostPlace
from support.fakes import START

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)

WAVES: tuple[dict[str, Any], ...] = (
    {"rings": ["canary"], "percent": 0},
    {"rings": [], "percent": 20},
    {"rings": [], "percent": 100},
)
SALT = "s1"


def add_release(product: Product, seq: int, **more: object) -> Release:
    fields: dict[str, object] = {
        "product": product,
        "name": f"r{seq}",
        "seq": seq,
        "created": START - HOUR,
        "manifest": f"{seq:064x}",
        "engine": "files",
        "tree": f"{seq + 100:064x}",
        "tree_length": 10,
        "files": 1,
        "codec": "zstd",
        "pack": f"{seq + 200:064x}",
        "pack_length": 10,
        "seen": START - HOUR,
        **more,
    }
    return Release.objects.create(**fields)


def add_channel(product: str = "yara", name: str = "stable", **more: object) -> Channel:
    """Add a channel that points at r2 since an hour, with two of three waves open."""
    row, _ = Product.objects.get_or_create(name=product, defaults={"seen": START - HOUR})
    known = list(row.releases.order_by("seq")) or [add_release(row, 1), add_release(row, 2)]
    fields: dict[str, object] = {
        "product": row,
        "name": name,
        "release": known[1],
        "previous": known[0],
        "points_at": "r2",
        "plan": "waves",
        "state": "running",
        "waves": list(WAVES),
        "open": 2,
        "salt": SALT.encode(),
        "since": START - HOUR,
        **more,
    }
    return Channel.objects.create(**fields)


def move(row: Channel, at: datetime, opened: int, **more: object) -> Move:
    """Note what the channel's document said from `at` on."""
    fields: dict[str, object] = {
        "channel": row,
        "at": at,
        "issued": at,
        "timestamp": 7,
        "kind": "waves",
        "release": row.points_at,
        "seq": 2,
        "previous": "r1",
        "state": row.state,
        "open": opened,
        "waves": len(row.waves),
        **more,
    }
    return Move.objects.create(**fields)


def numbers(low: float, high: float, salt: str = SALT) -> list[int]:
    """Return the numbers of hosts whose place in percent lies in [low, high)."""
    return [
        number
        for number in range(300)
        if low <= HostPlace(f"{number:016x}").fraction(salt) * 100 < high
    ]


def add_follower(
    number: int,
    release: str = "r1",
    state: str = "confirmed",
    *,
    since: datetime = START - 10 * HOUR,
    seen: datetime | None = START,
    site: Site | None = None,
    wave: int | None = None,
    channel: str = "stable",
    product: str = "yara",
) -> Host:
    """Add a host that said what it runs; `seen` None is one that was never heard from."""
    host = add_host(number, site=site)
    ProductState.objects.create(
        host=host,
        product=product,
        channel=channel,
        release=release,
        seq=int(release[1:]) if release else 0,
        state=state,
        since=since,
        wave=wave,
    )
    if seen is not None:
        _hear(host, seen)
    return host


def _hear(host: Host, seen: datetime) -> None:
    assert host.key is not None
    Presence.objects.create(
        key=host.key,
        epoch="0" * 16,
        greatest_n=1,
        digest="",
        first_sent=seen,
        newest_sent=seen,
        seen=seen,
        received=seen,
        offset_ms=0,
        measured=seen,
        content="",
    )


def tell(
    host: Host, kind: str = "rolled-back", detail: str = "", release: str = "r2", e: int = 1
) -> Event:
    """Add an event of a host about a release."""
    assert host.key is not None
    return Event.objects.create(
        key=host.key,
        host=host,
        epoch="0" * 16,
        e=e,
        digest=f"{e:064x}",
        at=START - MINUTE,
        received=START - MINUTE,
        kind=kind,
        product="yara",
        release=release,
        detail=detail,
    )
