"""Chained relays: a chain carries a blob once; a loop ends at once, and makes no storm."""

import asyncio
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleetward.core.digest import sha256_of
from fleetward.httpd.limits import ClientLimits
from fleetward.httpd.message import Answer, Repeatable, Request, Response
from fleetward.relay.loops import MAX_HOPS, MAX_VIA_CHARS, Loops, passed_on
from fleetward.wire.layout import blob_path
from httpd.rawhttp import get
from relay.relays import IMPATIENT, PATIENT, Herd, TestRelay, settings_for
from support.fakes import SeededEntropy
from support.sourceserver import source_server

BLOB = b"rule a {condition: true}\n" * 8_000
PATH = "/" + blob_path(sha256_of(BLOB))
ABSENT = "/" + blob_path(sha256_of(b"nobody has this"))


class Door:
    """A port whose other side is set later, so that two relays can name each other."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.leads_to = ""
        self.requests = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            host, _, port = self.leads_to.removeprefix("http://").partition(":")
            server = socket.create_connection((host, int(port)))
            for source, sink, counts in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._carry, args=(source, sink), kwargs={"counts": counts}, daemon=True
                ).start()

    def _carry(self, source: socket.socket, sink: socket.socket, *, counts: bool) -> None:
        try:
            while piece := source.recv(65_536):
                self.requests += piece.count(b"HTTP/1.1\r\n") if counts else 0
                sink.sendall(piece)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                end.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def ring(
    folder: Path, count: int, client: ClientLimits = PATIENT
) -> Iterator[tuple[list[TestRelay], list[Door]]]:
    """Relays of which each has the next as its upstream, and the last the first."""
    doors = [Door() for _ in range(count)]
    with ExitStack() as running:
        relays = [
            running.enter_context(
                TestRelay(settings_for(folder / str(n), doors[(n + 1) % count].url, client=client))
            )
            for n in range(count)
        ]
        for door, relay in zip(doors, relays, strict=True):
            door.leads_to = relay.url
        yield relays, doors
    for door in doors:
        door.close()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_loop_of_relays_ends_in_one_round(tmp_path: Path, count: int) -> None:
    """An operator gives each relay the next one as upstream, and the last one the first."""
    with ring(tmp_path, count) as (relays, doors):
        before = time.monotonic()
        for path in (PATH, "/metadata/7.root.json", "/metadata/timestamp.json"):
            assert get(relays[0].url, path).status in {503, 508}, path
        assert time.monotonic() - before < 3
        assert sum(relay.status()["loops"] for relay in relays) >= 1
        assert all(door.requests < 60 for door in doors)


def test_a_herd_at_a_loop_makes_no_storm(tmp_path: Path) -> None:
    with ring(tmp_path, 2) as (relays, doors):
        herd = Herd(40, lambda: b"%d" % get(relays[0].url, PATH).status)
        assert set(herd.join().got) <= {b"503", b"508"}
        assert all(door.requests < 120 for door in doors)


def test_two_relays_that_begin_at_once_come_free_of_each_other(tmp_path: Path) -> None:
    """Each is asked for the same blob in the same instant, and asks the other for it."""
    with ring(tmp_path, 2, IMPATIENT) as (relays, _):
        herds = [Herd(4, lambda url=relay.url: b"%d" % get(url, PATH).status) for relay in relays]  # type: ignore[misc]
        for herd in herds:
            assert set(herd.join().got) <= {b"503", b"508"}


def test_a_loop_beside_a_good_upstream_does_no_harm(tmp_path: Path) -> None:
    with source_server({PATH[1:]: BLOB}) as origin:
        door = Door()
        with TestRelay(settings_for(tmp_path / "a", door.url, origin.url)) as relay:
            door.leads_to = relay.url
            assert get(relay.url, PATH).body == BLOB
            assert origin.asked.count(PATH[1:]) == 1
        door.close()


def test_a_chain_of_three_carries_a_blob_once(tmp_path: Path) -> None:
    with source_server({PATH[1:]: BLOB}) as origin, ExitStack() as running:
        url, relays = origin.url, []
        for n in range(3):
            relays.append(running.enter_context(TestRelay(settings_for(tmp_path / str(n), url))))
            url = relays[-1].url
        herd = Herd(20, lambda: get(url, PATH).body)
        assert herd.join().got == [BLOB] * 20
        assert origin.asked.count(PATH[1:]) == 1
        assert [relay.status()["loops"] for relay in relays] == [0, 0, 0]
        assert get(url, ABSENT).status == 404


def test_upstream_hears_of_every_relay_on_the_way(tmp_path: Path) -> None:
    heard: list[str] = []
    path = "metadata/3.root.json"
    with source_server({path: b"{}"}) as origin:

        def note(exchange: object) -> None:
            heard.append(exchange.headers["via"])  # type: ignore[attr-defined]
            exchange.usual()  # type: ignore[attr-defined]

        origin.scripts[path] = note
        with (
            TestRelay(settings_for(tmp_path / "a", origin.url)) as first,
            TestRelay(settings_for(tmp_path / "b", first.url)) as second,
        ):
            assert get(second.url, f"/{path}", "Via: 1.1 squid").status == 200
            ids = [relay.status()["id"] for relay in (second, first)]
    assert heard == [f"1.1 squid, 1.1 fleetward-{ids[0]}, 1.1 fleetward-{ids[1]}"]


# -- the decision by itself ----------------------------------------------------------------------


def request(via: str) -> Request:
    return Request("GET", PATH, "", {b"via": via.encode("latin-1")})


def answered(loops: Loops, via: str) -> Response:
    def respond(_: Request) -> Answer:
        return Response(200, passed_on())

    answer = loops.answer(request(via), respond)
    assert isinstance(answer, Response)
    assert answer.headers[-1][1].endswith(f"1.1 fleetward-{loops.id}")
    return answer


def chain(count: int) -> str:
    return ", ".join(f"1.1 fleetward-{n:016x}" for n in range(count))


def test_only_its_own_id_and_too_many_hops_are_refused() -> None:
    loops = Loops((), SeededEntropy())
    ((_, own),) = loops.headers
    for via in ("1.1 nginx", chain(1), chain(MAX_HOPS - 1), own + "f", "1.1 fleetward-x"):
        assert answered(loops, via).headers[0] == ("Via", f"{via}, {own}")
    refused = [own, f"1.1 nginx, {own}", f"{own}, 1.0 x", chain(MAX_HOPS), chain(500)]
    for via in (*refused, "x" * (MAX_VIA_CHARS + 1), "a\rb", "caf\xe9"):
        assert answered(loops, via).status == 508
    assert loops.refused == len(refused) + 3
    assert passed_on() == ()
    assert loops.status() == {"id": loops.id, "loops": loops.refused}
    assert [metric.value for metric in loops.metrics()] == [loops.refused]
    assert Loops(()).id != loops.id


@dataclass
class Above:
    """An upstream that said this."""

    via: bytes = b""


def test_a_relay_from_above_is_refused_since_it_would_wait_for_itself() -> None:
    above = Above()
    loops = Loops([above, Above(b"1.1 varnish")], SeededEntropy())
    assert answered(loops, chain(1)).status == 200
    above.via = chain(2).encode()
    assert answered(loops, chain(1)).status == 508
    assert answered(loops, "1.1 fleetward-00000000000000ff").status == 200
    said = answered(loops, "1.1 nginx").headers[-1]
    assert said == ("Via", f"{chain(2)}, 1.1 fleetward-{loops.id}")
    above.via = chain(500).encode()
    assert len(answered(loops, "1.1 nginx").headers[-1][1]) < MAX_VIA_CHARS


def test_siblings_that_name_each_other_first_both_come_to_the_origin(tmp_path: Path) -> None:
    """Two relays of a site ask each other before the origin, and learn of a release at once."""
    others = {blob_path(sha256_of(b"%d" % n)): b"%d" % n for n in range(6)}
    with source_server(others) as origin:
        doors = [Door(), Door()]
        with (
            TestRelay(settings_for(tmp_path / "a", doors[1].url, origin.url)) as first,
            TestRelay(settings_for(tmp_path / "b", doors[0].url, origin.url)) as second,
        ):
            doors[0].leads_to, doors[1].leads_to = first.url, second.url
            for relay in (first, second):
                get(relay.url, "/metadata/timestamp.json")
            before = time.monotonic()
            for path, content in others.items():
                herds = [
                    Herd(2, lambda url=relay.url, path=path: get(url, f"/{path}").body)  # type: ignore[misc]
                    for relay in (first, second)
                ]
                assert [herd.join().got for herd in herds] == [[content] * 2] * 2
            assert time.monotonic() - before < 5
        for door in doors:
            door.close()


def test_tasks_that_a_request_begins_carry_its_via_and_others_do_not() -> None:
    loops = Loops((), SeededEntropy())
    seen: list[object] = []
    passed = (("Via", f"1.1 a, 1.1 fleetward-{loops.id}"),)

    async def later() -> None:
        seen.append(passed_on())

    async def respond(_: Request) -> Response:
        await asyncio.create_task(later())
        return Response(200, passed_on())

    async def main() -> None:
        answer = loops.answer(request("1.1 a"), respond)
        assert isinstance(answer, Coroutine)
        assert (await asyncio.create_task(answer)).headers[:1] == passed
        await later()
        await loops.run()

    asyncio.run(main())
    assert seen == [passed, ()]
    assert list(loops.routes()) == []


def test_an_answer_from_the_cache_tells_the_chain_like_any_other(tmp_path: Path) -> None:
    """A relay that is answered from the other's memory must not forget that it is a relay."""
    path = "metadata/3.root.json"
    with (
        source_server({path: b"{}"}) as origin,
        TestRelay(settings_for(tmp_path, origin.url)) as relay,
    ):
        own = f"1.1 fleetward-{relay.status()['id']}"
        for _ in range(3):
            assert get(relay.url, f"/{path}", "Via: 1.1 other").headers["via"] == own
        assert "via" not in get(relay.url, f"/{path}").headers


def test_an_answer_is_repeated_while_the_relays_above_are_the_same() -> None:
    above, content = Above(chain(1).encode()), {"is_there": True}
    loops = Loops([above], SeededEntropy())

    def respond(_: Request) -> Answer:
        return Repeatable(Response(200), lambda: content["is_there"])

    answer = loops.answer(request("1.1 other"), respond)
    assert isinstance(answer, Repeatable)
    assert answer.response.headers[-1][1] == f"{chain(1)}, 1.1 fleetward-{loops.id}"
    assert answer.holds()
    above.via = chain(2).encode()
    assert not answer.holds()
    above.via = chain(1).encode()
    content["is_there"] = False
    assert not answer.holds()


def test_a_long_poll_tells_the_chain_and_ends_with_its_client() -> None:
    loops = Loops((), SeededEntropy())

    def begin(future: asyncio.Future[Response]) -> asyncio.Task[Response]:
        answer = loops.answer(request("1.1 other"), lambda _: future)
        assert isinstance(answer, Coroutine)
        return asyncio.create_task(answer)

    async def main() -> None:
        told: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        left: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        first, second = begin(told), begin(left)
        await asyncio.sleep(0)
        told.set_result(Response(204))
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert first.result().headers[-1][1] == f"1.1 fleetward-{loops.id}"
        assert left.cancelled()

    asyncio.run(main())
