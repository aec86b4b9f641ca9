"""Inboxes and enrolment through a relay: passed on, bounded, and never believed."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.core.enrolment import EnrolmentAnswer, Standing
from fleetward.core.inbox import Inbox
from fleetward.core.limits import STATUS
from fleetward.errors import ConfigurationError
from fleetward.identity.checkins import sign_inbox
from fleetward.identity.enrolment import EnrolmentToken, request_enrolment, sign_answer
from fleetward.relay.enrolment import EnrolmentPart
from fleetward.relay.inbox import InboxPart
from fleetward.relay.settings import CarryLimits
from fleetward.wire.inbox import inbox_target
from httpd.rawhttp import get
from httpd.waiting import wait_until
from relay.carriers import CARRY, SPOOL, carrying_relay, carrying_settings, post
from relay.relays import Herd, TestRelay
from support.fakes import START, SeededEntropy
from support.receiver import Receiver
from support.status import CONSOLE, FACTS, host_key

HOST = host_key(1).id
OTHER = host_key(2).id
INBOX = Inbox(host=HOST, seq=7, issued=START, expires=START + timedelta(hours=1))
TARGET = inbox_target(HOST, 0)
FORGETFUL = replace(CARRY, inbox_lifetime=timedelta(0), first_pause=timedelta(0))
TOKEN = EnrolmentToken.make(SeededEntropy(3))
ASKED = request_enrolment(
    host_key(1), CONSOLE.public, TOKEN, FACTS, entropy=SeededEntropy(), now=START
)


def test_an_inbox_is_passed_on_as_the_console_signed_it(tmp_path: Path) -> None:
    console = Receiver(inboxes={HOST: INBOX})
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        answer = get(relay.url, TARGET)
        assert (answer.status, answer.body) == (200, sign_inbox(INBOX, CONSOLE))
        assert answer.headers["cache-control"] == "no-store"
        assert get(relay.url, inbox_target(HOST, 7)).status == 204
        assert get(relay.url, inbox_target(OTHER, 0)).status == 404


def test_the_console_is_asked_once_in_a_while(tmp_path: Path) -> None:
    """A hundred hosts' worth of polls for one inbox; what there is, and what there is not."""
    console = Receiver(inboxes={HOST: INBOX})
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        for _ in range(5):
            assert get(relay.url, TARGET).status == 200
            assert get(relay.url, inbox_target(HOST, 7)).status == 204
            assert get(relay.url, inbox_target(OTHER, 0)).status == 404
        assert console.requests["/v1/inbox"] == 3
        assert relay.status()["inbox"]["hits"] == 12


def test_a_new_inbox_is_seen_once_the_old_answer_is_over(tmp_path: Path) -> None:
    console = Receiver(inboxes={HOST: INBOX})
    with console.running() as server:
        relay = carrying_relay(tmp_path, server.url, carry=FORGETFUL)
        with relay:
            assert get(relay.url, inbox_target(HOST, 7)).status == 204
            console.inboxes[HOST] = replace(INBOX, seq=8)
            assert get(relay.url, inbox_target(HOST, 7)).status == 200


def test_many_at_once_are_one_request(tmp_path: Path) -> None:
    console = Receiver(inboxes={HOST: INBOX}, hold=threading.Event())
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        herd = Herd(20, lambda: get(relay.url, TARGET).body)
        wait_until(lambda: relay.status()["inbox"]["hits"] == 19)
        assert console.hold
        console.hold.set()
        assert set(herd.join().got) == {sign_inbox(INBOX, CONSOLE)}
        assert console.requests["/v1/inbox"] == 1


def test_made_up_hosts_do_not_fill_the_memory(tmp_path: Path) -> None:
    console = Receiver()
    carry = replace(CARRY, max_inboxes=3)
    with console.running() as server, carrying_relay(tmp_path, server.url, carry=carry) as relay:
        for number in range(10):
            assert get(relay.url, inbox_target(host_key(number).id, 0)).status == 404
        (part,) = [part for part in relay.relay.parts if isinstance(part, InboxPart)]
        assert len(part._known) == 3


def test_one_address_asks_for_many_hosts(tmp_path: Path) -> None:
    console = Receiver()
    spool = replace(SPOOL, check_ins_per_second=0.5)
    with console.running() as server, carrying_relay(tmp_path, server.url, spool=spool) as relay:
        answers = [get(relay.url, inbox_target(host_key(n).id, 0)) for n in range(8)]
        assert [answer.status for answer in answers] == [404] * 5 + [503] * 3
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert relay.status()["inbox"]["overloaded"] == 3


def test_a_relay_downstream_asks_for_a_whole_site(tmp_path: Path) -> None:
    console = Receiver()
    spool = replace(
        SPOOL,
        check_ins_per_second=0.01,
        enrolments_per_second=0.01,
        downstream=("127.0.0.0/8",),
    )
    with console.running() as server, carrying_relay(tmp_path, server.url, spool=spool) as relay:
        for number in range(5):
            assert get(relay.url, inbox_target(host_key(number).id, 0)).status == 404
            assert enroll(relay) == 200


def test_requests_under_way_are_bounded(tmp_path: Path) -> None:
    console = Receiver(hold=threading.Event())
    carry = replace(CARRY, max_inbox_requests=1)
    with console.running() as server, carrying_relay(tmp_path, server.url, carry=carry) as relay:
        herd = Herd(1, lambda: get(relay.url, TARGET).body)
        wait_until(lambda: relay.status()["inbox"]["asked"] == 1)
        assert get(relay.url, inbox_target(OTHER, 0)).status == 503
        assert console.hold
        console.hold.set()
        herd.join()


@pytest.mark.parametrize(
    "target",
    ["/v1/inbox/", f"/v1/inbox/{HOST}x", f"/v1/inbox/{HOST}?after=x", f"/v1/inbox/{HOST}?x=1"],
)
def test_what_asks_for_no_inbox_is_400(tmp_path: Path, target: str) -> None:
    with carrying_relay(tmp_path) as relay:
        assert get(relay.url, target).status == 400


@pytest.mark.parametrize("status", [301, 400, 401, 403, 429, 500, 502])
def test_other_statuses_of_the_console_are_503(tmp_path: Path, status: int) -> None:
    console = Receiver()
    console.answers.append(status)
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        assert get(relay.url, TARGET).status == 503


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>log in to the guest network</html>",
        sign_inbox(replace(INBOX, host=OTHER), CONSOLE),
        CONSOLE.sign("application/other", b"{}"),
        b"x" * (STATUS.inbox_bytes + 1),
    ],
)
def test_what_is_no_inbox_of_that_host_is_not_passed_on(tmp_path: Path, body: bytes) -> None:
    console = Receiver()
    console.raw_answers.append((200, body))
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        assert get(relay.url, TARGET).status == 503
        assert relay.status()["inbox"]["failures"] == 1


def test_an_old_inbox_of_an_upstream_relay_is_none(tmp_path: Path) -> None:
    console = Receiver()
    console.raw_answers.append((200, sign_inbox(INBOX, CONSOLE)))
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        assert get(relay.url, inbox_target(HOST, 7)).status == 204


def test_the_second_upstream_is_asked_where_the_first_does_not_carry(tmp_path: Path) -> None:
    """The first upstream is an origin behind a plain web server, the second a relay."""
    origin, console = Receiver(), Receiver(inboxes={HOST: INBOX})
    origin.answers.extend([404] * 100)
    with origin.running() as first, console.running() as second:
        settings = carrying_settings(tmp_path)
        both = replace(settings, upstreams=("http://127.0.0.1:9", first.url, second.url))
        with TestRelay(both) as relay:
            assert get(relay.url, TARGET).status == 200


def test_an_answer_is_not_kept_longer_than_a_404_may_be() -> None:
    with pytest.raises(ConfigurationError):
        CarryLimits(inbox_lifetime=timedelta(seconds=31))


def test_a_console_url_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError), carrying_relay(tmp_path, "console.example"):
        pass


# -- enrolment ----------------------------------------------------------------------------------


def enroll(relay: TestRelay, body: bytes = ASKED.envelope, kind: str = "application/json") -> int:
    return post(relay.url, body, kind, "/v1/enroll").status


def answer_for(host: str) -> bytes:
    answer = EnrolmentAnswer(
        host=HOST, nonce="00" * 16, standing=Standing.PENDING, reason="wait", issued=START
    )
    return sign_answer(replace(answer, host=host), CONSOLE)  # type: ignore[arg-type]


def test_what_is_no_request_stops_at_the_relay(tmp_path: Path) -> None:
    console = Receiver()
    mine, theirs = ASKED.envelope, host_key(2).sign("application/vnd.fleetward.enrolment", b"x")
    start, end = mine.index(b'"sig":"') + 7, mine.index(b'","key"')
    start2, end2 = theirs.index(b'"sig":"') + 7, theirs.index(b'","key"')
    forged = mine[:start] + theirs[start2:end2] + mine[end:]
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        for body in (b"", b"{}", forged, ASKED.envelope[:-1]):
            assert enroll(relay, body) == 400
        assert enroll(relay, kind="text/plain") == 415
        assert enroll(relay, b"x" * (STATUS.enrolment_bytes + 1)) == 413
        assert console.requests == {}
        assert relay.status()["enrolment"]["malformed"] == 4


@pytest.mark.parametrize(
    ("status", "passed"),
    [(400, 400), (403, 400), (409, 409), (413, 413)]
    + [(status, 503) for status in (201, 204, 301, 401, 404, 429, 500)],
)
def test_only_a_closed_list_of_statuses_is_passed_on(
    tmp_path: Path, status: int, passed: int
) -> None:
    console = Receiver()
    console.answers.append(status)
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        assert enroll(relay) == passed


def test_the_same_request_again_is_asked_again(tmp_path: Path) -> None:
    """An answer is never kept: a person may have approved in between."""
    console = Receiver()
    console.raw_answers.extend([(202, answer_for(HOST)), (200, answer_for(HOST))])
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        assert (enroll(relay), enroll(relay)) == (202, 200)
        assert relay.status()["enrolment"]["passed"] == 2


@pytest.mark.parametrize("body", [b"", b"<html>", answer_for(OTHER), b"x" * 9000])
def test_what_is_no_answer_to_that_host_is_not_passed_on(tmp_path: Path, body: bytes) -> None:
    console = Receiver()
    console.raw_answers.append((200, body))
    with console.running() as server, carrying_relay(tmp_path, server.url) as relay:
        assert enroll(relay) == 503
        assert relay.status()["enrolment"]["failures"] == 1


def test_one_address_enrols_faster_than_its_rate(tmp_path: Path) -> None:
    """Somebody tries tokens: the console is spared, and others are not."""
    console = Receiver()
    spool = replace(SPOOL, enrolments_per_second=0.3)
    with console.running() as server, carrying_relay(tmp_path, server.url, spool=spool) as relay:
        assert [enroll(relay) for _ in range(5)] == [200] * 3 + [503] * 2
        assert console.requests["/v1/enroll"] == 3


def test_enrolments_under_way_are_bounded(tmp_path: Path) -> None:
    console = Receiver(hold=threading.Event())
    carry = replace(CARRY, max_enrolments=1)
    with console.running() as server, carrying_relay(tmp_path, server.url, carry=carry) as relay:
        herd = Herd(1, lambda: b"%d" % enroll(relay))
        (part,) = [part for part in relay.relay.parts if isinstance(part, EnrolmentPart)]
        wait_until(lambda: part._under_way == 1)
        assert enroll(relay) == 503
        assert console.hold
        console.hold.set()
        assert herd.join().got == [b"200"]
