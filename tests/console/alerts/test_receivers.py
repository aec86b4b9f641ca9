"""Alerts on their way to the receivers that the notices know: syslog over TLS, a webhook's secret."""

import queue
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from console.cast import SetClock
from fleetward.config.console import NoticeSettings
from fleetward.console.alerts.deciding import Fact
from fleetward.console.alerts.keeping import evaluate
from fleetward.console.alerts.kinds import Kind
from fleetward.console.notices.models import Channel, Delivery, Level, State
from fleetward.console.notices.outbox import deliver_due
from fleetward.console.notices.webhook import secret_of
from fleetward.console.wiring import rewired, wired
from httpd.certificates import make_certificate, server_context
from support.fakes import START

pytestmark = pytest.mark.django_db


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.fixture
def clock(certificate: Path) -> Iterator[SetClock]:
    """A console that believes the collector's own authority."""
    clock = SetClock(START)
    notices = NoticeSettings(ca_bundle=certificate)
    with rewired(clock=clock, settings=replace(wired().settings, notices=notices)):
        yield clock


@contextmanager
def collector(certificate: Path) -> Iterator[tuple[int, "queue.Queue[bytes]"]]:
    """A syslog collector on loopback, over TLS; gives its port and what it got."""
    got: queue.Queue[bytes] = queue.Queue()
    context = server_context(certificate)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                with context.wrap_socket(self.request, server_side=True) as stream:
                    pieces = b""
                    while piece := stream.recv(4096):
                        pieces += piece
                    got.put(pieces)
            except OSError:
                got.put(b"")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], got
        finally:
            server.shutdown()
            thread.join()


def add_syslog(target: str) -> None:
    Channel.objects.create(
        name="siem", way="syslog", target=target, least=Level.WARNING, created=START
    )


FROZEN = Fact(
    kind=Kind.RELAY_FROZEN, subject="relay:r1", title="Relay r1 freezes", detail="61 versions"
)


def test_an_alert_reaches_a_collector_over_tls(clock: SetClock, certificate: Path) -> None:
    """From a fact to one framed RFC 5424 message, and nothing more while the fact stays."""
    with collector(certificate) as (port, got):
        add_syslog(f"tls://127.0.0.1:{port}")
        for _ in range(3):
            evaluate(clock.now(), [FROZEN])
            deliver_due(clock.now())
            clock.moment += timedelta(minutes=1)
        length, _, message = got.get(timeout=20).partition(b" ")
        assert got.empty()
    assert int(length) == len(message)
    assert message.startswith(b"<106>1 ")
    assert b"Relay r1 freezes. 61 versions" in message
    assert [each.state for each in Delivery.objects.all()] == [State.SENT]


def test_a_collector_with_a_stranger_s_certificate_is_told_nothing(
    clock: SetClock, tmp_path: Path
) -> None:
    """Somebody answers in the collector's place: the alert is kept and tried again."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    with collector(make_certificate(folder)) as (port, got):
        add_syslog(f"tls://127.0.0.1:{port}")
        evaluate(clock.now(), [FROZEN])
        deliver_due(clock.now())
        assert got.get(timeout=20) == b""
    delivery = Delivery.objects.get()
    assert delivery.state == State.QUEUED
    assert "certificate" in delivery.complaint.lower()
    assert delivery.due > clock.now()


def test_an_alert_that_comes_again_is_told_although_the_damper_is_quiet(clock: SetClock) -> None:
    """`Resolved` follows `opened` within minutes: a damper by subject alone would swallow it."""
    add_syslog("udp://127.0.0.1:9")
    evaluate(clock.now(), [FROZEN])
    for _ in range(12):
        clock.moment += timedelta(minutes=1)
        evaluate(clock.now(), [])
    titles = Delivery.objects.order_by("id").values_list("notice__title", flat=True)
    assert list(titles) == ["Relay r1 freezes", "Resolved: Relay r1 freezes"]


def test_whoever_reads_the_database_can_sign_nothing() -> None:
    """A backup is stolen: the rows hold the secret's name, and the key that makes it is a file."""
    secrets = {secret_of(name) for name in ("", "a", "b", "a" * 43)}
    assert len(secrets) == 4
    assert all(len(secret) == 43 for secret in secrets)
    assert secret_of("a") == secret_of("a")
