"""Check-ins per second that a console takes, signatures verified, seals opened, rows durable.

    PYTHONPATH=tests python -m bench.console [--db URL] [--hosts N] [--seconds S] [--openers P] [--json]

Rows: `relay`, batches as relays send them (500 in one zstd frame); `direct`, one envelope a
request over kept connections; `paced`, the fleet's own rate (every host once a minute, in batches
of what a second brings), with the time from request to durable answer; `opening`, what two
processes verify and open with nothing stored; `enrol`, hosts enrolling at once.
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


async def post_all(
    url: str,
    bodies: list[bytes],
    kind: str,
    connections: int,
    pace: float | None = None,
    path: str = "/v1/checkins",
) -> tuple[float, list[float]]:
    """Post every body once; return seconds in all and for each. `pace` is bodies a second."""
    host, port = url.removeprefix("http://").split(":")
    waiting = iter(enumerate(bodies))
    took: list[float] = []
    began = time.perf_counter()

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for place, body in waiting:
            due = began
            if pace:
                due = began + place / pace
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            start = due if pace else time.perf_counter()
            writer.write(
                b"POST %b HTTP/1.1\r\nHost: c\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
                % (path.encode(), kind.encode(), len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if status == 200:
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                answer = json.loads(await reader.readexactly(length))
                if path == "/v1/checkins":
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

    def usage(self) -> tuple[float, float]:
        """CPU seconds and MiB of the server and the processes that it started."""
        import psutil

        own = psutil.Process(self.process.pid)
        every = [own, *own.children(recursive=True)]
        cpu = sum(sum(p.cpu_times()[:2]) for p in every)
        return cpu, round(sum(p.memory_info().rss for p in every) / 2**20, 1)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def row(name: str, server: Server, count: int, bodies: list[bytes], **how: Any) -> dict[str, Any]:  # noqa: ANN401 (see post_all)
    cpu = server.usage()[0]
    seconds, took = asyncio.run(post_all(server.url, bodies, **how))
    used, memory = server.usage()
    return {
        "row": name,
        "check_ins": count,
        "per_second": round(count / seconds),
        "server_cpu_us_each": round((used - cpu) / count * 1e6),
        "ms": {p: percentile(took, s) for p, s in (("50", 0.5), ("99", 0.99), ("max", 1.0))},
        "rss_mib": memory,
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
    bodies = [
        request_enrolment(
            host_key(1_000_000 + n),
            console,
            token,
            HostFacts(name=f"new-{n}"),
            entropy=SystemEntropy(),
            now=datetime.now(UTC),
        ).envelope
        for n in range(count)
    ]
    how = {"kind": ENVELOPE_MEDIA_TYPE, "connections": count, "path": "/v1/enroll"}
    found = row(f"enrolling, {count} at once", server, count, bodies, **how)
    assert Row.objects.count() == before + count, "some were not enrolled"
    return found


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


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from fleetward.console.fleet.keys import console_keys

    state = Path(arguments.state)
    start_django(arguments.db, state)
    console = console_keys()[0].public
    keys = [host_key(n) for n in range(arguments.hosts)]
    populate(keys)
    fleet = Fleet(keys, console)
    count = arguments.count
    found = [opening(fleet, state, min(count, 10_000), 2)]
    server = Server(arguments.db, state, arguments.openers)
    try:
        found.append(enrolling(server, console, min(2_000, arguments.count)))
        first = batches(fleet.round(len(keys)))
        found.append(
            row(
                "first of each host", server, len(keys), first, kind=BATCH_MEDIA_TYPE, connections=4
            )
        )
        for name, size in (("relay, batches of 500", 500), ("relay, batches of 50", 50)):
            bodies = batches(fleet.round(count), size)
            found.append(row(name, server, count, bodies, kind=BATCH_MEDIA_TYPE, connections=8))
        envelopes = fleet.round(count)
        found.append(
            row(
                "direct, one a request, 256 connections",
                server,
                count,
                envelopes,
                kind=ENVELOPE_MEDIA_TYPE,
                connections=256,
            )
        )
        pace = 50_000 / 60
        envelopes = fleet.round(int(pace * arguments.seconds))
        found.append(
            row(
                "paced, 50,000 hosts a minute, one a request",
                server,
                len(envelopes),
                envelopes,
                kind=ENVELOPE_MEDIA_TYPE,
                connections=128,
                pace=pace,
            )
        )
        relays = fleet.round(int(pace * arguments.seconds))
        found.append(
            row(
                "paced, 50,000 hosts a minute, batches of 50",
                server,
                len(relays),
                batches(relays, 50),
                kind=BATCH_MEDIA_TYPE,
                connections=16,
                pace=pace / 50,
            )
        )
    finally:
        server.end()
    from fleetward.console.fleet.models import Event, Presence

    assert Presence.objects.count() == len(keys), "a host is missing"
    assert Event.objects.count() <= fleet.events
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("act", nargs="?", default="measure", choices=["measure", "serve"])
    parser.add_argument("--db", default="")
    parser.add_argument("--state", default="")
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--openers", type=int, default=2)
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
