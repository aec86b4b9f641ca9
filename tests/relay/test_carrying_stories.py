"""P6, told as stories: what hosts said reaches the console as they said it, or its absence is seen.

Real relays, a stand-in console, real sockets.
"""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.config.relay import SpoolSettings
from fleetward.core.limits import MIB
from fleetward.core.status import EventKind
from fleetward.httpd.background import ServerThread
from fleetward.identity.checkins import seal_check_in, verify_inbox
from fleetward.identity.enrolment import (
    EnrolmentToken,
    request_enrolment,
    verify_answer,
)
from fleetward.wire.checkins import CHECKIN_TYPE
from fleetward.wire.envelope import decode_self_signed
from httpd.rawhttp import get
from httpd.waiting import wait_until
from relay.carriers import CARRY, SPOOL, carrying_relay, carrying_settings, post, post_batch
from relay.relays import TestRelay
from support.fakes import START, SeededEntropy
from support.receiver import Receiver
from support.status import CONSOLE, FACTS, event, host_key, sealed, usual

HOST = host_key(1)


def test_a_check_in_reaches_the_console_as_the_host_said_it(tmp_path: Path) -> None:
    console = Receiver()
    said = usual(HOST, 1, events=(event(1), event(2, EventKind.DRIFT)))
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        answer = post(relay.url, seal_check_in(said, HOST, CONSOLE.public))
        assert answer.status == 202
        wait_until(lambda: len(console.stored) == 1)
        assert console.stored[HOST.id, said.epoch, 1] == said
        assert console.carried[0].peer == "127.0.0.1"
        assert console.carried[0].hops == 1
        wait_until(lambda: relay.status()["spool"]["check_ins"] == 0)


def test_a_host_may_ask_the_console_with_the_same_request() -> None:
    console = Receiver()
    with console.running() as server:
        assert post(server.url, sealed(1)).status == 202
        assert console.numbers(HOST.id) == [1]


def test_the_attacker_forges_a_signature(tmp_path: Path) -> None:
    """The attacker knows a host's key and id, and has no private key; nothing reaches the console."""
    console = Receiver()
    forged = json.loads(sealed(1))
    forged["signatures"][0]["sig"] = json.loads(sealed(2))["signatures"][0]["sig"]
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        body = json.dumps(forged, separators=(",", ":")).encode()
        assert post(relay.url, body).status == 400
        assert post(relay.url, sealed(3)).status == 202
        wait_until(lambda: len(console.stored) == 1)
        assert console.numbers(HOST.id) == []
        assert relay.status()["check_ins"]["forged"] == 1


def test_the_attacker_names_a_host_that_is_not_his_key(tmp_path: Path) -> None:
    other = json.loads(sealed(1))
    other["signatures"][0]["keyid"] = host_key(2).id
    with carrying_relay(tmp_path) as relay:
        body = json.dumps(other, separators=(",", ":")).encode()
        assert post(relay.url, body).status == 400
        assert relay.status()["check_ins"]["malformed"] == 1


def test_the_attacker_passes_anothers_words_off_as_his_own(tmp_path: Path) -> None:
    """A host's seal is signed again by the attacker's key. The relay carries it; the console sees."""
    console = Receiver()
    seal = decode_self_signed(sealed(1), 65536, CHECKIN_TYPE).payload
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        assert post(relay.url, host_key(2).sign(CHECKIN_TYPE, seal)).status == 202
        wait_until(lambda: console.results["forged"] == 1)
        assert console.stored == {}


def test_the_relay_alters_a_byte() -> None:
    """The relay is taken over and changes what it carries: the console refuses each such check-in."""
    console = Receiver()
    envelope = bytearray(sealed(1))
    at = envelope.index(b'"payload":"') + 60
    envelope[at] = ord("A") if envelope[at] != ord("A") else ord("B")
    with console.running() as server:
        assert post_batch(server.url, [bytes(envelope), sealed(2)]).status == 202
    assert console.results == {"forged": 1, "stored": 1}


def test_the_relay_drops_a_check_in() -> None:
    """The relay is taken over and leaves one away: the console sees the gap in n."""
    console = Receiver()
    with console.running() as server:
        post_batch(server.url, [sealed(1, n) for n in (1, 2, 4, 5)])
    assert console.gaps(HOST.id) == [3]


def test_a_replayed_check_in_changes_nothing(tmp_path: Path) -> None:
    """Somebody sends a captured check-in again, before and after it was carried."""
    console = Receiver()
    envelope = sealed(1)
    console.away.set()
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        assert post(relay.url, envelope).status == 202
        assert post(relay.url, envelope).status == 202
        assert relay.status()["check_ins"]["repeated"] == 1
        console.away.clear()
        wait_until(lambda: relay.status()["spool"]["check_ins"] == 0)
        assert post(relay.url, envelope).status == 202
        wait_until(lambda: console.results["repeated"] == 1)
        assert len(console.stored) == 1


def large(number: int, n: int) -> bytes:
    """A check-in of about 60 kB."""
    detail = "x" * 190
    events = tuple(replace(event(e), subject=detail) for e in range(1, 130))
    return sealed(number, n, events=events)


def test_one_host_floods_while_others_get_through(tmp_path: Path) -> None:
    """The console is away for a day. One host's agent is broken and sends without end."""
    console = Receiver()
    console.away.set()
    spool = replace(SPOOL, max_bytes=4 * MIB, max_share=0.1, max_peer_share=1.0)
    with console.running() as server, carrying_relay(tmp_path, server.url, spool=spool) as relay:
        statuses = [post(relay.url, large(1, n)).status for n in range(1, 30)]
        assert statuses[0] == 202
        assert statuses[-1] == 503
        for number in range(2, 12):
            assert post(relay.url, sealed(number)).status == 202
        console.away.clear()
        wait_until(lambda: relay.status()["spool"]["check_ins"] == 0)
    assert {host for host, _, _ in console.stored} == {host_key(n).id for n in range(1, 12)}


def test_a_full_spool_says_when_to_come_again(tmp_path: Path) -> None:
    console = Receiver()
    console.away.set()
    spool = replace(SPOOL, max_bytes=MIB, max_share=1.0, max_peer_share=1.0)
    with console.running() as server, carrying_relay(tmp_path, server.url, spool=spool) as relay:
        answers = [post(relay.url, large(n, 1)) for n in range(40)]
        assert answers[-1].status == 503
        assert answers[-1].headers["retry-after"] == "30"
        assert relay.status()["check_ins"]["full"] >= 1
        console.away.clear()
        wait_until(lambda: relay.status()["spool"]["check_ins"] == 0)
        assert post(relay.url, sealed(99)).status == 202


def test_two_relays_in_a_chain_carry_to_the_console(tmp_path: Path) -> None:
    """The second relay's upstream is the first; only the first knows the console."""
    console = Receiver()
    with (
        console.running() as server,
        carrying_relay(tmp_path / "one", server.url) as one,
        carrying_relay(tmp_path / "two", upstream=one.url) as two,
    ):
        for number in range(20):
            assert post(two.url, sealed(number)).status == 202
        wait_until(lambda: len(console.stored) == 20)
        assert {carried.hops for carried in console.carried} == {2}
        assert two.status()["forwarding"]["forwarded"] == 20


def test_one_host_over_its_share_does_not_stop_a_chain(tmp_path: Path) -> None:
    """The first relay is nearly full of one host; the second one's batches still go through it."""
    console = Receiver()
    console.away.set()
    spool = replace(SPOOL, max_bytes=4 * MIB, max_share=0.000001)
    with (
        console.running() as server,
        carrying_relay(tmp_path / "one", server.url, spool=spool) as one,
        carrying_relay(tmp_path / "two", upstream=one.url) as two,
    ):
        while post(one.url, large(1, one.status()["spool"]["check_ins"] + 1)).status == 202:
            pass
        assert post(two.url, large(1, 1000)).status == 202
        assert post(two.url, sealed(2)).status == 202
        wait_until(lambda: two.status()["spool"]["check_ins"] == 0)
        console.away.clear()
        wait_until(lambda: console.numbers(host_key(2).id) == [1])
        assert 1000 not in console.numbers(HOST.id)
        assert console.gaps(HOST.id) == []


def test_a_check_in_that_went_through_too_many_relays_is_dropped(tmp_path: Path) -> None:
    with carrying_relay(tmp_path / "one") as one:
        envelopes = [sealed(number) for number in range(3)]
        assert post_batch(one.url, envelopes, hops=8).status == 202
        assert one.status()["check_ins"]["looped"] == 3
        assert one.status()["spool"]["check_ins"] == 0


def test_relays_that_name_each_other_do_not_carry_for_ever(tmp_path: Path) -> None:
    """Two relays have each other as upstream, and no console: nothing goes round, nothing is lost.

    The second one finds the circle out with its first batch. What it has waits for a console, and
    hosts are told to go elsewhere.
    """
    with Receiver().running() as placeholder:
        url = placeholder.url
    with carrying_relay(tmp_path / "one", upstream=url) as one:
        back = carrying_settings(tmp_path / "two", upstream=one.url)
        with TestRelay(replace(back, port=int(url.rpartition(":")[2]))) as two:
            assert post(one.url, sealed(1)).status == 202
            wait_until(lambda: "508" in two.status()["forwarding"]["problem"])
            assert one.status()["spool"]["check_ins"] == 0
            assert two.status()["spool"]["check_ins"] == 1
            assert one.status()["loops"] >= 1
            assert [relay.status()["check_ins"]["looped"] for relay in (one, two)] == [0, 0]
            assert post(two.url, sealed(2)).status == 503


def test_an_acknowledgement_comes_back_through_the_relay(tmp_path: Path) -> None:
    console = Receiver()
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        post(relay.url, sealed(1, events=(event(1), event(2))))
        wait_until(lambda: len(console.stored) == 1)
        inbox = console.acknowledge(HOST.id, 1, 2)
        answer = get(relay.url, f"/v1/inbox/{HOST.id}?after=0")
        assert answer.status == 200
        trusted = [CONSOLE.public.signing]
        assert verify_inbox(answer.body, HOST.id, trusted, seen=0, now=START) == inbox


def test_a_host_is_enrolled_through_two_relays(tmp_path: Path) -> None:
    token = EnrolmentToken.make(SeededEntropy(3))
    console = Receiver(tokens={token.id: token})
    asked = request_enrolment(
        HOST, CONSOLE.public, token, FACTS, entropy=SeededEntropy(), now=START
    )
    with (
        console.running() as server,
        carrying_relay(tmp_path / "one", server.url) as one,
        carrying_relay(tmp_path / "two", upstream=one.url) as two,
    ):
        answer = post(two.url, asked.envelope, path="/v1/enroll")
        assert answer.status == 200
        said = verify_answer(answer.body, asked.request, [CONSOLE.public.signing])
        assert said.record == "record-1"
        assert b"via" in console.last_headers


def test_a_restarted_relay_carries_what_it_promised(tmp_path: Path) -> None:
    console = Receiver()
    console.away.set()
    with console.running() as server:
        with carrying_relay(tmp_path, server.url) as relay:
            for number in range(30):
                assert post(relay.url, sealed(number)).status == 202
        console.away.clear()
        with carrying_relay(tmp_path, server.url):
            wait_until(lambda: len(console.stored) == 30)


def test_a_relay_without_anybody_to_carry_to_sends_hosts_elsewhere(tmp_path: Path) -> None:
    """The upstream is an origin, which has no place for check-ins: 404. Hosts try the next relay."""

    class Origin(Receiver):
        pass

    origin = Origin()
    origin.answers.extend([404] * 10_000)
    with origin.running() as server, carrying_relay(tmp_path, upstream=server.url) as relay:
        assert post(relay.url, sealed(1)).status == 202
        wait_until(lambda: not relay.status()["forwarding"]["is_carried"])
        assert post(relay.url, sealed(2)).status == 503
        origin.answers.clear()
        wait_until(lambda: relay.status()["forwarding"]["is_carried"])
        assert post(relay.url, sealed(2)).status == 202
        wait_until(lambda: len(origin.stored) == 2)


@pytest.mark.parametrize("status", [500, 503, 403, 429, 301, 404])
def test_a_console_that_is_away_loses_nothing(tmp_path: Path, status: int) -> None:
    console = Receiver()
    console.answers.extend([status] * 3)
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        assert post(relay.url, sealed(1)).status == 202
        wait_until(lambda: len(console.stored) == 1)
        assert relay.status()["forwarding"]["failures"] == 3


def test_a_console_that_starts_later_gets_everything(tmp_path: Path) -> None:
    with Receiver().running() as placeholder:
        url = placeholder.url
    port = int(url.rpartition(":")[2])
    with carrying_relay(tmp_path, url) as relay:
        for n in range(1, 6):
            assert post(relay.url, sealed(1, n)).status == 202
        wait_until(lambda: relay.status()["forwarding"]["failures"] >= 1)
        console = Receiver()
        with ServerThread(console, port=port):
            wait_until(lambda: console.numbers(HOST.id) == [1, 2, 3, 4, 5])


def test_the_usual_settings_wait_for_others_to_share_a_batch(tmp_path: Path) -> None:
    """A hundred hosts check in within a moment: the console gets a few requests, not a hundred."""
    console = Receiver()
    spool = replace(SPOOL, delay=timedelta(milliseconds=200))
    with console.running() as server, carrying_relay(tmp_path, server.url, spool=spool) as relay:
        for number in range(100):
            assert post(relay.url, sealed(number)).status == 202
        wait_until(lambda: len(console.stored) == 100)
        assert console.requests["/v1/checkins"] <= 20


def test_the_defaults_are_what_the_documentation_says() -> None:
    assert SpoolSettings().delay == timedelta(seconds=2)
    assert CARRY.max_hops == 8
