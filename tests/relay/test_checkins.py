"""What a relay takes in: over TCP and UDP, from honest hosts and from others."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.adapters.compression import compress
from fleetward.config.relay import SpoolSettings
from fleetward.core.limits import STATUS
from fleetward.errors import DiskError
from fleetward.httpd.message import Request, Response
from fleetward.relay.checkins import RESULTS, CheckInPart
from fleetward.relay.commits import Commits
from fleetward.relay.downstream import Downstream, address_of
from fleetward.relay.settings import QUIET, CarryLimits
from fleetward.relay.shares import Fate
from fleetward.relay.spool import Spool
from fleetward.wire.checkins import BATCH_MEDIA_TYPE, milliseconds_of
from httpd.rawhttp import Raw
from httpd.waiting import wait_until
from relay.carriers import SPOOL, batch_of, carrying_relay, carrying_settings, post, post_batch
from relay.relays import TestRelay
from relay.spools import ALL, FOLDER, record
from support.fakes import START, FakeClock
from support.receiver import Receiver
from support.simdisk import SimDisk
from support.status import host_key, sealed

PEER = "192.0.2.1"


class Desk:
    """A check-in part on a simulated disk, with a clock that a test moves."""

    def __init__(
        self,
        settings: SpoolSettings = SPOOL,
        limits: CarryLimits | None = None,
        *,
        is_carried: bool = True,
    ) -> None:
        self.clock = FakeClock()
        self.disk = SimDisk()
        limits = limits or CarryLimits()
        self.spool = Spool(self.disk, FOLDER, settings, limits, self.clock)
        self.commits = Commits(self.spool, limits)
        self.part = CheckInPart(self.commits, settings, limits, self.clock, lambda: is_carried)

    async def post(
        self, body: bytes, media_type: str = "application/json", peer: str = PEER
    ) -> Response:
        (route,) = self.part.routes()
        headers = {b"content-type": media_type.encode()}
        answer = route.answer(Request("POST", route.path, "", headers, body, peer))
        if isinstance(answer, Response):
            return answer
        assert isinstance(answer, Coroutine)
        response: Response = await answer
        return response

    async def datagrams(self, *datagrams: tuple[bytes, str]) -> None:
        """Take datagrams, and wait until each has come to its end."""
        before = self.part.results.total()
        for datagram, peer in datagrams:
            self.part.accept_datagram(datagram, peer)
        while self.part.results.total() < before + len(datagrams):  # noqa: ASYNC110 (counters)
            await asyncio.sleep(0)

    def run(self, story: Callable[["Desk"], Awaitable[None]]) -> dict[str, int]:
        """Run a story while the part works; return what came to what end."""

        async def main() -> None:
            working = asyncio.create_task(self.part.run())
            await self.commits.opened.wait()
            await asyncio.wait_for(story(self), 10)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

        asyncio.run(main())
        return {result: count for result, count in self.part.results.items() if count}


@pytest.fixture
def relay(tmp_path: Path) -> TestRelay:
    return carrying_relay(tmp_path)


# -- over TCP -------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"{}", b"\x00" * 100, sealed(1)[:-1], sealed(1) + b" "])
def test_what_is_no_check_in_is_400(relay: TestRelay, body: bytes) -> None:
    with relay:
        assert post(relay.url, body).status == 400
        assert relay.status()["check_ins"]["malformed"] == 1


def test_a_check_in_may_have_64_kib(relay: TestRelay) -> None:
    with relay:
        long = host_key(1).sign("application/vnd.fleetward.checkin", b"x" * 48_700)
        assert len(long) <= STATUS.envelope_bytes
        assert post(relay.url, long).status == 202
        longer = host_key(1).sign("application/vnd.fleetward.checkin", b"x" * 49_000)
        assert post(relay.url, longer).status == 413
        with Raw(relay.url) as connection:
            connection.send(
                b"POST /v1/checkins HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n"
            )
            assert connection.answer().status == 413


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/vnd.fleetward.checkins"])
def test_other_types_are_415(relay: TestRelay, media_type: str) -> None:
    with relay:
        assert post(relay.url, sealed(1), media_type).status == 415


def test_parameters_and_case_of_the_type_do_not_matter(relay: TestRelay) -> None:
    with relay:
        assert post(relay.url, sealed(1), "Application/JSON; charset=utf-8").status == 202


def test_get_is_405(relay: TestRelay) -> None:
    with relay, Raw(relay.url) as connection:
        answer = connection.get("/v1/checkins")
        assert (answer.status, answer.headers["allow"]) == (405, "post")


def test_a_batch_of_a_relay_is_taken(relay: TestRelay) -> None:
    with relay:
        assert post_batch(relay.url, [sealed(number) for number in range(100)]).status == 202
        assert relay.status()["spool"]["check_ins"] == 100


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        compress(b"nonsense"),
        compress(bytes(50_000_000)),
        batch_of([sealed(1)])[:-4],
        batch_of([sealed(1), b"{}"]),
    ],
)
def test_what_is_no_batch_is_400(relay: TestRelay, body: bytes) -> None:
    with relay:
        assert post(relay.url, body, BATCH_MEDIA_TYPE).status == 400
        assert relay.status()["spool"]["check_ins"] == 0


def test_an_empty_batch_is_nothing(relay: TestRelay) -> None:
    with relay:
        assert post_batch(relay.url, []).status == 202


@pytest.mark.parametrize("received", [0, milliseconds_of(START) + 10**10])
def test_a_relay_downstream_with_a_wrong_clock_changes_no_age(received: int) -> None:
    """Its time of receipt goes to the console as it is; what is too old is this relay's matter."""

    async def story(desk: Desk) -> None:
        assert (
            await desk.post(batch_of([sealed(1)], received=received), BATCH_MEDIA_TYPE)
        ).status == 202
        desk.clock.advance(timedelta(days=6))
        kept = desk.spool.take(1, ALL)
        assert kept
        assert [one.carried.received for one in kept.records] == [received]
        desk.clock.advance(timedelta(days=2))
        late = desk.spool.take(1, ALL)
        assert late
        assert (len(late.records), len(late.expired)) == (0, 1)

    Desk().run(story)


def test_one_address_sends_faster_than_its_rate() -> None:
    async def story(desk: Desk) -> None:
        answers = [await desk.post(sealed(1, n)) for n in range(1, 26)]
        assert [answer.status for answer in answers] == [202] * 21 + [503] * 4
        assert answers[-1].headers == (("Retry-After", "1"),)
        assert (await desk.post(sealed(2), peer="192.0.2.2")).status == 202
        desk.clock.advance(timedelta(seconds=1))
        assert (await desk.post(sealed(1, 30))).status == 202

    assert Desk(replace(SPOOL, check_ins_per_second=2.0)).run(story) == {"kept": 23, "rate": 4}


def test_a_batch_takes_as_many_off_the_rate_as_it_has_check_ins() -> None:
    """A batch larger than the burst is taken too, and then the address waits for long."""

    async def story(desk: Desk) -> None:
        batch = batch_of([sealed(number) for number in range(40)])
        assert (await desk.post(batch, BATCH_MEDIA_TYPE)).status == 202
        desk.clock.advance(timedelta(seconds=9))
        assert (await desk.post(batch, BATCH_MEDIA_TYPE)).status == 503
        desk.clock.advance(timedelta(seconds=9))
        assert (await desk.post(batch, BATCH_MEDIA_TYPE)).status == 202

    assert Desk(replace(SPOOL, check_ins_per_second=2.0)).run(story) == {
        "kept": 40,
        "rate": 1,
        "repeated": 40,
    }


def test_nonsense_that_says_it_is_a_batch_is_counted_against_its_sender() -> None:
    async def story(desk: Desk) -> None:
        answers = [await desk.post(b"nonsense", BATCH_MEDIA_TYPE) for _ in range(30)]
        assert [answer.status for answer in answers] == [400] * 21 + [503] * 9

    Desk(replace(SPOOL, check_ins_per_second=2.0)).run(story)


def test_who_is_downstream() -> None:
    downstream = Downstream(("10.0.0.0/8", "2001:db8::7/128"))
    for peer in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7", "2001:db8::7%eth0"):
        assert peer in downstream
    for peer in ("11.1.2.3", "2001:db8::8", "", "a name", "x" * 100, "é"):
        assert peer not in downstream
    assert "10.1.2.3" not in Downstream(())
    assert address_of("x" * 100) == address_of("é") == ""


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8:7::5"])
def test_relays_downstream_have_no_rate_of_their_own(peer: str) -> None:
    settings = replace(
        SPOOL,
        check_ins_per_second=0.1,
        max_peer_share=0.0000001,
        downstream=("10.0.0.0/8", "2001:db8:7::/48"),
    )

    async def story(desk: Desk) -> None:
        for number in range(200):
            assert (await desk.post(sealed(number), peer=peer)).status == 202
        others = [(await desk.post(sealed(1, n))).status for n in (2, 3, 4)]
        assert others == [202, 202, 503]
        assert (await desk.post(sealed(1, 5), peer="a name")).status == 202

    Desk(settings).run(story)


def test_with_nobody_to_carry_to_nothing_is_taken() -> None:
    async def story(desk: Desk) -> None:
        assert (await desk.post(sealed(1))).status == 503
        await desk.datagrams((sealed(1), PEER))

    assert Desk(is_carried=False).run(story) == {"not-carried": 2}


# -- the disk ------------------------------------------------------------------------------------


def test_nothing_is_promised_on_a_full_disk() -> None:
    async def story(desk: Desk) -> None:
        desk.disk.capacity = 10
        answer = await desk.post(sealed(1))
        assert answer.status == 503
        desk.disk.capacity = None
        assert (await desk.post(sealed(1))).status == 202

    assert Desk().run(story) == {"disk": 1, "kept": 1}


def test_a_promise_waits_for_the_disk() -> None:
    """202 comes after the fsync of content and name, and not before."""

    async def story(desk: Desk) -> None:
        before = len(desk.disk.steps)
        assert (await desk.post(sealed(1))).status == 202
        steps = desk.disk.steps[before:]
        assert steps.index("write") < steps.index("sync") < steps.index("sync_folder")

    Desk().run(story)


def test_many_at_once_share_an_fsync() -> None:
    async def story(desk: Desk) -> None:
        before = desk.disk.steps.count("sync")
        answers = await asyncio.gather(*(desk.post(sealed(number)) for number in range(200)))
        assert {answer.status for answer in answers} == {202}
        assert desk.disk.steps.count("sync") - before <= 3

    Desk().run(story)


def test_a_client_that_leaves_does_not_disturb_the_others() -> None:
    async def story(desk: Desk) -> None:
        leaves = asyncio.create_task(desk.post(sealed(1)))
        stays = asyncio.create_task(desk.post(sealed(2)))
        await asyncio.sleep(0)
        leaves.cancel()
        assert (await stays).status == 202

    Desk().run(story)


def test_more_than_may_wait_for_the_disk_is_told_to_come_again() -> None:
    async def story(desk: Desk) -> None:
        answers = await asyncio.gather(*(desk.post(sealed(number)) for number in range(10)))
        assert [answer.status for answer in answers].count(503) >= 5

    Desk(limits=CarryLimits(max_waiting_bytes=4_000)).run(story)


class StubbornDisk(SimDisk):
    """A disk whose folder cannot be made, for some attempts."""

    attempts = 3

    def listing(self, path: Path) -> list[str]:
        self.attempts -= 1
        if self.attempts > 0:
            raise DiskError("cannot list: input/output error; look at the disk and run it again")
        return super().listing(path)


def test_a_spool_that_cannot_be_opened_is_tried_again_and_ends_nothing() -> None:
    async def main() -> list[list[Fate]]:
        limits = CarryLimits(first_pause=timedelta(milliseconds=1))
        spool = Spool(StubbornDisk(), FOLDER, SPOOL, limits, FakeClock())
        commits = Commits(spool, limits)
        early = asyncio.create_task(commits.append([record(1)]))
        await asyncio.sleep(0)
        working = asyncio.create_task(commits.run())
        fates = [await early]
        fates.append(await commits.append([record(1)]))
        await commits.opened.wait()
        fates.append(await commits.append([record(1)]))
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert spool.counters.disk_errors == 2
        return fates

    assert asyncio.run(main()) == [[Fate.DISK], [Fate.DISK], [Fate.KEPT]]


def test_whoever_waits_when_the_relay_stops_is_not_promised_anything() -> None:
    async def main() -> list[Fate]:
        limits = CarryLimits()
        commits = Commits(Spool(SimDisk(), FOLDER, SPOOL, limits, FakeClock()), limits)
        working = asyncio.create_task(commits.run())
        await commits.opened.wait()
        late = asyncio.create_task(commits.append([record(1)]))
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await asyncio.sleep(0)
        commits._refuse_waiting()
        return await late

    assert asyncio.run(main()) == [Fate.DISK]


# -- over UDP ------------------------------------------------------------------------------------


def test_a_check_in_comes_as_a_datagram() -> None:
    async def story(desk: Desk) -> None:
        await desk.datagrams((sealed(1), PEER), (sealed(2), "2001:db8::1%eth0"))

    desk = Desk()
    assert desk.run(story) == {"kept": 2}
    desk.spool.open()
    taken = desk.spool.take(5, ALL)
    assert taken
    assert [one.source for one in taken.records] == [PEER, "2001:db8::/64"]
    assert [one.carried.peer for one in taken.records] == [PEER, "2001:db8::1"]


def test_hostile_datagrams_change_counters_alone() -> None:
    forged = sealed(1).replace(b'"sig":"', b'"sig":"AAAA')[:-8] + sealed(1)[-8:]
    hostile = [b"", b"{", b"\x00" * 1201, sealed(1)[:-1], b'{"payloadType":[' * 50, forged]

    async def story(desk: Desk) -> None:
        await desk.datagrams(*((datagram, PEER) for datagram in hostile))

    desk = Desk()
    results = desk.run(story)
    assert sum(results.values()) == len(hostile)
    assert set(results) <= {"malformed", "too-long", "forged"}
    assert desk.spool.waiting == 0


@given(st.lists(st.binary(max_size=1300), max_size=20), st.integers(0, 2**32))
def test_any_bytes_from_anywhere_change_counters_alone(junk: list[bytes], seed: int) -> None:
    """Random bytes, and a check-in with random bytes flipped, over UDP and TCP."""
    chance = random.Random(seed)
    whole = sealed(1)
    flipped = bytearray(whole)
    for _ in range(chance.randint(1, 5)):
        flipped[chance.randrange(len(flipped))] ^= chance.randint(1, 255)
    hostile = [*junk, bytes(flipped)] if bytes(flipped) != whole else junk

    async def story(desk: Desk) -> None:
        await desk.datagrams(*((datagram, "203.0.113.9") for datagram in hostile))
        for body in hostile:
            for media_type in ("application/json", BATCH_MEDIA_TYPE):
                assert (await desk.post(body, media_type)).status in {400, 503}

    desk = Desk()
    desk.run(story)
    assert desk.spool.waiting == 0


def test_a_datagram_in_anothers_name_is_dropped() -> None:
    mine, theirs = sealed(1), sealed(2)
    start, end = mine.index(b'"sig":"') + 7, mine.index(b'","key"')
    forged = theirs[:start] + mine[start:end] + theirs[end:]

    async def story(desk: Desk) -> None:
        await desk.datagrams((forged, PEER))

    assert Desk().run(story) == {"forged": 1}


def test_one_sender_floods_by_udp() -> None:
    async def story(desk: Desk) -> None:
        await desk.datagrams(*((sealed(1, n), PEER) for n in range(1, 81)))
        await desk.datagrams((sealed(2), "192.0.2.2"))

    assert Desk().run(story) == {"kept": 51, "rate": 30}


def test_forged_addresses_flood_by_udp() -> None:
    """A thousand addresses in a second: what may be verified in a second is bounded."""
    datagram = sealed(1)

    async def story(desk: Desk) -> None:
        await desk.datagrams(*((datagram, f"198.51.{n // 250}.{n % 250}") for n in range(1000)))

    limits = CarryLimits(all_datagrams_per_second=300.0)
    results = Desk(limits=limits).run(story)
    assert results == {"kept": 1, "repeated": 299, "rate": 700}


def test_the_queue_of_datagrams_is_bounded() -> None:
    async def story(desk: Desk) -> None:
        await desk.datagrams(*((sealed(n), f"198.51.100.{n}") for n in range(30)))

    results = Desk(limits=CarryLimits(max_datagrams=10)).run(story)
    assert results == {"kept": 10, "queue": 20}


def test_a_datagram_reaches_the_console_over_real_sockets(tmp_path: Path) -> None:
    console = Receiver()
    with console.running() as server:
        settings = carrying_settings(tmp_path, server.url)
        push = replace(QUIET, udp=True, group=())
        with (
            TestRelay(replace(settings, push=push)) as relay,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host,
        ):
            wait_until(lambda: bool(relay.status()["datagrams"]["port"]))
            host.connect(("127.0.0.1", urlsplit(relay.url).port))
            for number in range(5):
                host.send(sealed(number))
            host.send(b"{}")
            host.send(b'{"payloadType":1}')
            wait_until(lambda: len(console.stored) == 5)
            wait_until(lambda: relay.status()["check_ins"]["malformed"] == 1)
            host.setblocking(False)  # noqa: FBT003 (the socket's own API)
            with pytest.raises(BlockingIOError):
                host.recv(2000)


def test_the_results_are_a_closed_list() -> None:
    assert len(set(RESULTS)) == len(RESULTS)
    part = Desk().part
    assert set(part.status()["check_ins"]) == set(RESULTS)  # type: ignore[call-overload]
    names = [metric.name for metric in part.metrics()]
    assert names.count("checkins_received_total") == len(RESULTS)
