"""Announcements on a host: off unless asked for, and a datagram can ring and nothing else."""

import socket
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from fleetward.adapters.datagram import Destination, open_receiver, send
from fleetward.agent.hearing import READ_AT_ONCE, REST, Ears, hear_in_thread
from fleetward.config.agent import PushSettings
from fleetward.config.strict import parse_settings
from fleetward.errors import ConfigurationError
from fleetward.wire.announcement import MAX_VERSION
from httpd.rawhttp import DEADLINE
from support.fakes import FakeClock
from support.timestamps import timestamp

LOOPBACK = PushSettings(announcements=True, listen=("127.0.0.1", "::1"), port=0)


@pytest.fixture
def ears() -> Iterator[Ears]:
    opened = Ears.open(LOOPBACK)
    yield opened
    opened.close()


def tell(ears: Ears, *datagrams: bytes) -> None:
    for receiver in ears.receivers:
        host, port = receiver.getsockname()[:2]
        for datagram in datagrams:
            send(datagram, (Destination(host, port),))


def heard(ears: Ears, known: int = 5) -> tuple[int, FakeClock]:
    """Hear once; return how often the bell rang, and the clock that was slept by."""
    rings: list[int] = []
    clock = FakeClock()
    ears.hear(lambda: known, lambda: rings.append(1), clock)
    return len(rings), clock


def test_it_is_off_unless_asked_for() -> None:
    assert PushSettings().announcements is False


def test_a_newer_version_rings_on_both_families(ears: Ears) -> None:
    assert len(ears.receivers) == 2
    tell(ears, timestamp(6))
    assert heard(ears)[0] == 2


HOSTILE = [
    b"",
    b"x" * 1200,
    timestamp(5),
    timestamp(4),
    timestamp(6).ljust(1201),
    timestamp(6)[:-1],
    b'{"signed":' + b"[" * 1100,
    b'{"payload":"e30="}',
]


@pytest.mark.parametrize("datagram", HOSTILE, ids=lambda d: repr(d[:20]))
def test_nothing_else_rings(ears: Ears, datagram: bytes) -> None:
    tell(ears, datagram)
    assert heard(ears)[0] == 0


def test_a_flood_costs_a_host_little(ears: Ears) -> None:
    """An attacker sends as fast as he can: after 32 datagrams nothing is read for a while."""
    tell(ears, *[b"x"] * 200)
    rings, clock = heard(ears)
    assert rings == 0
    assert clock.slept == [REST] * 2
    tell(ears, *[timestamp(MAX_VERSION)] * 10)
    while ears.receivers:
        rings, clock = heard(ears)
        if rings:
            break
    assert len(clock.slept) >= rings
    assert rings <= 2 * READ_AT_ONCE


def test_nothing_is_answered(ears: Ears) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind(("127.0.0.1", 0))
        asker.sendto(timestamp(9), ears.receivers[0].getsockname())
        assert heard(ears)[0] == 1
        asker.settimeout(0)
        with pytest.raises(BlockingIOError):
            asker.recv(1)


def test_a_port_that_a_relay_has_says_so() -> None:
    with open_receiver("127.0.0.1", 0) as relay:
        port = relay.getsockname()[1]
        push = PushSettings(listen=("127.0.0.1",), port=port)
        with pytest.raises(ConfigurationError, match="Address already in use"):
            Ears.open(push)


def test_a_family_that_is_not_there_is_left_out() -> None:
    opened = Ears.open(PushSettings(listen=("192.0.2.1", "127.0.0.1"), port=0))
    assert len(opened.receivers) == 1
    opened.close()
    with pytest.raises(ConfigurationError, match="is empty"):
        Ears.open(PushSettings(listen=()))


def test_hearing_in_a_thread(ears: Ears) -> None:
    rung = threading.Event()
    hear_in_thread(ears, lambda: 5, rung.set, FakeClock())
    tell(ears, timestamp(6))
    assert rung.wait(DEADLINE)


WRONG: dict[str, str] = {
    'listen = ["localhost"]': "is no address",
    'group = ["192.0.2.1"]': "is no multicast group",
    'group = ["nonsense"]': "is no multicast group",
    "port = 70000": "push.port",
    "spread = -1": "push.spread",
    "announcement = true": "did you mean 'announcements'",
}


@pytest.mark.parametrize(("text", "says"), WRONG.items())
def test_wrong_settings_say_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        parse_settings(text, PushSettings)


def test_right_settings() -> None:
    text = 'watch = false\nspread = 30\nannouncements = true\ngroup = ["ff08::1"]\n'
    parsed = parse_settings(text, PushSettings)
    assert parsed.spread == timedelta(seconds=30)
    assert parsed.group == ("ff08::1",)
