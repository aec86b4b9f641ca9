"""The hosts list at 50,000 hosts: milliseconds at the server for each filter, SQLite or PostgreSQL.

    PYTHONPATH=tests python -m bench.hosts [--db URL] [--hosts N]

What is measured is the list as the API makes it: the query, 100 rows with site, tags, presence and
products, as JSON; without HTTP, token and network.
"""

# ruff: noqa: PLC0415 (models can be imported only once Django is set up)

import argparse
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from bench.console import SENT, populate, start_django
from support.status import host_key

QUERIES: dict[str, dict[str, object]] = {
    "first page": {},
    "search in names": {"search": "pc-4217"},
    "search without a match": {"search": "nothing-like-it"},
    "one release": {"product": "yara", "release": "2026.11.23-1"},
    "one state": {"state": "rejected"},
    "silent": {"silent": True},
    "cloned": {"cloned": True},
    "unexpected listeners": {"unexpected": True},
    "retired": {"standing": "retired"},
}


def status() -> None:
    from fleetward.console.fleet.models import HostKey, Presence, ProductState

    keys = list(HostKey.objects.order_by("pk").values_list("pk", "host_id"))
    Presence.objects.bulk_create(
        [
            Presence(
                key_id=key,
                epoch=f"{n:016x}",
                greatest_n=1,
                digest="0" * 64,
                first_sent=SENT,
                newest_sent=SENT,
                seen=SENT - (timedelta(hours=1) if n % 500 == 0 else timedelta()),
                received=SENT,
                offset_ms=0,
                measured=SENT,
                unexpected=int(n % 1000 == 0),
                content="0" * 32,
            )
            for n, (key, _) in enumerate(keys)
        ],
        batch_size=500,
    )
    ProductState.objects.bulk_create(
        [
            ProductState(
                host_id=host,
                product=name,
                channel="stable",
                release=f"2026.11.2{4 - (n % 40 == 0)}-1",
                seq=42,
                state="rejected" if n % 2500 == 0 else "confirmed",
                tree="5f" * 16,
                since=SENT,
            )
            for n, (_, host) in enumerate(keys)
            for name in ("clamav", "suricata", "yara")
        ],
        batch_size=500,
    )


def measure() -> None:
    from fleetward.console.access import EVERY_SITE
    from fleetward.console.api.paging import Paging, listing
    from fleetward.console.fleet.queries import HostFilter, hosts, shown
    from fleetward.console.fleet.shapes import HostOut, host_fields

    for name, given in QUERIES.items():
        took = []
        rows = 0
        for _ in range(7):
            began = time.perf_counter()
            found = hosts(EVERY_SITE, HostFilter(**given), SENT)  # type: ignore[arg-type]
            page = listing(shown(found), Paging(), lambda host: HostOut(**host_fields(host, SENT)))
            rows = len(page.model_dump_json() and page.items)
            took.append((time.perf_counter() - began) * 1000)
        print({"query": name, "rows": rows, "ms": round(statistics.median(took), 1)}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", default="")
    parser.add_argument("--hosts", type=int, default=50_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleetward-bench-") as folder:
        start_django(arguments.db or f"sqlite:///{folder}/console.db", Path(folder))
        populate([host_key(n) for n in range(arguments.hosts)])
        status()
        from django.db import connection

        connection.cursor().execute("ANALYZE")
        measure()


if __name__ == "__main__":
    main()
