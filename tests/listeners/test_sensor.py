"""The sensor on loopback: what it hears, that it says nothing, and what floods cannot do to it."""

import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from queue import Queue
from typing import Self

import pytest
import typer
from typer.testing import CliRunner

from fleetward.adapters.clock import SystemClock
from fleetward.cli import ports_sense
from fleetward.core.listeners import Transport
from fleetward.core.portclass import Classified, TrafficClass
from fleetward.core.portrules import Verdict
from fleetward.errors import ConfigurationError, UsageError
from fleetward.listeners.sensor import hearing
from fleetward.listeners.sensor.hearing import Closing, Manners, Sensor
from fleetward.listeners.sensor.limits import SENSOR, SensorLimits
from fleetward.listeners.sensor.sightings import SensorReport, Sighting, Sightings
from portwatch.payloads import PROBE, STREAMS
from support.fakes import START, FakeClock

HERE = "127.0.0.1"
SENSE = typer.Typer(pretty_exceptions_enable=False)
SENSE.command()(ports_sense.sense)
WAIT = 20
PLAIN = Manners()


class Heard:
    """A sensor in a thread, and what it tells."""

    def __init__(
        self,
        manners: Manners = PLAIN,
        limits: SensorLimits = SENSOR,
        host: str = HERE,
        clock: FakeClock | None = None,
    ) -> None:
        self.told: Queue[Sighting] = Queue()
        self.clock = clock or SystemClock()
        self.sightings = Sightings(self.told.put, self.clock, limits)
        self.sensor = Sensor(self.sightings, self.clock, manners, limits)
        self.address = self.sensor.listen(host, 0)
        self._thread = threading.Thread(target=self.sensor.run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.sensor.stop()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
        self.sensor.close()

    def next(self) -> Sighting:
        return self.told.get(timeout=WAIT)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=WAIT)

    def report(self) -> SensorReport:
        return self.sightings.report("here", self.clock.now(), self.clock.now())


def rest_of(connection: socket.socket) -> bytes:
    """Return all that the other end sends, until it closes."""
    content = b""
    while piece := connection.recv(4_096):
        content += piece
    return content


class TestHearing:
    @pytest.mark.parametrize("kind", STREAMS)
    def test_every_class_is_known_and_nothing_is_answered(self, kind: str) -> None:
        with Heard() as heard, heard.connect() as client:
            client.sendall(STREAMS[kind])
            client.shutdown(socket.SHUT_WR)
            assert rest_of(client) == b""
            seen = heard.next()
        assert (seen.kind.value, seen.ended, seen.source) == (kind, "closed", HERE)
        assert seen.octets == len(STREAMS[kind])

    @pytest.mark.parametrize("kind", ["savce-hello", "gup-request"])
    def test_who_waits_for_an_answer_gets_none_and_is_known(self, kind: str) -> None:
        limits = replace(SENSOR, quiet=timedelta(milliseconds=1))
        with Heard(limits=limits) as heard, heard.connect() as client:
            client.sendall(STREAMS[kind])
            assert rest_of(client) == b""
            seen = heard.next()
        assert (seen.kind.value, seen.ended) == (kind, "silent")

    def test_a_knock_without_a_word(self) -> None:
        with Heard() as heard:
            heard.connect().close()
            assert heard.next().kind is TrafficClass.NO_DATA
            assert heard.report().verdict is Verdict.UNKNOWN

    def test_datagrams(self) -> None:
        with Heard() as heard, socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(0.0)
            for content in (PROBE, b"", b"x" * 9_000):
                client.sendto(content, heard.address)
            seen = [heard.next() for _ in range(3)]
            with pytest.raises(BlockingIOError):
                client.recv(1)
        assert [one.kind.value for one in seen] == ["nmap-probe", "no-data", "other"]
        assert [one.octets for one in seen] == [30, 0, SENSOR.prefix_bytes]
        assert heard.report().verdict is Verdict.SUSPICIOUS

    def test_by_ipv6_and_by_both(self) -> None:
        with Heard(host="::1") as heard:
            heard.connect().close()
            assert heard.next().source == "::1"

    def test_an_ipv4_peer_of_an_ipv6_socket_is_shown_as_ipv4(self) -> None:
        assert hearing._unmapped("::ffff:10.0.0.1") == "10.0.0.1"
        assert hearing._unmapped("fe80::1") == "fe80::1"

    def test_a_port_that_is_taken_says_what_to_do(self) -> None:
        with (
            Heard() as heard,
            closing(Sensor(heard.sightings, heard.clock)) as second,
            pytest.raises(ConfigurationError, match="fleetward ports show"),
        ):
            second.listen(*heard.address)

    def test_an_address_of_another_host(self) -> None:
        with (
            closing(Sensor(Sightings(lambda _: None, FakeClock()), FakeClock())) as sensor,
            pytest.raises(ConfigurationError, match="cannot listen"),
        ):
            sensor.listen("192.0.2.1", 0)

    def test_several_addresses_and_ports_beside_each_other(self) -> None:
        """Both families with one number, and a second port: each sighting says which was asked."""
        with Heard() as heard:
            port = heard.address[1]
            assert heard.sensor.listen("::", port) == ("::", port)
            _, other = heard.sensor.listen(HERE, 0, (Transport.UDP,))
            with socket.create_connection(("::1", port), timeout=WAIT):
                pass
            seen = heard.next()
            assert (seen.source, seen.port, seen.transport) == ("::1", port, Transport.TCP)
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.sendto(PROBE, (HERE, other))
            seen = heard.next()
            assert (seen.source, seen.port, seen.transport) == (HERE, other, Transport.UDP)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HERE, other), timeout=WAIT).close()
            assert [row.port for row in heard.report().rows] == [other, port]

    def test_both_families_by_one_address_on_each_of_two_ports(self) -> None:
        with Heard(host="::") as heard:
            _, other = heard.sensor.listen("::", 0)
            for port in (heard.address[1], other):
                socket.create_connection((HERE, port), timeout=WAIT).close()
                assert (heard.next().source, heard.report().rows[-1].source) == (HERE, HERE)

    def test_an_address_that_fails_leaves_the_others_as_they_are(self) -> None:
        with Heard() as heard:
            with pytest.raises(ConfigurationError):
                heard.sensor.listen("192.0.2.1", 0)
            heard.connect().close()
            assert heard.next().kind is TrafficClass.NO_DATA

    def test_it_ends_by_itself_and_tells_of_what_is_open(self) -> None:
        told: list[Sighting] = []
        sightings = Sightings(told.append, SystemClock())
        with closing(Sensor(sightings, SystemClock())) as sensor:
            address = sensor.listen(HERE, 0)
            with socket.create_connection(address):
                sensor.run(timedelta(milliseconds=300))
        assert [one.ended for one in told] == ["silent"]


class TestEnds:
    def test_a_reset(self) -> None:
        limits = replace(SENSOR, prefix_bytes=4)
        with Heard(Manners(Closing.RST), limits) as heard, heard.connect() as client:
            client.sendall(b"abcd")
            with pytest.raises(ConnectionResetError):
                rest_of(client)
            assert heard.next().ended == "full"

    def test_an_end_without_a_reset_though_more_came(self) -> None:
        limits = replace(SENSOR, prefix_bytes=4)
        with Heard(limits=limits) as heard, heard.connect() as client:
            client.sendall(b"abcdefgh")
            assert rest_of(client) == b""

    def test_a_banner_of_the_operators(self) -> None:
        with Heard(Manners(banner=b"closed\r\n")) as heard, heard.connect() as client:
            client.shutdown(socket.SHUT_WR)
            assert rest_of(client) == b"closed\r\n"


class TestFloods:
    def test_slowloris_loses_its_patience(self) -> None:
        """The attacker opens a connection and sends a byte each time before it falls silent."""
        clock = FakeClock()
        with Heard(clock=clock) as heard, heard.connect() as client:
            client.sendall(b"G")
            for _ in range(200):
                if heard.told.qsize():
                    break
                clock.advance(SENSOR.quiet / 2)
                try:
                    client.sendall(b"E")
                    client.settimeout(0.05)
                    client.recv(1)
                except TimeoutError:
                    continue
                except OSError:
                    break
            assert heard.next().ended == "silent"

    def test_the_oldest_makes_room_for_the_newest(self) -> None:
        limits = replace(SENSOR, connections=4)
        with Heard(limits=limits) as heard:
            clients = [heard.connect() for _ in range(12)]
            assert [heard.next().ended for _ in range(8)] == ["crowded"] * 8
            for client in clients:
                client.close()
            for _ in range(4):
                heard.next()
            report = heard.report()
        assert (report.seen, report.crowded_out) == (12, 8)

    def test_a_huge_payload_is_read_to_its_prefix(self) -> None:
        with Heard() as heard, heard.connect() as client:
            with pytest.raises(OSError):
                while True:
                    client.sendall(bytes(1 << 20))
            assert (seen := heard.next()).ended == "full"
        assert seen.octets == SENSOR.prefix_bytes

    def test_above_its_rate_it_lets_the_kernel_drop(self) -> None:
        clock = FakeClock()
        limits = replace(SENSOR, per_second=3)
        with Heard(limits=limits, clock=clock) as heard:
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                for _ in range(10):
                    client.sendto(PROBE, heard.address)
                for count in (3, 3):
                    for _ in range(count):
                        heard.next()
                    clock.advance(timedelta(seconds=1))
                for _ in range(4):
                    heard.next()
                    clock.advance(timedelta(seconds=1))
            assert heard.report().pauses >= 2

    def test_without_descriptors_it_goes_on(self) -> None:
        """The system gives the sensor no descriptor; it makes room, waits, and hears again."""
        with Heard(clock=FakeClock()) as heard:
            first = heard.connect()
            heard.connect().close()
            heard.next()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            clients = [socket.socket() for _ in range(3)]
            for client in clients:
                client.settimeout(WAIT)
            highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            holes = _fill_descriptors()
            try:
                clients[0].connect(heard.address)
                assert heard.next().ended == "crowded"
                clients[1].connect(heard.address)
                clients[2].connect(heard.address)
            finally:
                for hole in holes:
                    os.close(hole)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for client in (*clients, first):
                client.close()
            assert [heard.next().octets for _ in range(3)] == [0, 0, 0]

    def test_without_descriptors_and_connections_it_waits(self) -> None:
        """Others took all descriptors; the sensor cannot accept, waits a second, and can again."""
        clock = FakeClock()
        with Heard(clock=clock) as heard, socket.socket() as client:
            client.settimeout(WAIT)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            holes = _fill_descriptors()
            try:
                client.connect(heard.address)
                client.sendall(b"x")
                client.shutdown(socket.SHUT_WR)
                client.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    client.recv(1)
            finally:
                for hole in holes:
                    os.close(hole)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            clock.advance(timedelta(seconds=2))
            assert heard.next().octets == 1

    def test_a_peer_that_resets_and_many_in_a_round(self) -> None:
        with Heard(limits=replace(SENSOR, per_round=2)) as heard:
            with heard.connect() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            clients = [heard.connect() for _ in range(6)]
            with socket.socket(type=socket.SOCK_DGRAM) as sender:
                for _ in range(6):
                    sender.sendto(PROBE, heard.address)
            for client in clients:
                client.close()
            kinds = [heard.next().kind.value for _ in range(13)]
        assert sorted(kinds) == ["nmap-probe"] * 6 + ["no-data"] * 7

    def test_two_thousand_connections_at_once(self) -> None:
        with Heard() as heard:
            threads = [threading.Thread(target=_flood, args=(heard.address,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT * 3)
            with heard.connect() as client:
                client.sendall(b"after the flood")
                client.shutdown(socket.SHUT_WR)
                assert rest_of(client) == b""
        report = heard.report()
        assert report.seen == 2_001
        assert report.classes == {"other": 2_001}
        assert heard.told.qsize() + report.untold == 2_001


def _fill_descriptors() -> list[int]:
    taken: list[int] = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        return taken


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        port: int = probe.getsockname()[1]
        return port


def _knock_until_heard(address: tuple[str, int], content: bytes) -> None:
    for _ in range(2_000):
        try:
            with socket.create_connection(address, timeout=WAIT) as client:
                client.sendall(content)
                return
        except ConnectionRefusedError:
            select.select([], [], [], 0.01)


def _flood(address: tuple[str, int]) -> None:
    for _ in range(500):
        with socket.create_connection(address, timeout=WAIT) as client:
            client.sendall(b"\x05\x01\x00")


class TestSums:
    def add(
        self, sightings: Sightings, source: str, kind: TrafficClass = TrafficClass.HTTP
    ) -> None:
        found = Classified(kind, "detail")
        sightings.add(START, (Transport.TCP, 2967), (source, 5), found, (7, "closed"))

    def test_sources_past_the_limit_are_counted_together(self) -> None:
        sightings = Sightings(lambda _: None, FakeClock(), replace(SENSOR, sources=2))
        for n in range(5):
            self.add(sightings, f"10.0.0.{n}")
        report = sightings.report("x", START, START)
        assert [row.source for row in report.rows] == ["10.0.0.0", "10.0.0.1"]
        assert (report.seen, report.more) == (5, {"http": 3})

    def test_what_was_taken_is_not_told_again(self) -> None:
        sightings = Sightings(lambda _: None, FakeClock(), replace(SENSOR, sources=1))
        self.add(sightings, "10.0.0.1")
        self.add(sightings, "10.0.0.2")
        sightings.crowded_out = 3
        first = sightings.take("x", START, START)
        assert (first.seen, first.more, first.crowded_out) == (2, {"http": 1}, 3)
        self.add(sightings, "10.0.0.2")
        again = sightings.take("x", START, START)
        assert [(row.source, row.count) for row in again.rows] == [("10.0.0.2", 1)]
        assert (again.seen, again.more, again.crowded_out) == (1, {}, 0)
        assert sightings.take("x", START, START).verdict is Verdict.EXPECTED

    def test_takes_and_additions_from_two_threads_lose_nothing(self) -> None:
        sightings = Sightings(lambda _: None, FakeClock())
        count, seen = 20_000, 0

        def add_all() -> None:
            for n in range(count):
                self.add(sightings, f"10.0.0.{n % 99}")

        adder = threading.Thread(target=add_all)
        adder.start()
        while adder.is_alive():
            seen += sightings.take("x", START, START).seen
        seen += sightings.take("x", START, START).seen
        assert seen == count

    def test_lines_come_at_a_bounded_rate(self) -> None:
        told: list[Sighting] = []
        clock = FakeClock()
        sightings = Sightings(told.append, clock, replace(SENSOR, lines_per_second=3))
        for _ in range(9):
            self.add(sightings, "10.0.0.1")
        clock.advance(timedelta(seconds=2))
        self.add(sightings, "10.0.0.1")
        assert len(told) == 4
        report = sightings.report("x", START, START)
        assert (report.untold, report.rows[0].count, report.rows[0].octets) == (6, 10, 70)

    def test_the_worst_stands_first(self) -> None:
        sightings = Sightings(lambda _: None, FakeClock())
        for kind in (TrafficClass.FLEETWARD, TrafficClass.NO_DATA, TrafficClass.NMAP_PROBE):
            self.add(sightings, "10.0.0.1", kind)
        report = sightings.report("x", START, START)
        assert [row.kind.value for row in report.rows] == ["nmap-probe", "no-data", "fleetward"]
        assert report.verdict is Verdict.SUSPICIOUS
        assert Sightings(lambda _: None, FakeClock()).report("x", START, START).verdict is (
            Verdict.EXPECTED
        )


@contextmanager
def sensing(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", tuple[str, int]]]:
    command = [sys.executable, "-m", "fleetward", "ports", "sense", "--listen", f"{HERE}:0"]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stderr
        first = program.stderr.readline()
        try:
            assert first.startswith("listening on tcp+udp://"), first + program.stderr.read()
            yield program, (HERE, int(first.rpartition(":")[2]))
        finally:
            program.kill()


class TestCommand:
    def test_json_lines_and_the_sum_at_the_end(self) -> None:
        with sensing("--json") as (program, address):
            assert program.stdout
            with socket.create_connection(address, timeout=WAIT) as client:
                client.sendall(STREAMS["rtvscan-overflow"])
            line = json.loads(program.stdout.readline())
            program.send_signal(signal.SIGTERM)
            last = program.stdout.read()
            assert program.wait(WAIT) == 1
        assert (line["schema"], line["kind"]) == ("fleetward.sighting/1", "rtvscan-overflow")
        assert last.startswith('{"schema":"fleetward.sensor/1"')
        assert json.loads(last)["rows"][0]["next_step"]

    def test_a_table_for_people_after_some_seconds(self, tmp_path: Path) -> None:
        banner = tmp_path / "banner"
        banner.write_text("closed\n")
        with sensing("--seconds", "1", "--close", str(banner)) as (program, address):
            assert program.stdout
            with socket.create_connection(address, timeout=WAIT) as client:
                client.sendall(STREAMS["gup-request"])
                client.shutdown(socket.SHUT_WR)
                assert rest_of(client) == b"closed\n"
            told = program.stdout.read()
            assert program.wait(WAIT) == 0
        assert "gup-request" in told
        assert "1 connections" in told

    def test_it_ends_quietly_when_nobody_reads_its_lines(self) -> None:
        with sensing("--json") as (program, address):
            assert program.stdout
            assert program.stderr
            program.stdout.close()
            with socket.create_connection(address, timeout=WAIT) as client:
                client.sendall(STREAMS["http"])
            assert program.wait(WAIT) == 0
            assert program.stderr.read() == ""

    @pytest.mark.parametrize("close", ["nowhere", "long"])
    def test_what_cannot_be_sent_is_refused(self, close: str, tmp_path: Path) -> None:
        (tmp_path / "long").write_bytes(bytes(2_000))
        ended = subprocess.run(
            [sys.executable, "-m", "fleetward", "ports", "sense", "--listen", f"{HERE}:0",
             "--close", close],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode in (2, 12)
        assert "error:" in ended.stderr

    @pytest.mark.parametrize(
        ("flags", "kind", "code"),
        [([], "http", 0), (["--json"], "rtvscan-overflow", 1), (["--close", "rst"], "other", 0)],
    )
    def test_in_this_process(self, flags: list[str], kind: str, code: int) -> None:
        before = signal.getsignal(signal.SIGTERM)
        address = (HERE, _free_port())
        sender = threading.Thread(target=_knock_until_heard, args=(address, STREAMS[kind]))
        sender.start()
        listen = f"{HERE}:{address[1]}"
        ended = CliRunner().invoke(SENSE, ["--listen", listen, "--seconds", "1.5", *flags])
        sender.join(WAIT)
        assert ended.exit_code == code, ended.output
        assert kind in ended.stdout
        assert ("--json" in flags) or kind in ended.stderr
        assert signal.getsignal(signal.SIGTERM) is before

    def test_refusals_in_this_process(self, tmp_path: Path) -> None:
        long = tmp_path / "long"
        long.write_bytes(bytes(2_000))
        for close, error in ((str(long), UsageError), ("nowhere", ConfigurationError)):
            with pytest.raises(error):
                CliRunner().invoke(SENSE, ["--close", close], catch_exceptions=False)

    def test_it_stays_under_64_mib_whatever_comes(self) -> None:
        """The attacker floods it with connections that stay, huge payloads and datagrams."""
        with sensing("--json", "--close", "rst") as (program, address):
            drain = threading.Thread(target=lambda: program.stdout and program.stdout.read())
            drain.start()
            held = []
            for n in range(1_500):
                client = socket.create_connection(address, timeout=WAIT)
                client.settimeout(0.0)
                try:
                    client.send(bytes([n % 251]) * 4_095)
                except OSError:
                    client.close()
                else:
                    held.append(client)
                if len(held) > 600:
                    held.pop(0).close()
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                for _ in range(5_000):
                    client.sendto(PROBE, address)
            status = Path(f"/proc/{program.pid}/status").read_text()
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            for client in held:
                client.close()
            program.send_signal(signal.SIGTERM)
            drain.join(WAIT)
            assert program.wait(WAIT) == 1
        print(peak)
        assert int(peak.split()[1]) < 64 * 1024
