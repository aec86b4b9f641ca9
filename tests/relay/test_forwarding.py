"""What leaves the spool, and when: only what the console took, or refused for good."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.httpd.background import ServerThread
from fleetward.httpd.message import Request, Response
from fleetward.relay.forwarding import Verdict, verdict_of
from httpd.rawhttp import get
from httpd.waiting import wait_until
from relay.carriers import CARRY, SPOOL, carrying_relay, post
from relay.relays import TestRelay
from support.receiver import Receiver
from support.status import host_key, sealed

HOST = host_key(1)
PATIENT = replace(CARRY, first_pause=timedelta(milliseconds=50), max_pause=timedelta(seconds=5))


def filled(relay: TestRelay, console: Receiver, envelopes: list[bytes]) -> None:
    """Let check-ins wait until all are there, so that they leave in one batch."""
    console.away.set()
    for envelope in envelopes:
        assert post(relay.url, envelope).status == 202
    console.away.clear()


def empty(relay: TestRelay) -> bool:
    return bool(relay.status()["spool"]["check_ins"] == 0)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.TAKEN),
        (202, Verdict.TAKEN),
        (400, Verdict.REFUSED),
        (413, Verdict.REFUSED),
        (422, Verdict.REFUSED),
        *((status, Verdict.LATER) for status in (301, 401, 403, 404, 415, 429, 500, 503)),
    ],
)
def test_what_a_status_means(status: int, verdict: Verdict) -> None:
    assert verdict_of(status) is verdict


def test_one_poisoned_check_in_is_set_aside_and_the_others_go_on(tmp_path: Path) -> None:
    """The console cannot read one check-in (a bug of its own). The relay finds which by halving."""
    console = Receiver()
    envelopes = [sealed(1, n) for n in range(1, 41)]
    poison = envelopes[22]
    console.refuses = lambda envelope: envelope == poison
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        filled(relay, console, envelopes)
        wait_until(lambda: empty(relay))
        assert console.numbers(HOST.id) == [n for n in range(1, 41) if n != 23]
        assert relay.status()["spool"]["aside"] == 1
        (kept,) = (tmp_path / "spool" / "aside").iterdir()
        assert kept.read_bytes() == poison
        assert console.requests["/v1/checkins"] < 40


def test_a_console_that_refuses_everything_is_not_believed_at_once(tmp_path: Path) -> None:
    """A new version of the console is broken and answers 400 to all; then it is put right."""
    console = Receiver()
    broken = [True]
    console.refuses = lambda _: broken[0]
    with (
        console.running() as server,
        carrying_relay(tmp_path, server.url, carry=replace(PATIENT, refusals=1000)) as relay,
    ):
        filled(relay, console, [sealed(1, n) for n in range(1, 31)])
        wait_until(lambda: relay.status()["forwarding"]["failures"] >= 3)
        assert relay.status()["spool"]["check_ins"] == 30
        broken[0] = False
        wait_until(lambda: empty(relay))
        assert console.gaps(HOST.id) == []
        assert relay.status()["spool"]["aside"] == 0


def test_a_console_that_refuses_for_long_does_not_block_for_ever(tmp_path: Path) -> None:
    console = Receiver()
    console.refuses = lambda envelope: envelope in poisoned
    poisoned = [sealed(1, n) for n in range(1, 12)]
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        filled(relay, console, poisoned)
        wait_until(lambda: empty(relay))
        assert relay.status()["spool"]["aside"] == 11
        assert post(relay.url, sealed(1, 99)).status == 202
        wait_until(lambda: console.numbers(HOST.id) == [99])


def test_an_origin_as_upstream_loses_nothing(tmp_path: Path) -> None:
    """The upstream is `origin serve`, which takes no bodies: 413 to everything.

    Nothing is set aside, hosts are sent elsewhere, and once the upstream is a relay all goes on.
    """
    console = Receiver()
    console.answers.extend([413] * 100_000)
    with (
        console.running() as server,
        carrying_relay(tmp_path, upstream=server.url, carry=replace(CARRY, refusals=2)) as relay,
    ):
        for n in (1, 2, 3):
            assert post(relay.url, sealed(1, n)).status in {202, 503}
        wait_until(lambda: relay.status()["forwarding"]["failures"] >= 4)
        wait_until(lambda: not relay.status()["forwarding"]["is_carried"])
        assert post(relay.url, sealed(2)).status == 503
        assert relay.status()["spool"]["aside"] == 0
        console.answers.clear()
        wait_until(lambda: empty(relay))
        assert 1 in console.numbers(HOST.id)
        assert relay.status()["spool"]["aside"] == 0
        assert relay.status()["forwarding"]["is_carried"]


def test_a_console_that_is_put_right_in_the_middle_of_a_search_loses_nothing(
    tmp_path: Path,
) -> None:
    """Halving has found the first to be refused, then a good version of the console starts."""
    broken = [4]

    def refuses(envelope: bytes) -> bool:
        return broken[0] > 0

    class Mended(Receiver):
        def _take(self, request: Request) -> Response:
            broken[0] -= 1
            return super()._take(request)

    console = Mended(refuses=refuses)
    with ServerThread(console) as server, carrying_relay(tmp_path, server.url) as relay:
        filled(relay, console, [sealed(1, n) for n in range(1, 9)])
        wait_until(lambda: empty(relay))
        assert sorted(console.numbers(HOST.id)) == list(range(1, 9))
        assert relay.status()["spool"]["aside"] == 0


def test_a_check_in_that_is_too_long_for_the_console_is_set_aside(tmp_path: Path) -> None:
    """It is alone, the console answers 413, and takes an empty batch: so it is this one's fault."""

    class Narrow(Receiver):
        def _take(self, request: Request) -> Response:
            return Response(413) if len(request.body) > 600 else super()._take(request)

    console = Narrow()
    with (
        ServerThread(console) as server,
        carrying_relay(tmp_path, server.url, carry=replace(CARRY, refusals=2)) as relay,
    ):
        assert post(relay.url, sealed(1)).status == 202
        wait_until(lambda: relay.status()["spool"]["aside"] == 1)
        assert empty(relay)


def test_the_order_of_a_host_is_kept(tmp_path: Path) -> None:
    console = Receiver()
    spool = replace(SPOOL, batch=7)
    with console.running() as server, carrying_relay(tmp_path, server.url, spool=spool) as relay:
        filled(relay, console, [sealed(host, n) for n in range(1, 31) for host in (1, 2)])
        wait_until(lambda: len(console.stored) == 60)
        for host in (1, 2):
            assert console.numbers(host_key(host).id) == list(range(1, 31))
        assert console.requests["/v1/checkins"] >= 9


def test_the_console_dies_after_it_stored_and_before_it_answered(tmp_path: Path) -> None:
    """The same batch comes again; the console keeps one of each."""
    console = Receiver()
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        store = console._take

        def dies(request: Request) -> Response:
            store(request)
            console._take = store  # type: ignore[method-assign]
            raise RuntimeError("the console's process ends here")

        console._take = dies  # type: ignore[method-assign]
        assert post(relay.url, sealed(1)).status == 202
        wait_until(lambda: empty(relay))
        assert console.results == {"stored": 1, "repeated": 1}


def test_a_slow_console_is_given_up_and_asked_again(tmp_path: Path) -> None:
    console = Receiver(hold=threading.Event())
    carry = replace(CARRY, answer_seconds=0.1)
    with console.running() as server, carrying_relay(tmp_path, server.url, carry=carry) as relay:
        assert post(relay.url, sealed(1)).status == 202
        wait_until(lambda: relay.status()["forwarding"]["failures"] >= 1)
        assert "time" in relay.status()["forwarding"]["problem"]
        assert console.hold
        console.hold.set()
        wait_until(lambda: empty(relay))
        assert len(console.stored) == 1


def test_the_console_says_how_long_to_wait(tmp_path: Path) -> None:
    """A console that is being restarted asks for a pause; it is not asked before."""

    class Busy(Receiver):
        def _answer(self, request: Request) -> Response:
            self.requests["all"] += 1
            return Response(503, (("Retry-After", "3600"),))

    console = Busy()
    with (
        ServerThread(console) as server,
        carrying_relay(tmp_path, server.url, carry=PATIENT) as relay,
    ):
        assert post(relay.url, sealed(1)).status == 202
        wait_until(lambda: relay.status()["forwarding"]["failures"] == 1)
        assert post(relay.url, sealed(2)).status == 202
        assert console.requests["all"] == 1


def test_metrics_and_status_tell_of_it(tmp_path: Path) -> None:
    console = Receiver()
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        post(relay.url, sealed(1))
        wait_until(lambda: empty(relay))
        assert relay.status()["forwarding"]["to"] == [server.url]
        text = get(relay.url, "/metrics").body.decode()
    for line in (
        "fleetward_relay_forwarded_total 1",
        'fleetward_relay_checkins_received_total{result="kept"} 1',
        "fleetward_relay_spool_bytes 0",
        "fleetward_relay_spool_checkins 0",
    ):
        assert line in text
