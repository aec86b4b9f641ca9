"""A chain of relays with a console that fails in every way: each check-in arrives once, in order.

The seed is printed. `make slow` goes on for longer.
"""

import random
import threading
from pathlib import Path

import pytest

from fleetward.config.relay import SpoolSettings
from fleetward.httpd.background import ServerThread
from fleetward.httpd.message import Request, Response
from httpd.rawhttp import Raw
from httpd.waiting import wait_until
from relay.carriers import SPOOL, carrying_relay, post_on
from relay.relays import TestRelay
from support.receiver import Receiver
from support.status import host_key, sealed

SEED = random.SystemRandom().randrange(1 << 32)


class Moody(Receiver):
    """Stores and then fails, fails and does not store, or does what it should.

    Attributes:
        is_calm: from now on it does what it should.
    """

    def begin(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.is_calm = False
        self.moods = 0

    def _take(self, request: Request) -> Response:
        mood = "well" if self.is_calm else self.chance.choice(["well", "well", "late", "no", "die"])
        self.moods += mood != "well"
        if mood == "no":
            return Response(self.chance.choice([429, 500, 503, 404]))
        answer = super()._take(request)
        if mood == "die":
            raise RuntimeError("the console's process ends here")
        return Response(503) if mood == "late" else answer


def reports(url: str, number: int, count: int, failures: list[str]) -> None:
    """A host that checks in `count` times, each until it is promised."""
    try:
        with Raw(url) as connection:
            for n in range(1, count + 1):
                envelope = sealed(number, n)
                while post_on(connection, envelope).status != 202:
                    pass
    except (OSError, EOFError) as error:
        failures.append(f"host {number}: {error}")


def storm(folder: Path, hosts: int, count: int, spool: SpoolSettings = SPOOL) -> None:
    print("seed", SEED)
    console = Moody()
    console.begin(SEED)
    failures: list[str] = []
    with (
        ServerThread(console) as server,
        carrying_relay(folder / "one", server.url, spool=spool) as one,
        carrying_relay(folder / "two", upstream=one.url, spool=spool) as two,
    ):
        threads = [
            threading.Thread(
                target=reports, args=((one, two)[number % 2].url, number, count, failures)
            )
            for number in range(hosts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        console.is_calm = True
        wait_until(lambda: is_empty(two) and is_empty(one))
    print(f"{console.moods} moods, {dict(console.results)}")
    for number in range(hosts):
        assert console.numbers(host_key(number).id) == list(range(1, count + 1))
    assert console.results["forged"] == console.results["malformed"] == 0


def is_empty(relay: TestRelay) -> bool:
    return bool(relay.status()["spool"]["check_ins"] == 0)


def test_each_check_in_arrives_once_and_in_order(tmp_path: Path) -> None:
    storm(tmp_path, hosts=6, count=25)


@pytest.mark.slow
def test_each_of_many_check_ins_arrives_once_and_in_order(tmp_path: Path) -> None:
    storm(tmp_path, hosts=20, count=400)
