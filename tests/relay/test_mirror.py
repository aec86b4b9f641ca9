"""`/mirror/`: confirmed trees for software without an agent."""

import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from fleetward.adapters.disk import SystemDisk
from fleetward.config.relay import MirrorSettings
from fleetward.core.install import State
from fleetward.errors import ConfigurationError
from fleetward.httpd.conditional import http_date, parse_http_date
from fleetward.httpd.message import FileBody, Request, Response
from fleetward.relay.mirror import MirrorLimits, MirrorPart
from httpd.rawhttp import Answer, Raw, get
from httpd.upstreams import Upstream, serving
from httpd.waiting import open_descriptors, wait_until
from relay.agenthomes import AgentHome
from relay.relays import TestRelay, settings_for
from support.fakes import FakeClock

V1 = {"daily.cvd": b"one" * 1000, "sub/ä b.txt": "ünï".encode(), "empty": b""}
V2 = {"daily.cvd": b"two" * 1000, "new.cvd": b"new"}
V3 = {"daily.cvd": b"three" * 1000}


class Browser:
    """Asks a mirror part as clients of several addresses, without sockets."""

    def __init__(self, agent: AgentHome, limits: MirrorLimits | None = None) -> None:
        self.clock = FakeClock()
        self.part = MirrorPart(
            [agent.settings()], clock=self.clock, disk=SystemDisk(), limits=limits
        )

    def ask(self, path: str, peer: str = "10.0.0.1", **headers: str) -> Response:
        method = headers.pop("method", "GET")
        told = {k.replace("_", "-").encode(): v.encode() for k, v in headers.items()}
        return self.part.answer(Request(method, path, "", told, peer=peer))

    def read(self, path: str, peer: str = "10.0.0.1", **headers: str) -> bytes:
        response = self.ask(path, peer, **headers)
        assert response.status in {200, 206}, response
        return content(response)


def content(response: Response) -> bytes:
    body = response.body
    assert isinstance(body, FileBody)
    try:
        return os.pread(body.descriptor, body.length, body.offset)
    finally:
        body.close()


def header(response: Response, name: str) -> str:
    return dict(response.headers)[name]


def state_of(browser: Browser) -> dict[str, Any]:
    told: Any = browser.part.status()["mirrors"]
    (state,) = told
    found: dict[str, Any] = state
    return found


def status(response: Response) -> int:
    response.discard()
    return response.status


@pytest.fixture
def agent(tmp_path: Path) -> AgentHome:
    return AgentHome(tmp_path)


@pytest.fixture
def browser(agent: AgentHome) -> Iterator[Browser]:
    before = open_descriptors()
    yield Browser(agent)
    assert open_descriptors() == before


def test_a_confirmed_release_is_served(agent: AgentHome, browser: Browser) -> None:
    agent.put("r1", V1)
    response = browser.ask("/mirror/clamav/daily.cvd")
    assert header(response, "X-Fleetward-Release") == "r1"
    assert header(response, "X-Fleetward-Verified").startswith("by the agent")
    assert header(response, "Accept-Ranges") == "bytes"
    assert content(response) == V1["daily.cvd"]
    assert browser.read("/mirror/clamav/sub/ä b.txt") == V1["sub/ä b.txt"]
    assert browser.read("/mirror/clamav/empty") == b""


def test_a_release_in_trial_is_not_served(agent: AgentHome, browser: Browser) -> None:
    """The agent activates a release and watches it; `current` points at it already.

    Others get the confirmed one, until the trial is over.
    """
    agent.put("r1", V1)
    agent.begin_trial("r2", V2)
    assert browser.read("/mirror/clamav/daily.cvd") == V1["daily.cvd"]
    assert status(browser.ask("/mirror/clamav@r2/daily.cvd")) == 404
    agent.confirm()
    assert browser.read("/mirror/clamav/daily.cvd", "10.0.0.2") == V2["daily.cvd"]


def test_a_first_release_in_trial_is_503(agent: AgentHome, browser: Browser) -> None:
    """Nothing was ever confirmed: 503, since 404 would tell a client that the files are gone."""
    agent.begin_trial("r1", V1)
    response = browser.ask("/mirror/clamav/daily.cvd")
    assert response.status == 503
    assert header(response, "Retry-After") == "60"


def test_a_failed_release_is_never_served(agent: AgentHome, browser: Browser) -> None:
    """A release breaks the engine; the agent goes back, and the mirror never showed it."""
    agent.put("r1", V1)
    agent.begin_trial("r2", V2)
    agent.roll_back()
    assert browser.read("/mirror/clamav/daily.cvd") == V1["daily.cvd"]
    assert status(browser.ask("/mirror/clamav@r2/daily.cvd")) == 404


def test_a_revoked_release_is_not_served(agent: AgentHome, browser: Browser) -> None:
    """The origin revokes what this host runs and may not leave: others do not get it any more."""
    only = agent.put("r1", V1)
    assert browser.read("/mirror/clamav/daily.cvd") == V1["daily.cvd"]
    agent.save(revoked=(only.tree,))
    assert status(browser.ask("/mirror/clamav/daily.cvd")) == 503


def test_no_agent_is_503_and_says_why(browser: Browser) -> None:
    assert status(browser.ask("/mirror/clamav/daily.cvd")) == 503
    state = state_of(browser)
    assert state["release"] is None
    assert "cannot read" in state["problem"]


@pytest.mark.parametrize("text", ["", "{}", '{"schema":"fleetward.product-record/2"}'])
def test_a_damaged_record_is_503(agent: AgentHome, browser: Browser, text: str) -> None:
    agent.put("r1", V1)
    record = agent.home.products / "clamav.json"
    good = record.read_text()
    record.write_text(text)
    assert status(browser.ask("/mirror/clamav/daily.cvd")) == 503
    record.write_text(good)
    assert browser.read("/mirror/clamav/daily.cvd") == V1["daily.cvd"]


def test_a_product_that_the_agent_does_not_have_is_503(tmp_path: Path) -> None:
    """The record is there, but the agent's settings know no folder for it."""
    agent = AgentHome(tmp_path)
    agent.put("r1", V1)
    record = agent.home.products / "clamav.json"
    record.rename(agent.home.products / "other.json")
    settings = MirrorSettings(product="other", home=agent.home.path)
    part = MirrorPart([settings], clock=FakeClock(), disk=SystemDisk())
    assert part.answer(Request("GET", "/mirror/other/daily.cvd", "", {})).status == 503
    explicit = MirrorSettings(product="other", home=agent.home.path, folder=agent.folder)
    part = MirrorPart([explicit], clock=FakeClock(), disk=SystemDisk())
    found = part.answer(Request("GET", "/mirror/other/daily.cvd", "", {}))
    assert content(found) == V1["daily.cvd"]


@pytest.mark.parametrize(
    "path",
    [
        "/mirror/",
        "/mirror/clamav",
        "/mirror/clamav/",
        "/mirror/clamav/sub",
        "/mirror/clamav/sub/",
        "/mirror/clamav/absent",
        "/mirror/clamav/daily.cvd/",
        "/mirror/clamav/daily.cvd/x",
        "/mirror/clamav/" + "x" * 300,
        "/mirror/other/daily.cvd",
        "/mirror/clamav@/absent",
        "/mirror/clamav@r9/daily.cvd",
        "/mirror/clamav@r1/",
    ],
)
def test_what_no_tree_has_is_404(agent: AgentHome, browser: Browser, path: str) -> None:
    agent.put("r1", V1)
    response = browser.ask(path)
    assert response.status == 404
    assert header(response, "Cache-Control") == "no-store"


def test_an_empty_tree_has_no_file(agent: AgentHome, browser: Browser) -> None:
    agent.put("r1", {})
    assert status(browser.ask("/mirror/clamav/daily.cvd")) == 404


@pytest.mark.parametrize("place", ["leak", "sub/leak", "folder/leak"])
def test_no_link_is_followed(agent: AgentHome, browser: Browser, place: str) -> None:
    """Somebody with access to the slot plants links to a secret; the mirror does not see them."""
    secret = agent.home.path / "secret"
    secret.mkdir()
    (secret / "leak").write_bytes(b"secret")
    slot = agent.slots.path(agent.put("r1", V1).slot)
    (slot / "leak").symlink_to(secret / "leak")
    (slot / "sub" / "leak").symlink_to(secret / "leak")
    (slot / "folder").symlink_to(secret)
    assert status(browser.ask(f"/mirror/clamav/{place}")) == 404


def test_a_slot_that_is_a_link_is_not_followed(agent: AgentHome, browser: Browser) -> None:
    slot = agent.slots.path(agent.put("r1", V1).slot)
    slot.rename(agent.home.path / "elsewhere")
    slot.symlink_to(agent.home.path / "elsewhere")
    assert status(browser.ask("/mirror/clamav/daily.cvd")) == 404


def test_a_record_cannot_lead_out_of_the_slots(agent: AgentHome, browser: Browser) -> None:
    installed = agent.put("r1", V1)
    for slot in ("../../home", ".hidden", "", ".."):
        fields = {name: getattr(installed, name) for name in installed.__slots__}
        agent.save(current=type(installed)(**{**fields, "slot": slot}))
        assert status(browser.ask("/mirror/clamav/agent.toml")) == 503


def test_a_pipe_is_no_file(agent: AgentHome, browser: Browser) -> None:
    slot = agent.slots.path(agent.put("r1", V1).slot)
    os.mkfifo(slot / "pipe")
    assert status(browser.ask("/mirror/clamav/pipe")) == 404


# -- conditions ------------------------------------------------------------------------------------


def test_ranges_tags_and_dates(agent: AgentHome, browser: Browser) -> None:
    agent.put("r1", V1)
    path = "/mirror/clamav/daily.cvd"
    whole = browser.ask(path)
    whole.discard()
    etag, date = header(whole, "ETag"), header(whole, "Last-Modified")
    assert browser.read(path, range="bytes=0-511") == V1["daily.cvd"][:512]
    assert browser.read(path, range="bytes=2990-", if_range=etag) == V1["daily.cvd"][2990:]
    assert browser.read(path, range="bytes=2990-", if_range=date) == V1["daily.cvd"][2990:]
    assert browser.read(path, range="bytes=2990-", if_range='"x"') == V1["daily.cvd"]
    assert status(browser.ask(path, if_none_match=etag)) == 304
    assert status(browser.ask(path, if_modified_since=date)) == 304
    assert status(browser.ask(path, range="bytes=9999-")) == 416
    known = parse_http_date(date.encode())
    assert known is not None
    assert browser.read(path, if_modified_since=http_date(known - 1)) == V1["daily.cvd"]
    head = browser.ask(path, method="HEAD")
    assert isinstance(head.body, FileBody)
    assert head.body.length == 3000
    head.discard()


def test_files_of_one_tree_have_tags_of_their_own(agent: AgentHome, browser: Browser) -> None:
    agent.put("r1", {"a": b"same", "b": b"same"})
    a, b = browser.ask("/mirror/clamav/a"), browser.ask("/mirror/clamav/b")
    assert header(a, "ETag") != header(b, "ETag")
    a.discard()
    b.discard()


def test_a_file_that_drifted_has_another_tag(agent: AgentHome, browser: Browser) -> None:
    """Somebody edits an installed file; a resume must not join the two contents."""
    slot = agent.slots.path(agent.put("r1", V1).slot)
    first = browser.ask("/mirror/clamav/daily.cvd")
    first.discard()
    (slot / "daily.cvd").write_bytes(b"altered")
    etag = header(first, "ETag")
    assert browser.read("/mirror/clamav/daily.cvd", range="bytes=3-", if_range=etag) == b"altered"


def test_a_date_that_came_from_an_older_tree_gets_the_newer_one(
    agent: AgentHome, browser: Browser
) -> None:
    """Trees have no times of their own; what counts is when one became the one that is served.

    A client fetched r1 while r2 was in trial already: r2's slot is older than the client's copy.
    """
    agent.put("r1", V1)
    browser.clock.set_wall(browser.clock.now() + timedelta(days=900))
    path = "/mirror/clamav/daily.cvd"
    assert browser.read(path) == V1["daily.cvd"]
    agent.begin_trial("r2", V2)
    fetched_at = int(browser.clock.now().timestamp())
    browser.clock.advance(timedelta(minutes=5))
    agent.confirm()
    assert browser.read(path, if_modified_since=http_date(fetched_at)) == V2["daily.cvd"]


def test_dates_rise_even_when_a_release_comes_back(agent: AgentHome, browser: Browser) -> None:
    """r2 is rolled back; whoever has r2 must get r1 again, though r1's slot is older."""
    agent.put("r1", V1)
    browser.clock.set_wall(browser.clock.now() + timedelta(days=900))
    dates = []
    path = "/mirror/clamav/daily.cvd"
    for number, change in enumerate((None, lambda: agent.put("r2", V2), agent.roll_back)):
        if change is not None:
            change()
        response = browser.ask(path, f"10.0.0.{number}")
        response.discard()
        dates.append(parse_http_date(header(response, "Last-Modified").encode()))
    assert dates[0] is not None
    assert dates[1] is not None
    assert dates[2] is not None
    assert dates[0] < dates[1] < dates[2], "three contents within one second have three dates"


def test_a_start_of_the_relay_dates_by_the_record(agent: AgentHome) -> None:
    agent.put("r1", V1)
    agent.age(500)
    written = int((agent.home.products / "clamav.json").stat().st_mtime)
    fresh = Browser(agent)
    fresh.clock.set_wall(fresh.clock.now() + timedelta(days=900))
    response = fresh.ask("/mirror/clamav/daily.cvd")
    response.discard()
    told = parse_http_date(header(response, "Last-Modified").encode())
    assert told is not None
    assert told >= written


def test_a_date_is_never_in_the_future(agent: AgentHome) -> None:
    agent.put("r1", V1)
    fresh = Browser(agent)
    fresh.clock.set_wall(fresh.clock.now() - timedelta(days=9000))
    response = fresh.ask("/mirror/clamav/daily.cvd")
    response.discard()
    told = parse_http_date(header(response, "Last-Modified").encode())
    assert told == int(fresh.clock.now().timestamp())


# -- staying on one tree ---------------------------------------------------------------------------


def test_a_client_stays_on_its_tree_for_a_time(agent: AgentHome, browser: Browser) -> None:
    agent.put("r1", V1)
    path = "/mirror/clamav/daily.cvd"
    assert browser.read(path) == V1["daily.cvd"]
    agent.put("r2", V2)
    browser.clock.advance(timedelta(seconds=59))
    assert browser.read(path) == V1["daily.cvd"]
    assert status(browser.ask("/mirror/clamav/new.cvd")) == 404, "files of two trees do not mix"
    assert browser.read(path, "10.0.0.2") == V2["daily.cvd"], "another client begins with the new"
    browser.clock.advance(timedelta(seconds=2))
    assert browser.read(path) == V2["daily.cvd"]


def test_a_client_moves_on_where_its_tree_is_pruned(agent: AgentHome, browser: Browser) -> None:
    """Two releases follow each other within the time: the first is gone from the disk."""
    agent.put("r1", V1)
    assert browser.read("/mirror/clamav/daily.cvd") == V1["daily.cvd"]
    agent.put("r2", V2)
    agent.put("r3", V3)
    assert browser.read("/mirror/clamav/daily.cvd") == V3["daily.cvd"]


def test_a_client_does_not_stay_on_a_tree_that_failed(agent: AgentHome, browser: Browser) -> None:
    agent.put("r1", V1)
    agent.put("r2", V2)
    assert browser.read("/mirror/clamav/daily.cvd") == V2["daily.cvd"]
    agent.roll_back()
    assert browser.read("/mirror/clamav/daily.cvd") == V1["daily.cvd"]


def test_a_release_can_be_pinned(agent: AgentHome, browser: Browser) -> None:
    agent.put("r1", V1)
    agent.put("r2", V2)
    response = browser.ask("/mirror/clamav@r1/daily.cvd")
    assert header(response, "X-Fleetward-Release") == "r1"
    assert content(response) == V1["daily.cvd"]
    assert browser.read("/mirror/clamav@r2/daily.cvd") == V2["daily.cvd"]
    agent.put("r3", V3)
    assert status(browser.ask("/mirror/clamav@r1/daily.cvd")) == 404


def test_a_crowd_of_addresses_does_not_fill_memory(agent: AgentHome) -> None:
    """An attacker asks from a thousand addresses; the table forgets the oldest."""
    browser = Browser(agent, MirrorLimits(max_clients=10))
    agent.put("r1", V1)
    for number in range(1000):
        browser.ask("/mirror/clamav/daily.cvd", f"10.0.{number // 250}.{number % 250}").discard()
    (clients,) = [m.value for m in browser.part.metrics() if m.name == "mirror_clients"]
    assert clients == 10


def test_the_table_empties_by_itself(agent: AgentHome, browser: Browser) -> None:
    agent.put("r1", V1)
    for number in range(9):
        browser.ask("/mirror/clamav/daily.cvd", f"10.0.0.{number}").discard()
    browser.clock.advance(timedelta(seconds=61))
    browser.ask("/mirror/clamav/daily.cvd", "10.0.0.1").discard()
    assert len(browser.part._stays) == 1


# -- trouble -----------------------------------------------------------------------------------------


def test_a_slot_that_somebody_removed_is_503(agent: AgentHome, browser: Browser) -> None:
    agent.remove_slot(agent.put("r1", V1))
    assert status(browser.ask("/mirror/clamav/daily.cvd")) == 503


def test_no_descriptor_left_is_503(agent: AgentHome, browser: Browser) -> None:
    agent.put("r1", V1)
    browser.part.status()
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        assert status(browser.ask("/mirror/clamav/daily.cvd")) == 503
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert browser.read("/mirror/clamav/daily.cvd") == V1["daily.cvd"]


def test_what_a_mirror_tells(agent: AgentHome, browser: Browser) -> None:
    agent.put("r1", V1)
    agent.put("r2", V2)
    browser.read("/mirror/clamav/daily.cvd", range="bytes=0-9")
    browser.ask("/mirror/clamav/daily.cvd", method="HEAD").discard()
    state = state_of(browser)
    assert (state["release"], state["pinnable"], state["problem"]) == ("r2", ["r2", "r1"], "")
    told = {metric.name: metric.value for metric in browser.part.metrics()}
    assert told == {
        "mirror_requests_total": 2,
        "mirror_unavailable_total": 0,
        "mirror_bytes_total": 10,
        "mirror_confirmed": 1,
        "mirror_clients": 1,
    }


@pytest.mark.parametrize("product", ["", "Caps", "a/b", "../x"])
def test_a_product_of_no_agent_is_refused(product: str) -> None:
    with pytest.raises(ConfigurationError):
        MirrorSettings(product=product, home=Path("/x"))


def test_a_negative_stay_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        MirrorSettings(product="x", home=Path("/x"), stay=timedelta(seconds=-1))


# -- over sockets ------------------------------------------------------------------------------------


@pytest.fixture
def relay(agent: AgentHome, tmp_path: Path) -> Iterator[TestRelay]:
    with Upstream(serving({})) as upstream:
        settings = settings_for(tmp_path / "cache", upstream.url)
        with TestRelay(replace(settings, mirrors=(agent.settings(),))) as running:
            yield running


def test_a_relay_mirrors(agent: AgentHome, relay: TestRelay) -> None:
    agent.put("r1", V1)
    odd = quote("/mirror/clamav/sub/ä b.txt")
    assert get(relay.url, odd).body == V1["sub/ä b.txt"]
    assert get(relay.url, "/mirror/clamav/../../mirror/clamav/daily.cvd").body == V1["daily.cvd"]
    assert get(relay.url, "/mirror/clamav/%2e%2e/%2e%2e/%2e%2e/etc/passwd").status == 400
    assert get(relay.url, "/mirror/clamav/%252e%252e/agent.toml").status == 404
    assert get(relay.url, "/mirror/clamav/daily.cvd", method="POST").status == 405
    (state,) = relay.status()["mirrors"]
    assert state["release"] == "r1"


def test_a_download_outlives_its_slot(agent: AgentHome, relay: TestRelay) -> None:
    """A client reads a long file slowly; two releases later its slot is removed from the disk.

    The open file still gives the whole old content, and not a byte of the new.
    """
    old = os.urandom(1 << 20) * 8
    agent.put("r1", {"big": old})
    with Raw(relay.url, receive_buffer=4096) as client:
        client.send(b"GET /mirror/clamav/big HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: relay.status()["mirrors"][0]["release"] == "r1")
        first = client.socket.recv(1000)
        agent.put("r2", {"big": b"new" * len(old)})
        agent.put("r3", {"big": b"newer"})
        assert agent.record.current
        client._left = first
        answer: Answer = client.answer()
    assert answer.status == 200
    assert answer.body == old


def test_the_records_are_looked_at_without_requests(agent: AgentHome, relay: TestRelay) -> None:
    agent.put("r1", V1)
    (part,) = [part for part in relay.relay.parts if isinstance(part, MirrorPart)]
    trees = part._mirrors["clamav"].trees
    wait_until(lambda: trees.problem == "")
    assert agent.record.state is State.CONFIRMED
