"""Check-ins per second that a console takes, signatures verified, seals opened, rows durable.

    PYTHONPATH=tests python -m bench.console [--db URL] [--hosts N] [--seconds S] [--openers P] [--only WORD…] [--json]

Rows (`--only` takes words of their names): `relay`, batches as relays send them (500 in one zstd frame); `direct`, one envelope a
request over kept connections; `paced`, the fleet's own rate (every host once a minute, in batches
of what a second brings), with the time from request to durable answer; `opening`, what two
processes verify and open with nothing stored; `enrolling`, hosts enrolling at once; `inbox`,
hosts asking for an inbox that has nothing new, as fast as may be and at the fleet's own rate beside
its check-ins. CPU is given for the serving process and for the openers beside it.
Whoever sends runs on the same cores. Every check-in is new (numbers rise), a share has an event.
"""

# ruff: noqa: PLC0415 (models can be imported only once Django is set up)

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fleetward.adapters.compression import compress
from fleetward.core.status import CheckIn, Epoch
from fleetward.identity.checkins import seal_check_in
from fleetward.identity.consoles import ConsolePublic
from fleetward.identity.hosts import HostKey
from fleetward.wire.checkins import (
    BATCH_MEDIA_TYPE,
    ENVELOPE_MEDIA_TYPE,
    Carried,
    encode_batch,
    milliseconds_of,
)
from fleetward.wire.inbox import inbox_target
from support.status import event, host_key, usual

BATCH = 500
EVENT_SHARE = 0.02
SENT = datetime.now(UTC).replace(microsecond=0)


def start_django(db: str, state: Path) -> None:
    import django
    from django.conf import settings as conf
    from django.core.management import call_command

    from fleetward.config.console import ConsoleFileSettings
    from fleetward.console.database import parse_database
    from fleetward.console.wiring import Wiring, wire

    settings = ConsoleFileSettings(db=db, state=state)
    wire(Wiring(settings=settings))
    conf.configure(
        SECRET_KEY="k" * 64,
        DATABASES={"default": parse_database(db).django},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "fleetward.console.organisation",
            "fleetward.console.audit",
            "fleetward.console.fleet",
            "fleetward.console.ports",
        ],
        AUTH_USER_MODEL="organisation.User",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        LOGGING_CONFIG=None,
    )
    django.setup()
    call_command("migrate", verbosity=0)


def serve(db: str, state: Path) -> None:
    """The server's process: ingest alone, on uvicorn as the console runs it."""
    start_django(db, state)
    from fleetward.config.console import ConsoleFileSettings
    from fleetward.console import serving
    from fleetward.console.asgi import Application
    from fleetward.console.ingest.wiring import ingest

    async def nothing(*_: object) -> None:
        raise AssertionError

    mounts: Any = dict.fromkeys(("/v1/checkins", "/v1/inbox", "/v1/enroll"), ingest())
    bound = serving.bind("127.0.0.1", 0)
    serving.serve(
        Application(nothing, mounts, ()),
        ConsoleFileSettings(),
        bound,
        lambda url: print(url, flush=True),
    )


def populate(keys: list[HostKey]) -> None:
    from fleetward.console.fleet.models import Host
    from fleetward.console.fleet.models import HostKey as Row

    now = SENT
    hosts = Host.objects.bulk_create(
        [
            Host(
                record=f"{n:016x}",
                name=f"pc-{n:05}.example",
                standing="active",
                created=now,
                standing_since=now,
            )
            for n in range(len(keys))
        ],
        batch_size=1000,
    )
    rows = Row.objects.bulk_create(
        [
            Row(key=k.id, public=k.public, host=h, standing="active", enrolled=now)
            for k, h in zip(keys, hosts, strict=True)
        ],
        batch_size=1000,
    )
    for host, row in zip(hosts, rows, strict=True):
        host.key = row
    Host.objects.bulk_update(hosts, ["key"], batch_size=1000)


class Fleet:
    """Makes envelopes whose numbers rise."""

    def __init__(self, keys: list[HostKey], console: ConsolePublic) -> None:
        self.keys, self.console = keys, console
        self.n = 0
        self.events = 0
        self.chance = random.Random(2967)

    def round(self, count: int) -> list[bytes]:
        """Envelopes of the next `count` hosts, each with the next number."""
        made = []
        for _ in range(count):
            host, number = self.n % len(self.keys), self.n // len(self.keys) + 1
            self.n += 1
            more: dict[str, object] = {"sent": SENT + timedelta(minutes=number)}
            if self.chance.random() < EVENT_SHARE:
                more["events"] = (event(1, at=SENT),)
                self.events += 1
            check_in: CheckIn = usual(self.keys[host], number, epoch=Epoch(f"{host:016x}"), **more)
            made.append(seal_check_in(check_in, self.keys[host], self.console))
        return made


def batches(envelopes: list[bytes], size: int = BATCH) -> list[bytes]:
    received = milliseconds_of(datetime.now(UTC))
    return [
        compress(encode_batch(Carried(received, "10.1.2.3", e) for e in envelopes[at : at + size]))
        for at in range(0, len(envelopes), size)
    ]


def post(body: bytes, kind: str, path: str = "/v1/checkins") -> bytes:
    """A request as bytes."""
    return b"POST %b HTTP/1.1\r\nHost: c\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        kind.encode(),
        len(body),
        body,
    )


async def send_all(
    url: str, requests: list[bytes], connections: int, pace: float | None = None
) -> tuple[float, list[float]]:
    """Send every request once; return seconds in all and for each. `pace` is requests a second."""
    host, port = url.removeprefix("http://").split(":")
    waiting = iter(enumerate(requests))
    took: list[float] = []
    began = time.perf_counter()

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for place, request in waiting:
            due = began
            if pace:
                due = began + place / pace
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            start = due if pace else time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if status == 200:
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                answer = json.loads(await reader.readexactly(length))
                if request.startswith(b"POST /v1/checkins"):
                    assert answer["stored"], answer
                    assert not answer["malformed"], answer
            else:
                assert status == 204, head
            took.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*[one() for _ in range(connections)])
    return time.perf_counter() - began, sorted(took)


def percentile(took: list[float], share: float) -> float:
    return round(took[min(len(took) - 1, int(len(took) * share))] * 1000, 1)


class Server:
    """The server as a process of its own, with its memory and CPU."""

    def __init__(self, db: str, state: Path, openers: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.console", "serve", "--db", db, "--state", str(state)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "FLEETWARD_CONSOLE_OPENERS": str(openers)},
        )
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the server did not start"

    def usage(self) -> tuple[float, float, float]:
        """CPU seconds of the server and of the processes that it started; MiB of them all."""
        import psutil

        own = psutil.Process(self.process.pid)
        others = own.children(recursive=True)
        memory = sum(p.memory_info().rss for p in [own, *others])
        cpu = [sum(p.cpu_times()[:2]) for p in [own, *others]]
        return cpu[0], sum(cpu[1:]), round(memory / 2**20, 1)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def row(name: str, server: Server, count: int, requests: list[bytes], **how: Any) -> dict[str, Any]:  # noqa: ANN401 (see send_all)
    before = server.usage()
    seconds, took = asyncio.run(send_all(server.url, requests, **how))
    return told(name, server, count, seconds, took, before)


def told(
    name: str,
    server: Server,
    count: int,
    seconds: float,
    took: list[float],
    before: tuple[float, float, float],
) -> dict[str, Any]:
    serving, opening, memory = server.usage()
    return {
        "row": name,
        "count": count,
        "per_second": round(count / seconds),
        "cpu_us_each": round((serving + opening - before[0] - before[1]) / count * 1e6),
        "of_it_openers": round((opening - before[1]) / count * 1e6),
        "ms": {p: percentile(took, s) for p, s in (("50", 0.5), ("99", 0.99), ("max", 1.0))},
        "rss_mib": memory,
        "load": round(os.getloadavg()[0], 1),
    }


def enrolling(server: Server, console: ConsolePublic, count: int) -> dict[str, Any]:
    """`count` new hosts with one token, each over a connection of its own, all at once."""
    from fleetward.adapters.entropy import SystemEntropy
    from fleetward.console.audit.chain import SYSTEM
    from fleetward.console.fleet.models import HostKey as Row
    from fleetward.console.fleet.tokens import TokenWish, make_token, secret_of
    from fleetward.core.enrolment import HostFacts
    from fleetward.identity.enrolment import request_enrolment

    token = secret_of(make_token(SYSTEM, TokenWish(uses=count)).token)
    before = Row.objects.count()
    requests = [
        request_enrolment(
            host_key(1_000_000 + n),
            console,
            token,
            HostFacts(name=f"new-{n}"),
            entropy=SystemEntropy(),
            now=datetime.now(UTC),
        )
        for n in range(count)
    ]
    sent = [post(one.envelope, ENVELOPE_MEDIA_TYPE, "/v1/enroll") for one in requests]
    found = row(f"enrolling, {count} at once", server, count, sent, connections=count)
    assert Row.objects.count() == before + count, "some were not enrolled"
    return found


def asks(keys: list[HostKey], count: int) -> list[bytes]:
    """Requests for inboxes by hosts that have seen all there is."""
    from fleetward.console.fleet.models import Presence

    seen = dict(Presence.objects.values_list("key__key", "inbox_seq"))
    targets = [inbox_target(key.id, seen.get(key.id, 0)) for key in keys]
    return [
        b"GET %b HTTP/1.1\r\nHost: c\r\n\r\n" % targets[n % len(keys)].encode()
        for n in range(count)
    ]


def beside(server: Server, fleet: Fleet, seconds: float) -> list[dict[str, Any]]:
    """A fleet of 50,000 with both at its own rate: a check-in and a look at the inbox a minute."""
    pace = 50_000 / 60
    envelopes = fleet.round(int(pace * seconds))
    posts = [post(one, ENVELOPE_MEDIA_TYPE) for one in envelopes]
    looks = asks(fleet.keys, len(posts))
    before = server.usage()

    async def both() -> tuple[tuple[float, list[float]], tuple[float, list[float]]]:
        return await asyncio.gather(
            send_all(server.url, posts, 128, pace), send_all(server.url, looks, 128, pace)
        )

    found = asyncio.run(both())
    names = ("paced, check-ins beside looks", "paced, inbox looks beside check-ins")
    return [
        told(name, server, len(posts), took[0], took[1], before)
        for name, took in zip(names, found, strict=True)
    ]


def opening(fleet: Fleet, state: Path, count: int, processes: int) -> dict[str, Any]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from fleetward.console.ingest import opening as module

    envelopes = fleet.round(count)
    parts = [envelopes[at : at + 200] for at in range(0, count, 200)]
    paths = (state / "console.key",)
    with ProcessPoolExecutor(processes, get_context("spawn"), module.begin, (paths,)) as pool:
        list(pool.map(module.open_in_process, parts[:processes]))
        began = time.perf_counter()
        list(pool.map(module.open_in_process, parts))
        return {
            "row": f"opening, {processes} processes",
            "check_ins": count,
            "per_second": round(count / (time.perf_counter() - began)),
        }


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from fleetward.console.fleet.keys import console_keys

    state = Path(arguments.state)
    start_django(arguments.db, state)
    console = console_keys()[0].public
    keys = [host_key(n) for n in range(arguments.hosts)]
    populate(keys)
    fleet = Fleet(keys, console)
    server = Server(arguments.db, state, arguments.openers)
    try:
        for name, make in rows_of(arguments, server, fleet, state):
            if not arguments.only or any(word in name for word in arguments.only):
                yield from make()
    finally:
        server.end()
    from fleetward.console.fleet.models import Event, Presence

    assert Presence.objects.count() <= len(keys)
    assert Event.objects.count() <= fleet.events


Make = Callable[[], list[dict[str, Any]]]


def rows_of(
    arguments: argparse.Namespace, server: Server, fleet: Fleet, state: Path
) -> list[tuple[str, Make]]:
    """Every row by its name, in the order in which they are measured."""
    count, pace = arguments.count, 50_000 / 60
    paced = int(pace * arguments.seconds)

    def carried(name: str, number: int, size: int, **how: Any) -> Make:  # noqa: ANN401 (see send_all)
        return lambda: [
            row(
                name,
                server,
                number,
                [post(one, BATCH_MEDIA_TYPE) for one in batches(fleet.round(number), size)],
                **how,
            )
        ]

    def direct(name: str, number: int, **how: Any) -> Make:  # noqa: ANN401 (see send_all)
        return lambda: [
            row(
                name,
                server,
                number,
                [post(one, ENVELOPE_MEDIA_TYPE) for one in fleet.round(number)],
                **how,
            )
        ]

    def looking(name: str, **how: Any) -> Make:  # noqa: ANN401 (see send_all)
        return lambda: [row(name, server, count, asks(fleet.keys, count), **how)]

    made = [
        ("first of each host", carried("first of each host", len(fleet.keys), 500, connections=4)),
        (name := "relay, batches of 500", carried(name, count, 500, connections=8)),
        (name := "relay, batches of 50", carried(name, count, 50, connections=8)),
        (name := "direct, 256 connections", direct(name, count, connections=256)),
        (name := "inbox, 64 connections", looking(name, connections=64)),
        (name := "paced, one a request", direct(name, paced, connections=128, pace=pace)),
        (
            name := "paced, batches of 50",
            carried(name, paced, 50, connections=16, pace=pace / 50),
        ),
        ("paced, with looks", lambda: beside(server, fleet, arguments.seconds)),
    ]
    return [
        ("opening", lambda: [opening(fleet, state, min(count, 10_000), 2)]),
        (
            "enrolling",
            lambda: [enrolling(server, fleet.console, min(2_000, count))],
        ),
        *made,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("act", nargs="?", default="measure", choices=["measure", "serve"])
    parser.add_argument("--db", default="")
    parser.add_argument("--state", default="")
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--openers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleetward-bench-") as folder:
        arguments.state = arguments.state or folder
        arguments.db = arguments.db or f"sqlite:///{folder}/console.db"
        if arguments.act == "serve":
            serve(arguments.db, Path(arguments.state))
            return
        for found in measure(arguments):
            print(json.dumps(found) if arguments.json else found, flush=True)


if __name__ == "__main__":
    threading.stack_size()
    main()
