"""Notifications: what is told, how often, to whom, and what a receiver can check."""

import hashlib
import hmac
import json
import queue
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from console.cast import SetClock, add_person, signed_in
from fleetward.config.console import MailSettings, NoticeSettings
from fleetward.console.audit.models import Entry
from fleetward.console.notices.models import Channel, Delivery, Level, Notice, State
from fleetward.console.notices.outbox import announce, deliver_due, try_channel
from fleetward.console.notices.syslog import MAX_BYTES, framed, message
from fleetward.console.notices.webhook import NotSent, allowed_address, post, secret_of, signature
from fleetward.console.permissions import Role
from fleetward.console.wiring import Wiring, rewired, wired

PATH = "/settings/notifications/"


@contextmanager
def settings_with(**changes: object) -> Iterator[Wiring]:
    """Change the console's settings, under a clock that stands."""
    settings = replace(wired().settings, **changes)  # type: ignore[arg-type]
    with rewired(settings=settings, clock=SetClock()) as wiring:
        yield wiring


@pytest.fixture
def wiring() -> Iterator[Wiring]:
    """A console that may reach loopback, as no other should."""
    with settings_with(notices=NoticeSettings(allow_private=True)) as made:
        yield made


def add_channel(
    target: str, way: str = "webhook", least: Level = Level.WARNING, name: str = "team"
) -> Channel:
    now = wired().clock.now()
    return Channel.objects.create(
        name=name, way=way, target=target, least=least, secret="shared", created=now
    )


@dataclass
class Receiver:
    """A webhook's receiver; answers what it is told to."""

    url: str = ""
    status: int = 200
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append((dict(self.headers.items()), body))
            self.send_response(made.status)
            self.send_header("Location", f"{made.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *rest: object) -> None:  # noqa: A002 (the base class's name)
            """Say nothing."""

    with _served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        made.url = f"http://127.0.0.1:{port}"
        yield made


@contextmanager
def _served(server: socketserver.TCPServer | socketserver.UDPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield int(server.server_address[1])  # type: ignore[index, unused-ignore]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# -- webhooks ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_webhook_is_signed_so_that_its_receiver_can_check(
    wiring: Wiring, receiver: Receiver
) -> None:
    add_channel(f"{receiver.url}/hook?x=1")
    announce(Level.CRITICAL, "silent:berlin", "Berlin is silent", body="40 hosts", link="/hosts/")
    assert deliver_due(wiring.clock.now()) == 1
    (headers, body), *more = receiver.got
    assert not more
    document = json.loads(body)
    assert next(iter(document)) == "schema"
    assert (document["level"], document["title"]) == ("critical", "Berlin is silent")
    found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["Fleetward-Signature"])
    assert found
    assert int(found[1]) == int(wiring.clock.now().timestamp())
    expected = hmac.new(
        secret_of("shared").encode(), found[1].encode() + b"." + body, hashlib.sha256
    ).hexdigest()
    assert found[2] == expected
    assert Delivery.objects.get().state == State.SENT


def test_a_signature_of_another_time_or_body_or_secret_differs() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    signed = signature("s", now, b"body")
    later = now + timedelta(seconds=1)
    assert len({signed, signature("s", later, b"body"), signature("s", now, b"bodi")}) == 3
    assert signature("t", now, b"body") != signed


INSIDE = [
    "localhost",
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",  # noqa: S104 (judged, not bound)
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "fe80::1",
    "fc00::1",
    "2130706433",
    "0x7f000001",
]


@pytest.mark.parametrize("host", INSIDE)
def test_a_webhook_does_not_reach_inside(host: str) -> None:
    """Somebody makes a webhook to the cloud's metadata service, and reads its answer in the log."""
    with pytest.raises(NotSent, match=r"not a public address|has no address"):
        allowed_address(host, 80, NoticeSettings())


def test_a_name_with_one_address_inside_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacker's name answers with a public address and a private one."""

    def resolve(host: str, port: int, **more: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, port)) for address in ("192.0.43.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(NotSent, match=r"10\.0\.0\.1"):
        allowed_address("rebind.example", 80, NoticeSettings())


def test_public_addresses_are_reached() -> None:
    for address in ("192.0.43.8", "2606:4700::1111"):
        assert allowed_address(address, 443, NoticeSettings()) == address


def test_the_connection_goes_to_the_address_that_was_judged(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacker's name answers with another address the second time it is asked for."""
    answers = iter(["127.0.0.1"])
    real = socket.getaddrinfo

    def resolve(host: str, port: int, family: int = 0, type: int = 0, *rest: int) -> object:  # noqa: A002 (as the real one's)
        asked = next(answers) if host == "rebind.example" else host
        return real(asked, port, family, type, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    port = receiver.url.rpartition(":")[2]
    post(f"http://rebind.example:{port}/", b"{}", {}, NoticeSettings(allow_private=True))
    assert receiver.got[0][0]["Host"] == f"rebind.example:{port}"


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500])
def test_what_is_not_2xx_is_not_sent_and_no_redirect_is_followed(
    receiver: Receiver, status: int
) -> None:
    receiver.status = status
    with pytest.raises(NotSent, match=f"answered {status}"):
        post(receiver.url, b"{}", {}, NoticeSettings(allow_private=True))
    assert len(receiver.got) == 1


def test_nobody_there_is_not_sent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        with pytest.raises(NotSent):
            post(url, b"{}", {}, NoticeSettings(allow_private=True))


def test_https_demands_the_certificate_of_the_name(receiver: Receiver) -> None:
    with pytest.raises(NotSent):
        post(receiver.url.replace("http", "https"), b"{}", {}, NoticeSettings(allow_private=True))
    assert not receiver.got


def test_a_proxy_takes_the_whole_url(receiver: Receiver) -> None:
    post("http://hook.example/x", b"{}", {}, NoticeSettings(proxy=receiver.url))
    assert receiver.got[0][0]["Host"] == "hook.example"


# -- syslog ----------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)


def test_a_syslog_message_is_rfc_5424() -> None:
    made = message(Level.CRITICAL, NOON, "console.example", "silent:berlin", "Berlin is silent")
    assert made.decode() == (
        "<106>1 2026-11-24T12:00:00.123456Z console.example fleetward-console - silent:berlin - "
        "\ufeffBerlin is silent"
    )
    assert framed(b"abc") == b"3 abc"


@given(st.text(), st.text(), st.text(max_size=3000))
def test_a_syslog_message_is_one_line_of_bounded_length(host: str, key: str, text: str) -> None:
    """A host names itself with a line end, to write a message of its own into the log."""
    made = message(Level.NOTE, NOON, host, key, text)
    assert len(made) <= MAX_BYTES
    assert not set(made.decode()) & {"\n", "\r", "\x00", "\u2028"}
    head = made.decode().split(" ")
    assert head[0] == "<109>1"
    assert head[3] == "fleetward-console"


@pytest.mark.django_db
def test_a_notice_goes_to_a_syslog_by_udp_and_by_tcp(wiring: Wiring) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        channel = add_channel(f"udp://127.0.0.1:{datagrams.getsockname()[1]}", "syslog")
        assert try_channel(channel) == ""
        assert b"This is a test" in datagrams.recv(4096)
    got: queue.Queue[bytes] = queue.Queue()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            got.put(self.rfile.read())

    with _served(socketserver.TCPServer(("127.0.0.1", 0), Handler)) as port:
        channel.target = f"tcp://127.0.0.1:{port}"
        assert try_channel(channel) == ""
        length, _, content = got.get(timeout=20).partition(b" ")
    assert int(length) == len(content)
    channel.target = f"tcp://127.0.0.1:{port}"
    assert "127.0.0.1" in try_channel(channel), "nobody listens there any more"


# -- e-mail ------------------------------------------------------------------------------------------------


class MailServer(socketserver.StreamRequestHandler):
    """Takes one mail."""

    got: list[str] = []  # noqa: RUF012 (one list for the test's one server)

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            word = line.split()[0].upper() if line.split() else b""
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self.got.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


@pytest.mark.django_db
def test_a_notice_goes_by_mail_and_its_title_makes_no_header() -> None:
    """A host's name has a line end and `Bcc:`."""
    MailServer.got.clear()
    with _served(socketserver.TCPServer(("127.0.0.1", 0), MailServer)) as port:
        mail = MailSettings(host="127.0.0.1", port=port, security="none", sender="c@example.org")
        with settings_with(mail=mail, url="https://console.example") as wiring:
            add_channel("team@example.org", "email")
            announce(Level.WARNING, "k", "evil\r\nBcc: mallory@example.org", link="/hosts/7/")
            deliver_due(wiring.clock.now())
    assert Delivery.objects.get().state == State.SENT
    head, _, body = MailServer.got[0].partition("\r\n\r\n")
    assert "To: team@example.org" in head
    assert not re.search(r"(?m)^Bcc:", head)
    assert "https://console.example/hosts/7/" in body


@pytest.mark.django_db
def test_mail_without_a_server_or_password_says_what_is_missing(wiring: Wiring) -> None:
    channel = add_channel("team@example.org", "email")
    assert "[mail]" in try_channel(channel)
    mail = MailSettings(host="127.0.0.1", port=1, security="none", sender="c@example.org")
    with settings_with(mail=mail):
        assert "127.0.0.1" in try_channel(channel)


# -- the outbox --------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_same_thing_is_told_once_in_a_while(wiring: Wiring, receiver: Receiver) -> None:
    """A site loses its network, and 400 hosts are silent at once, again and again."""
    add_channel(receiver.url)
    for _ in range(400):
        announce(Level.WARNING, "silent:berlin", "Berlin is silent")
        wiring.clock.sleep(timedelta(seconds=2))
    deliver_due(wiring.clock.now())
    assert len(receiver.got) == 1
    wiring.clock.sleep(timedelta(minutes=15))
    announce(Level.WARNING, "silent:berlin", "Berlin is silent")
    deliver_due(wiring.clock.now())
    assert json.loads(receiver.got[1][1])["repeats"] == 399


@pytest.mark.django_db
def test_what_gets_worse_is_told_at_once(wiring: Wiring, receiver: Receiver) -> None:
    add_channel(receiver.url)
    announce(Level.WARNING, "k", "bad")
    announce(Level.CRITICAL, "k", "worse")
    announce(Level.WARNING, "other", "bad too")
    deliver_due(wiring.clock.now())
    assert [json.loads(body)["title"] for _, body in receiver.got] == ["bad", "worse", "bad too"]


@pytest.mark.django_db
def test_a_channel_takes_what_is_bad_enough_while_it_is_on(wiring: Wiring) -> None:
    add_channel("http://a.example", least=Level.CRITICAL, name="critical")
    add_channel("http://b.example", least=Level.NOTE, name="all")
    off = add_channel("http://c.example", least=Level.NOTE, name="off")
    off.is_on = False
    off.save()
    announce(Level.WARNING, "k", "bad")
    assert [delivery.channel.name for delivery in Delivery.objects.all()] == ["all"]


@pytest.mark.django_db
def test_a_delivery_that_fails_is_tried_again_ever_more_rarely_for_a_day(
    wiring: Wiring, receiver: Receiver
) -> None:
    receiver.status = 503
    add_channel(receiver.url)
    began = wiring.clock.now()
    announce(Level.WARNING, "k", "bad")
    waits = []
    while (delivery := Delivery.objects.get()).state == State.QUEUED:
        wiring.clock.sleep(delivery.due - wiring.clock.now())
        deliver_due(wiring.clock.now())
        waits.append(wiring.clock.now() - began)
    assert delivery.state == State.GIVEN_UP
    assert "answered 503" in delivery.complaint
    assert waits[:4] == [timedelta(minutes=minutes) for minutes in (0, 1, 3, 7)]
    assert timedelta(hours=19) < waits[-1] <= timedelta(days=1)
    assert len(receiver.got) == len(waits) < 20


@pytest.mark.django_db
def test_a_delivery_that_another_console_has_taken_is_left_to_it(
    wiring: Wiring, receiver: Receiver
) -> None:
    add_channel(receiver.url)
    announce(Level.WARNING, "k", "bad")
    now = wiring.clock.now()
    Delivery.objects.update(due=now + timedelta(minutes=2))
    assert deliver_due(now) == 0
    assert not receiver.got


# -- pages -------------------------------------------------------------------------------------------------


@pytest.fixture
def browser() -> Client:
    return signed_in(add_person("ada", Role.ADMINISTRATOR))


def fields(**changes: str) -> dict[str, str]:
    usual = {"name": "team", "way": "webhook", "target": "https://hook.example/x", "least": "2"}
    return usual | {"is_on": "on"} | changes


@pytest.mark.django_db
def test_a_channel_is_added_with_a_secret_of_its_own(browser: Client) -> None:
    assert browser.post(f"{PATH}new/", fields()).status_code == 302
    channel = Channel.objects.get()
    assert len(channel.secret) >= 43
    page = browser.get(f"{PATH}{channel.pk}/").content.decode()
    assert secret_of(channel.secret) in page
    assert channel.secret not in page, "the row alone signs nothing"
    assert channel.secret not in Entry.objects.latest("seq").after
    assert browser.post(f"{PATH}new/", fields()).status_code == 400, "the name is taken"
    browser.post(f"{PATH}{channel.pk}/", fields(least="3"))
    kept = channel.secret
    channel.refresh_from_db()
    assert (channel.least, channel.secret) == (Level.CRITICAL, kept)
    entry = Entry.objects.latest("seq")
    assert (json.loads(entry.before)["least"], json.loads(entry.after)["least"]) == (
        "warning",
        "critical",
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("way", "target"),
    [
        ("webhook", "ftp://hook.example"),
        ("webhook", "hook.example"),
        ("webhook", "https://user:password@hook.example/"),
        ("webhook", "http://[broken/"),
        ("email", "nobody"),
        ("syslog", "https://log.example"),
        ("syslog", "udp://:514"),
        ("pigeon", "loft"),
    ],
)
def test_a_target_that_does_not_suit_the_way_is_refused(
    browser: Client, way: str, target: str
) -> None:
    assert browser.post(f"{PATH}new/", fields(way=way, target=target)).status_code == 400
    assert not Channel.objects.exists()


@pytest.mark.django_db
def test_the_test_button_says_what_happened(browser: Client, receiver: Receiver) -> None:
    channel = add_channel(receiver.url)
    refused = browser.post(f"{PATH}{channel.pk}/test/", follow=True)
    assert b"not a public address" in refused.content
    settings = replace(wired().settings, notices=NoticeSettings(allow_private=True))
    with rewired(settings=settings):
        taken = browser.post(f"{PATH}{channel.pk}/test/", follow=True)
    assert b"took the test" in taken.content
    assert json.loads(receiver.got[0][1])["key"] == "test"


@pytest.mark.django_db
def test_the_page_shows_channels_and_what_became_of_notices(
    browser: Client, receiver: Receiver
) -> None:
    channel = add_channel(receiver.url)
    announce(Level.CRITICAL, "k", "Something is wrong")
    assert b"queued" in browser.get(PATH).content
    deliver_due(wired().clock.now())
    page = browser.get(PATH).content
    assert b"Something is wrong" in page
    assert b"not a public address" in page
    browser.post(f"{PATH}{channel.pk}/remove/")
    assert not Channel.objects.exists()
    assert Notice.objects.exists()
