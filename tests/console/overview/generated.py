"""A fleet of any size as it might stand one morning, for tests, figures and pictures.

Repeatable: the same seed gives the same rows. Rows are written in bulk, past ingest, which has tests
of its own.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetward.console.catalogue.models import Channel, Product, Release, Repository, Role
from fleetward.console.fleet.models import (
    Event,
    Host,
    HostKey,
    Presence,
    ProductState,
    Transition,
)
from fleetward.console.organisation.models import Site
from fleetward.console.relays.judging import INTERVAL
from fleetward.console.relays.models import HOUR, MINUTE, Listed, Relay, Sample
from fleetward.console.relays.reading import Counters, Said, stored

SITES = ("berlin", "porto", "leeds", "osaka", "quito", "tromso", "pune", "austin")
PRODUCTS = ("clamav", "suricata", "yara")
VERSION = 24_310
BATCH = 5_000


@dataclass(frozen=True)
class Plan:
    """How large, and how sick, the fleet is; shares of hosts.

    Attributes:
        hosts: how many.
        silent: not heard of for hours.
        frozen: whose relay freezes.
        behind: that did not take up the newest release.
        unprotected: without anything that may run.
        minutes: sites whose relays have a sample for each minute of the day.
    """

    hosts: int = 2_000
    silent: float = 0.012
    frozen: float = 0.01
    behind: float = 0.02
    unprotected: float = 0.0005
    minutes: tuple[str, ...] = SITES


def generate(now: datetime, plan: Plan | None = None, seed: int = 2967) -> None:
    """Write the rows of a fleet."""
    chosen, dice = plan or Plan(), random.Random(seed)
    sites = [
        Site.objects.get_or_create(
            name=name, defaults={"title": name.title(), "created": now - timedelta(days=400)}
        )[0]
        for name in SITES
    ]
    _repository(now)
    releases = {name: _product(name, now) for name in PRODUCTS}
    _relays(sites, now, dice, chosen)
    _hosts(sites, releases, now, dice, chosen)


def _repository(now: datetime) -> None:
    Repository.objects.update_or_create(
        pk=1,
        defaults={
            "url": "https://origin.meridian.example",
            "checked": now,
            "refreshed": now,
            "root": 3,
            "timestamp": VERSION,
            "issued": now - timedelta(minutes=4),
            "interval": int(INTERVAL.total_seconds()),
        },
    )
    lives = {"root": 140, "targets": 140, "fleet": 19, "snapshot": 6, "timestamp": 6}
    for place, (role, days) in enumerate(lives.items()):
        Role.objects.create(
            role=role,
            version=3,
            expires=now + timedelta(days=days, hours=5),
            keyids=["a" * 64, "b" * 64, "c" * 64],
            threshold=2,
            place=place,
            changed=now,
        )


def _product(name: str, now: datetime) -> list[Release]:
    """Write a product with five releases, a day apart; the newest is some hours old."""
    product = Product.objects.create(name=name, seen=now)
    releases = []
    for back in (4, 3, 2, 1, 0):
        created = now - timedelta(days=back, hours=7 if name != "yara" else 3)
        releases.append(
            Release.objects.create(
                product=product,
                name=f"{created:%Y.%m.%d}-1",
                seq=100 - back,
                created=created,
                manifest=f"{name}{back}".encode().hex().ljust(64, "0"),
                engine=name,
                tree="0" * 64,
                tree_length=7_001_319,
                files=743,
                codec="zstd",
                pack="0" * 64,
                pack_length=1_277_272,
                seen=created,
            )
        )
    is_rolling = name == "yara"
    Channel.objects.create(
        product=product,
        name="stable",
        release=releases[-1],
        previous=releases[-2],
        points_at=releases[-1].name,
        plan="waves",
        state="running" if is_rolling else "complete",
        waves=[
            {"rings": ["canary"], "percent": None},
            {"rings": [], "percent": 10},
            {"rings": [], "percent": 50},
            {"rings": [], "percent": 100},
        ],
        open=3 if is_rolling else 4,
        since=releases[-1].created,
    )
    return releases


def _relays(sites: list[Site], now: datetime, dice: random.Random, plan: Plan) -> None:
    for number, site in enumerate(sites):
        for copy in range(2 if number < 3 else 1):
            name = f"relay{copy + 1}.{site.name}.meridian.example:2967"
            is_freezing = site.name == "osaka"
            is_lost = site.name == "quito"
            row = Relay.objects.create(
                url=f"http://{name}",
                name=name,
                site=site,
                listed=Listed.SIGNED,
                added=now - timedelta(days=100),
                polled=now,
                answered=now - timedelta(hours=2) if is_lost else now,
                problem="no connection: connection refused" if is_lost else "",
                problem_since=now - timedelta(hours=2) if is_lost else None,
                version=VERSION - 61 if is_freezing else VERSION,
                version_since=now - (timedelta(hours=10) if is_freezing else timedelta(minutes=4)),
                counters=stored(Counters(hits=9, misses=1)),
                said=stored(_said(site.name)),
            )
            _samples(row, now, dice, plan, is_lost=is_lost, is_freezing=is_freezing)


def _said(site: str) -> Said:
    is_filling = site == "tromso"
    return Said(
        closure=VERSION,
        spool_bytes=52_428_800 if is_filling else 0,
        spool_max=67_108_864,
        spool_check_ins=60_102 if is_filling else 0,
        spool_hosts=611 if is_filling else 0,
        stored_bytes=412_000_000,
        free_bytes=81_000_000_000,
        connections=212,
        watchers=188,
        upstreams=(("https://origin.meridian.example", "ready"),),
        problems=("mdns: the name is taken by another relay",) if site == "leeds" else (),
        limits=(("bandwidth.rate", "1250000"), ("clients.requests_per_second", "50")),
    )


def _samples(
    row: Relay,
    now: datetime,
    dice: random.Random,
    plan: Plan,
    *,
    is_lost: bool,
    is_freezing: bool,
) -> None:
    rows = []
    has_minutes = row.site is not None and row.site.name in plan.minutes
    spans = ((HOUR, 26), (MINUTE, 24 * 60)) if has_minutes else ((HOUR, 26),)
    for span, count in spans:
        for back in range(count):
            seconds = (now.timestamp() // span - back) * span
            at = datetime.fromtimestamp(seconds, now.tzinfo)
            answers = not (is_lost and now - at < timedelta(hours=2))
            wave = 1.0 + 3.0 * (at.hour in {2, 3, 8, 9}) + dice.random()
            share = span / HOUR
            rows.append(
                Sample(
                    relay=row,
                    at=at,
                    span=span,
                    asked=span // MINUTE,
                    answered=span // MINUTE if answers else 0,
                    hits=int(4_100 * wave * share) if answers else 0,
                    misses=int(90 * share * dice.random()) if answers else 0,
                    upstream_bytes=int(1_500_000 * wave * share) if answers else 0,
                    delivered_bytes=int(160_000_000 * wave * share) if answers else 0,
                    spool_bytes=52_000_000 if row.said["spool_bytes"] else 0,
                    lag=max(0, 60 - back * span // 600) if is_freezing else 0,
                )
            )
    Sample.objects.bulk_create(rows, batch_size=BATCH)


def _hosts(
    sites: list[Site],
    releases: dict[str, list[Release]],
    now: datetime,
    dice: random.Random,
    plan: Plan,
) -> None:
    names = [f"{site.name[:3]}-{number:05}" for number in range(plan.hosts) for site in sites][
        : plan.hosts
    ]
    for start in range(0, plan.hosts, BATCH):
        numbers = range(start, min(start + BATCH, plan.hosts))
        hosts = Host.objects.bulk_create(
            Host(
                record=f"{number:016x}",
                name=names[number],
                standing="active",
                site=sites[number % len(sites)],
                os="Debian 12",
                agent="0.1.0",
                created=now - timedelta(days=60),
                standing_since=now - timedelta(days=60),
            )
            for number in numbers
        )
        keys = HostKey.objects.bulk_create(
            HostKey(
                key=f"{number:064x}",
                public=number.to_bytes(32, "big"),
                host=host,
                standing="active",
                enrolled=now - timedelta(days=60),
            )
            for number, host in zip(numbers, hosts, strict=True)
        )
        for host, key in zip(hosts, keys, strict=True):
            host.key = key
        Host.objects.bulk_update(hosts, ["key"], batch_size=1_000)
        _statuses(hosts, sites, releases, now, dice, plan)


def _statuses(
    hosts: list[Host],
    sites: list[Site],
    releases: dict[str, list[Release]],
    now: datetime,
    dice: random.Random,
    plan: Plan,
) -> None:
    presences, states, transitions, events = [], [], [], []
    for host in hosts:
        silent = dice.random() < plan.silent
        site = sites[int(host.record, 16) % len(sites)]
        frozen = site.name == "osaka" and dice.random() < plan.frozen * 8
        seen = now - (timedelta(hours=9 * dice.random() + 1) if silent else timedelta(seconds=40))
        presences.append(_presence(host, seen, frozen=frozen))
        for product, made in releases.items():
            state, runs = _stands(product, made, dice, plan)
            states.append(_state(host, product, state, runs, seen))
            transitions += _history(host, product, made, runs, dice)
        if dice.random() < 0.002:
            events.append(_rolled_back(host, releases["yara"][-1], now))
    Presence.objects.bulk_create(presences, batch_size=BATCH)
    ProductState.objects.bulk_create(states, batch_size=BATCH)
    Transition.objects.bulk_create(transitions, batch_size=BATCH)
    Event.objects.bulk_create(events)


def _presence(host: Host, seen: datetime, *, frozen: bool) -> Presence:
    site = SITES[int(host.record, 16) % len(SITES)]
    return Presence(
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
        relay=f"relay1.{site}.meridian.example:2967",
        tuf_root=3,
        tuf_timestamp=VERSION - (60 if frozen else 0),
        tuf_snapshot=900,
        listeners=20,
        unexpected=0,
        content="",
    )


def _stands(
    product: str, made: list[Release], dice: random.Random, plan: Plan
) -> tuple[str, Release | None]:
    luck = dice.random()
    if luck < plan.unprotected:
        return "unprotected", None
    if luck < plan.unprotected + plan.behind:
        return "confirmed", made[dice.choice((0, 1, 2))]
    if product == "yara":
        if luck > 0.995:
            return "trial", made[-1]
        return "confirmed", made[-1] if luck < 0.52 else made[-2]
    return "confirmed", made[-1]


def _state(
    host: Host, product: str, state: str, runs: Release | None, since: datetime
) -> ProductState:
    return ProductState(
        host=host,
        product=product,
        channel="stable",
        release=runs.name if runs else "",
        seq=runs.seq if runs else 0,
        state=state,
        since=since,
    )


def _history(
    host: Host, product: str, made: list[Release], runs: Release | None, dice: random.Random
) -> list[Transition]:
    found = []
    for index, release in enumerate(made):
        if runs is None or release.seq > runs.seq:
            break
        pace = 25 + 20 * index
        minutes = dice.lognormvariate(0, 0.9) * pace
        newest = release is made[-1]
        limit = 160 if newest and product == "yara" else 400 if newest else 1_300
        if minutes > limit:
            minutes = limit * dice.random()
        found.append(
            Transition(
                host=host,
                at=release.created + timedelta(minutes=minutes),
                product=product,
                release_before=made[index - 1].name if index else "",
                release=release.name,
                seq=release.seq,
                state_before="trial",
                state="confirmed",
            )
        )
    return found


def _rolled_back(host: Host, release: Release, now: datetime) -> Event:
    return Event(
        key=host.key,
        host=host,
        epoch="0" * 16,
        e=1,
        digest=host.record,
        at=now - timedelta(hours=1),
        received=now - timedelta(hours=1),
        kind="rolled-back",
        product="yara",
        release=release.name,
        detail="the engine restarted 3 times",
    )
