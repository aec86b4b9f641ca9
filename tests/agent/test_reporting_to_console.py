"""A host and its console: enrolment, check-ins, events, directives; by TCP, by datagram, by a relay."""

import socket
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.adapters.http import HttpSession
from fleetward.agent import carrying, checkins, enrolling
from fleetward.agent.checkins import Reporter, Seen, Way
from fleetward.agent.enrolling import Enrolled, load_enrolled
from fleetward.agent.home import Home
from fleetward.agent.inbox import Orders, Tree
from fleetward.agent.noticing import happening, name_of
from fleetward.agent.records import HeldBack, Installed, Record
from fleetward.agent.updating import LastCheck, SourceTrouble, Trouble
from fleetward.core.digest import sha256_of
from fleetward.core.enrolment import Standing
from fleetward.core.inbox import Directive, DirectiveKind
from fleetward.core.install import State
from fleetward.core.limits import SOURCE_EVENT_EVERY, STATUS
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.core.status import EventKind, PortsSummary, SeenVersions
from fleetward.errors import BusyError, ConfigurationError, NetworkError, TrustError
from fleetward.wire.tokenfile import encode_token_file
from support.fakes import FakeClock, SeededEntropy
from support.simdisk import Aftermath, SimDisk
from support.sourceserver import Exchange, gives, source_server
from support.standinconsole import RECORD, Every, StandInConsole, stand_in_console, stand_in_relay
from support.status import FACTS, OTHER_CONSOLE

HOME = Path("/agent")
MINUTE = timedelta(minutes=1)
YARA, STABLE = ProductName("yara"), ChannelName("stable")


@dataclass
class Deeds:
    """Does directives as it is told to, and remembers them."""

    done: list[str] = field(default_factory=list)
    error: Exception | None = None
    trees: tuple[Tree, ...] = ()

    def _do(self, deed: str) -> str:
        self.done.append(deed)
        if self.error:
            raise self.error
        return f"did {deed}"

    def update_now(self, product: ProductName | None) -> str:
        return self._do(f"update {product}")

    def verify_tree(self, product: ProductName | None) -> tuple[Tree, ...]:
        self._do(f"verify {product}")
        return self.trees

    def list_ports(self) -> str:
        return self._do("ports")

    def roll_back(self, product: ProductName) -> str:
        return self._do(f"roll back {product}")


def record(release: str = "r1", state: State = State.CONFIRMED, **more: object) -> Record:
    current = Installed(
        release=ReleaseName(release),
        seq=int(release[1:]),
        tree=sha256_of(release.encode()),
        length=10,
        engine="files",
        slot=release,
    )
    return Record(product=YARA, channel=STABLE, state=state, current=current, **more)  # type: ignore[arg-type]


SEEN = Seen(
    records=(record(),),
    tuf=SeenVersions(root=1, timestamp=5, snapshot=5),
    ports=PortsSummary(listeners=3, unexpected=0, digest="ab" * 8),
)


@dataclass
class Scene:
    """A host, its console, and time."""

    clock: FakeClock
    console: StandInConsole
    session: HttpSession
    disk: SimDisk = field(default_factory=SimDisk)
    deeds: Deeds = field(default_factory=Deeds)
    sources: list[str] = field(default_factory=list)
    entropy: SeededEntropy = field(default_factory=SeededEntropy)

    @property
    def home(self) -> Home:
        return Home(self.disk, HOME)

    def enrol(self) -> Enrolled:
        self.disk.make_folder(HOME)
        return enrolling.enrol(
            self.home,
            self.console.token_file,
            self.sources,
            FACTS,
            session=self.session,
            clock=self.clock,
            entropy=self.entropy,
        )

    def reporter(self) -> Reporter:
        return Reporter(
            self.home, self.sources, FACTS, self.session, self.clock, self.entropy, self.deeds
        )

    def report(self, seen: Seen = SEEN) -> checkins.Outcome:
        """One report of a process of its own, a minute after the last."""
        self.clock.advance(MINUTE)
        return self.reporter().report(seen)

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.console.stored()]


@pytest.fixture
def scene() -> Generator[Scene]:
    clock = FakeClock()
    session = HttpSession(clock)
    with stand_in_console(clock) as console:
        yield Scene(clock, console, session)
    session.close()


# -- enrolment ---------------------------------------------------------------------------------------


def keeps_its_token(scene: Scene) -> bool:
    """Whether the token file is kept because the console has not decided."""
    return "enrolment.json" in scene.disk.listing(HOME)


def test_a_host_enrols_and_reports(scene: Scene) -> None:
    assert scene.reporter().report(SEEN).way is Way.NOT_ENROLLED
    enrolled = scene.enrol()
    assert (enrolled.standing, enrolled.record) == (Standing.APPROVED, RECORD)
    assert not keeps_its_token(scene)
    outcome = scene.report()
    assert (outcome.way, outcome.pending, outcome.error) == (Way.STORED, 0, None)
    said = scene.console.check_ins[0]
    assert (said.host, said.n) == (enrolling.host_key(scene.home).id, 1)
    assert (said.tuf, said.ports) == (SEEN.tuf, SEEN.ports)
    row = said.products[0]
    assert (row.product, row.channel, row.release, row.seq) == ("yara", "stable", "r1", 1)
    assert (row.state, row.tree) == (State.CONFIRMED, sha256_of(b"r1")[:32])
    assert row.wave is None
    assert scene.kinds() == ["enrolled", "confirmed"]
    assert scene.console.stored()[0].subject == RECORD


def test_a_host_says_in_which_wave_it_is(scene: Scene) -> None:
    scene.enrol()
    scene.report(Seen(records=(record(wave=0),)))
    scene.report(Seen(records=(record(wave=2),)))
    assert [said.products[0].wave for said in scene.console.check_ins] == [0, 2]


def test_key_and_token_are_private(scene: Scene) -> None:
    scene.console.standing = Standing.PENDING
    scene.enrol()
    for name in ("host.key", "enrolment.json", "console.json"):
        assert scene.disk._at(HOME / name).private  # type: ignore[union-attr]


def test_a_host_waits_for_approval_and_asks_again(scene: Scene) -> None:
    scene.console.standing = Standing.PENDING
    assert scene.enrol().standing is Standing.PENDING
    assert keeps_its_token(scene)
    assert scene.report().way is Way.WAITING
    before = scene.console.requests
    assert scene.report().way is Way.WAITING
    assert scene.console.requests == before, "not with every report"
    scene.console.standing = Standing.APPROVED
    scene.clock.advance(checkins.ENROL_INTERVAL)
    assert scene.report().way is Way.STORED
    assert not keeps_its_token(scene)
    assert scene.kinds() == ["confirmed", "enrolled"], "what happened while it waited is told"


def test_a_console_that_is_away_while_the_host_waits(scene: Scene) -> None:
    scene.console.standing = Standing.PENDING
    scene.enrol()
    scene.console.is_away = True
    outcome = scene.report()
    assert outcome.way is Way.WAITING
    assert "503" in (outcome.error or "")


def test_a_refused_host_says_so_and_asks_no_more(scene: Scene) -> None:
    scene.console.standing = Standing.REFUSED
    assert scene.enrol().standing is Standing.REFUSED
    outcome = scene.report()
    assert (outcome.way, outcome.error) == (Way.REFUSED, "so it was decided")
    assert not keeps_its_token(scene)


def test_a_wrong_token_does_not_undo_an_enrolment(scene: Scene) -> None:
    scene.enrol()
    scene.console.standing = Standing.REFUSED
    assert scene.enrol().standing is Standing.REFUSED
    assert scene.report().way is Way.STORED


def test_an_answer_that_the_console_did_not_sign_is_not_believed(scene: Scene) -> None:
    """Somebody else answers at the console's address."""
    pinned = scene.console.token_file
    scene.console.keys = OTHER_CONSOLE
    scene.disk.make_folder(HOME)
    with pytest.raises((TrustError, NetworkError)):
        enrolling.enrol(
            scene.home,
            pinned,
            (),
            FACTS,
            session=scene.session,
            clock=scene.clock,
            entropy=scene.entropy,
        )
    assert load_enrolled(scene.home) is None


def test_a_host_enrols_through_a_relay(scene: Scene) -> None:
    with stand_in_relay(scene.console) as relay:
        scene.sources = ["http://127.0.0.1:1", relay.url]
        assert scene.enrol().standing is Standing.APPROVED
        assert relay.asked == ["v1/enroll"]
        assert scene.report().way is Way.CARRIED


def test_token_files(scene: Scene) -> None:
    content = encode_token_file(scene.console.token_file)
    assert enrolling.read_token_file(content, None) == scene.console.token_file
    other = enrolling.read_token_file(content, "https://other.example/")
    assert other.pins.console == "https://other.example"
    assert other.pins.signing == scene.console.pins.signing
    with pytest.raises(ConfigurationError):
        enrolling.read_token_file(b"fwt1.x", None)


def test_a_damaged_answer_is_told(scene: Scene) -> None:
    scene.enrol()
    with scene.disk.create(HOME / "console.json") as file:
        file.write(b"{")
    with pytest.raises(ConfigurationError):
        scene.report()


def test_nothing_to_ask_again_with(scene: Scene) -> None:
    scene.disk.make_folder(HOME)
    found = enrolling.ask_again(
        scene.home, (), FACTS, session=scene.session, clock=scene.clock, entropy=scene.entropy
    )
    assert found is None


# -- what happened -----------------------------------------------------------------------------------


def test_each_change_is_told_once(scene: Scene) -> None:
    scene.enrol()
    scene.report(Seen(records=(record("r1", State.TRIAL),)))
    scene.report(Seen(records=(record("r1", State.TRIAL),)))
    scene.report(Seen(records=(record("r1"),)))
    held = HeldBack(
        release=ReleaseName("r2"),
        tree=sha256_of(b"r2"),
        state=State.ROLLED_BACK,
        reason="the engine\ndied",
    )
    scene.report(Seen(records=(record("r1", State.ROLLED_BACK, held_back=held),)))
    scene.report(Seen(records=(record("r1", State.UNPROTECTED, reason="revoked"),)))
    told = [(e.kind.value, e.release, e.detail) for e in scene.console.stored()]
    assert told == [
        ("enrolled", "", ""),
        ("activated", "r1", ""),
        ("confirmed", "r1", ""),
        ("rolled-back", "r2", "the engine died"),
        ("unprotected", "r1", "revoked"),
    ]


def test_the_clock_and_a_freeze_are_told_when_they_begin(scene: Scene) -> None:
    scene.enrol()
    remarks = ("the clock of this host is 3 days ahead of the timestamp",)
    now = scene.clock.now()
    bad = LastCheck(now, "http://u:p@relay:2967", frozen=True, error=None, remarks=remarks)
    scene.report(replace(SEEN, check=bad))
    scene.report(replace(SEEN, check=bad))
    good = LastCheck(now, None, frozen=False, error=None)
    scene.report(replace(SEEN, check=good))
    scene.report(replace(SEEN, check=bad))
    assert scene.kinds() == ["enrolled", "confirmed", *["frozen-source", "clock"] * 2]
    assert scene.console.check_ins[0].relay == "relay:2967"


def troubled(scene: Scene, *troubles: SourceTrouble) -> Seen:
    """What a host saw whose sources did this just now, and another source served."""
    now = scene.clock.now()
    return replace(
        SEEN, check=LastCheck(now, "http://good:1", frozen=False, error=None, troubles=troubles)
    )


REFUSED = SourceTrouble("http://u:p@bad:2967/x", Trouble.REFUSED, "a signature is wrong")
OLD = SourceTrouble("http://bad:2967", Trouble.OLD, "its timestamp is old")


def test_what_sources_did_is_told_although_another_one_served(scene: Scene) -> None:
    scene.enrol()
    scene.report(troubled(scene, REFUSED, OLD))
    told = [(e.kind.value, e.subject, e.detail) for e in scene.console.stored()[2:]]
    assert told == [
        ("refused-source", "bad:2967/x", "a signature is wrong"),
        ("frozen-source", "bad:2967", "its timestamp is old"),
    ]


def test_what_a_source_does_is_told_once_an_hour(scene: Scene) -> None:
    """A hostile relay that each poll finds out does not fill the spool."""
    scene.enrol()
    for _ in range(6):
        scene.report(troubled(scene, OLD))
        scene.clock.advance(SOURCE_EVENT_EVERY / 3)
    assert scene.kinds()[2:] == ["frozen-source"] * 2
    scene.report(troubled(scene, REFUSED))
    assert scene.kinds()[2:] == ["frozen-source"] * 2 + ["refused-source"]


def test_one_check_is_told_once_however_long_the_next_one_takes(scene: Scene) -> None:
    scene.enrol()
    seen = troubled(scene, REFUSED)
    scene.report(seen)
    scene.clock.advance(3 * SOURCE_EVENT_EVERY)
    scene.console.signs_inbox = OTHER_CONSOLE  # told beside it, by the time at which it was refused
    scene.report(replace(seen, records=(record("r2"),)))
    scene.console.signs_inbox = None
    scene.report(seen)
    told = [event.subject for event in scene.console.stored() if event.subject != RECORD]
    assert [one for one in told if one] == ["bad:2967/x", name_of(scene.console.url)]


def test_enrolment_is_told_once(scene: Scene) -> None:
    scene.enrol()
    for _ in range(3):
        scene.report()
    scene.enrol()
    scene.report()
    assert scene.kinds().count("enrolled") == 1


def test_events_wait_while_the_console_is_away(scene: Scene) -> None:
    scene.enrol()
    scene.console.is_away = True
    outcome = scene.report()
    assert (outcome.way, outcome.pending) == (Way.FAILED, 2)
    assert outcome.error
    scene.console.is_away = False
    assert scene.report().pending == 0
    assert scene.kinds() == ["enrolled", "confirmed"]


def test_more_events_than_fit_one_check_in_go_in_several(scene: Scene) -> None:
    scene.enrol()
    reporter = scene.reporter()
    for number in range(STATUS.events * 2):
        found = happening(
            scene.clock.now(), EventKind.LISTENER_OPENED, subject=f"tcp/{number}", detail="x" * 150
        )
        assert reporter.record(found)
    outcome = scene.report()
    while outcome.pending:
        assert outcome.way is Way.STORED
        outcome = scene.report()
    assert len(scene.console.stored()) == STATUS.events * 2 + 2
    assert len(scene.console.check_ins) <= 8


def test_what_another_version_wrote_is_still_a_number(scene: Scene) -> None:
    scene.enrol()
    reporter = scene.reporter()
    reporter._spool().record(b'{"kind":"from the future"}')
    assert scene.report().pending == 0
    assert scene.kinds()[0] == "events-dropped"


def test_what_found_no_room_is_told(scene: Scene) -> None:
    assert b'"kind":"events-dropped"' in scene.reporter()._dropped(7)


def test_a_console_restored_from_a_backup_gets_the_events_again(scene: Scene) -> None:
    scene.enrol()
    scene.report()
    scene.report(Seen(records=(record("r2"),)))
    scene.console.forget()
    assert scene.report(Seen(records=(record("r3"),))).pending == 0
    assert [e.release for e in scene.console.stored()] == ["", "r1", "r2", "r3"]
    assert len({epoch for epoch, _ in scene.console.events}) == 1


def test_a_console_restored_from_too_old_a_backup_gets_what_is_left_in_a_new_epoch(
    scene: Scene,
) -> None:
    scene.enrol()
    scene.report()
    scene.clock.advance(timedelta(days=8))
    scene.report(Seen(records=(record("r2"),)))
    scene.console.forget()
    assert scene.report(Seen(records=(record("r3"),))).pending == 0
    assert [e.release for e in scene.console.stored()][-1] == "r3"


def test_two_processes_do_not_report_at_once(scene: Scene) -> None:
    scene.enrol()
    with scene.reporter()._lock(), pytest.raises(BusyError):
        scene.report()


def test_an_event_waits_for_the_report_that_is_under_way(scene: Scene) -> None:
    """The port watch finds something while the loop talks to a slow relay."""
    found = happening(scene.clock.now(), EventKind.LISTENER_OPENED, subject="tcp/2967")
    scene.disk.make_folder(HOME)
    report = ExitStack()
    report.enter_context(scene.reporter()._lock())
    scene.clock.on_sleep = report.close
    assert scene.reporter().record(found) == 1
    scene.clock.on_sleep = None
    with scene.reporter()._lock(), pytest.raises(BusyError):
        scene.reporter().record(found)


# -- ways --------------------------------------------------------------------------------------------


def receiver() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.settimeout(5)
    return made


def test_nothing_new_goes_by_datagram_and_now_and_then_by_tcp(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first goes by TCP; then datagrams, and each tenth shows whether anybody carries them."""
    sent: list[tuple[str, bytes]] = []

    def send(url: str, datagram: bytes) -> bool:
        sent.append((url, datagram))
        return True

    monkeypatch.setattr(carrying, "send_datagram", send)
    with stand_in_relay(scene.console) as relay:
        scene.sources = [relay.url]
        scene.enrol()
        ways = [scene.report().way for _ in range(12)]
        assert ways == [Way.CARRIED, *[Way.DATAGRAM] * 9, Way.CARRIED, Way.DATAGRAM]
        assert {url for url, _ in sent} == {relay.url}
        assert all(len(datagram) <= STATUS.datagram_bytes for _, datagram in sent)
        for _, datagram in sent:
            scene.console.take(datagram)
        numbers = [said.n for said in scene.console.check_ins]
        assert sorted(numbers) == list(range(1, 13))
        changed = replace(SEEN, ports=PortsSummary(listeners=4, unexpected=1, digest="cd" * 8))
        assert scene.report(changed).way is Way.CARRIED


def test_a_datagram_leaves_from_a_connected_socket() -> None:
    with receiver() as relay:
        port = relay.getsockname()[1]
        assert carrying.send_datagram(f"http://127.0.0.1:{port}", b"words")
        assert relay.recv(100) == b"words"
    assert not carrying.send_datagram("http://256.0.0.1:2967", b"words")


def test_without_a_relay_it_goes_to_the_console_and_never_by_datagram(scene: Scene) -> None:
    scene.enrol()
    assert [scene.report().way for _ in range(3)] == [Way.STORED] * 3


def test_a_relay_that_comes_back_carries_again(scene: Scene) -> None:
    scene.enrol()
    assert scene.report().way is Way.STORED
    with stand_in_relay(scene.console) as relay:
        scene.sources = [relay.url]
        assert scene.report().way is Way.CARRIED
        relay.scripts["v1/checkins"] = gives(b"", 503)
        assert scene.report(Seen(records=(record("r2"),))).way is Way.STORED


def test_a_relay_that_takes_all_and_carries_nothing_is_passed_by_in_the_end(scene: Scene) -> None:
    """The attacker's relay says 202 to each check-in and 204 to each inbox, and drops everything."""

    def swallow(exchange: Exchange) -> None:
        taken = {"v1/checkins": 202}.get(exchange.path, 404)
        exchange.answer(204 if exchange.path.startswith("v1/inbox/") else taken)

    with source_server({}) as relay:
        relay.scripts = Every(swallow)
        scene.sources = [relay.url]
        scene.enrol()
        ways = [scene.report() for _ in range(checkins.UNHEARD_REPORTS + 1)]
        assert [one.way for one in ways[:-1]] == [Way.CARRIED] * checkins.UNHEARD_REPORTS
        assert all(one.pending for one in ways[:-1])
        assert (ways[-1].way, ways[-1].pending) == (Way.STORED, 0)


def test_an_origin_that_carries_nothing_is_passed_by(scene: Scene) -> None:
    with source_server({}) as origin:
        scene.sources = [origin.url]
        scene.enrol()
        assert scene.report().way is Way.STORED


# -- the inbox ---------------------------------------------------------------------------------------


def directive(kind: DirectiveKind, number: int = 1, **more: object) -> Directive:
    return Directive(id=f"{number:016x}", kind=kind, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "product", "deed"),
    [
        (DirectiveKind.UPDATE_NOW, "", "update None"),
        (DirectiveKind.UPDATE_NOW, "yara", "update yara"),
        (DirectiveKind.LIST_PORTS, "", "ports"),
        (DirectiveKind.ROLL_BACK, "yara", "roll back yara"),
    ],
)
def test_a_directive_is_done_once_and_answered(
    scene: Scene, kind: DirectiveKind, product: str, deed: str
) -> None:
    scene.enrol()
    scene.console.direct(directive(kind, product=product))
    outcome = scene.report()
    assert (outcome.answered, outcome.pending) == (1, 0)
    for _ in range(12):
        scene.report()
    assert scene.deeds.done == [deed]
    answer = scene.console.stored()[-1]
    assert (answer.kind, answer.subject) == (EventKind.DIRECTIVE_DONE, f"{1:016x}")
    assert (answer.product, answer.detail) == (product, f"did {deed}")


def test_verifying_finds_drift_and_tells_it_before_its_answer(scene: Scene) -> None:
    """Drift is an event of its own, so that the console can make an alert of it."""
    scene.enrol()
    drift = "has drifted: a.yar was changed"
    scene.deeds.trees = (
        Tree(product=YARA, release=ReleaseName("r1"), drift=drift),
        Tree(product=ProductName("clamav"), release=ReleaseName("c7")),
    )
    scene.console.direct(directive(DirectiveKind.VERIFY_TREE))
    scene.report()
    for _ in range(12):
        scene.report()
    assert scene.deeds.done == ["verify None"]
    found, answer = scene.console.stored()[-2:]
    assert (found.kind, found.product, found.release) == (EventKind.DRIFT, "yara", "r1")
    assert found.detail == drift
    assert (answer.kind, answer.subject) == (EventKind.DIRECTIVE_DONE, f"{1:016x}")
    assert answer.detail == f"yara: {drift}; clamav: intact"


def test_a_repair_is_told_as_a_confirmation(scene: Scene) -> None:
    """It puts the same release into another slot; the console learns that the drift is over."""
    scene.enrol()
    scene.report()
    told = len(scene.console.stored())
    scene.report()
    assert len(scene.console.stored()) == told
    before = record("r1")
    assert before.current
    repaired = before.having(current=replace(before.current, slot="r1-2"))
    scene.report(replace(SEEN, records=(repaired,)))
    (found,) = scene.console.stored()[told:]
    assert (found.kind, found.release) == (EventKind.CONFIRMED, "r1")


def test_what_cannot_be_done_is_refused_with_its_reason(scene: Scene) -> None:
    scene.enrol()
    scene.deeds.error = ConfigurationError("the previous release was revoked")
    scene.console.direct(directive(DirectiveKind.ROLL_BACK, product="yara"))
    scene.report()
    answer = scene.console.stored()[-1]
    assert (answer.kind, answer.detail) == (
        EventKind.DIRECTIVE_REFUSED,
        "the previous release was revoked",
    )


def test_a_directive_reaches_a_host_with_its_next_report(scene: Scene) -> None:
    """Unless somebody set it otherwise, also where the pause was the shortest: four fifths of a minute."""
    scene.enrol()
    scene.report()
    scene.console.direct(directive(DirectiveKind.LIST_PORTS))
    scene.clock.advance(MINUTE * 0.8)
    scene.reporter().report(SEEN)
    assert scene.deeds.done == ["ports"]


def test_the_inbox_is_asked_for_as_often_as_the_settings_say(scene: Scene) -> None:
    """A directive for a host with no news reaches it within `inbox_every`."""
    scene.enrol()
    for _ in range(3):
        scene.report()
    scene.console.direct(directive(DirectiveKind.LIST_PORTS))
    reporter = scene.reporter()
    reporter.inbox_every = 5 * MINUTE
    scene.clock.advance(MINUTE)
    reporter.report(SEEN)
    assert not scene.deeds.done, "it asks every five minutes"
    reporter.inbox_every = MINUTE
    scene.clock.advance(MINUTE)
    reporter.report(SEEN)
    assert scene.deeds.done == ["ports"]


def test_a_pause_holds_for_its_time(scene: Scene) -> None:
    scene.enrol()
    until = scene.clock.now() + timedelta(hours=3)
    scene.console.direct(directive(DirectiveKind.PAUSE, 1, product="yara", until=until))
    scene.report()
    orders = Orders(scene.disk, HOME / "reports")
    now = scene.clock.now()
    assert orders.is_paused(YARA, now)
    assert not orders.is_paused(ProductName("clamav"), now)
    assert not orders.is_paused(YARA, until)
    assert not orders.is_paused(YARA, now - timedelta(days=2)), "the clock was set back"
    later = until + timedelta(hours=1)
    scene.console.direct(directive(DirectiveKind.PAUSE, 2, until=later))
    scene.clock.advance(checkins.INBOX_INTERVAL)
    scene.report()
    orders = Orders(scene.disk, HOME / "reports")
    assert orders.is_paused(ProductName("clamav"), scene.clock.now())


def test_a_host_that_stops_in_the_middle_never_does_it_twice(scene: Scene) -> None:
    scene.enrol()
    scene.report()

    class PowerCut(BaseException):
        pass

    scene.deeds.error = PowerCut()  # type: ignore[assignment]
    scene.console.direct(directive(DirectiveKind.ROLL_BACK, product="yara"))
    scene.clock.advance(checkins.INBOX_INTERVAL)
    with pytest.raises(PowerCut):
        scene.report()
    scene.deeds.error = None
    scene.disk = scene.disk.crash(Aftermath.FORGETS)
    scene.clock.advance(checkins.INBOX_INTERVAL)
    scene.console.seq += 1
    scene.report()
    assert scene.deeds.done == ["roll back yara"]
    answer = scene.console.stored()[-1]
    assert answer.kind is EventKind.DIRECTIVE_REFUSED
    assert "stopped in the middle" in answer.detail


def test_a_relay_that_replays_an_old_inbox_is_seen(scene: Scene) -> None:
    """The relay answers with the inbox of yesterday, in which there was a directive."""
    scene.enrol()
    scene.report()
    host = enrolling.host_key(scene.home).id
    old = scene.console.inbox(host)
    scene.console.seq += 5
    scene.clock.advance(checkins.INBOX_INTERVAL)
    scene.report()
    orders = Orders(scene.disk, HOME / "reports")
    enrolled = load_enrolled(scene.home)
    assert enrolled is not None
    with pytest.raises(TrustError):
        orders.accept(old, host, enrolled.public(), enrolled.pins.signing_keys(), scene.clock.now())


def test_another_consoles_inbox_begins_anew(scene: Scene) -> None:
    scene.enrol()
    scene.console.seq = 900
    scene.report()
    console = scene.console.keys.public.id
    assert Orders(scene.disk, HOME / "reports").seq(console) > 900
    with stand_in_console(scene.clock, keys=OTHER_CONSOLE) as other:
        scene.console = other
        scene.enrol()
        outcome = scene.report(Seen(records=(record("r2"),)))
        assert (outcome.way, outcome.error) == (Way.STORED, None)
        assert outcome.pending == 0


def test_an_inbox_that_another_console_signed_changes_nothing(scene: Scene) -> None:
    scene.enrol()
    scene.console.signs_inbox = OTHER_CONSOLE
    outcome = scene.report()
    assert outcome.pending == 3, "nothing was acknowledged by whom this host believes"
    assert "signed by no console key" in (outcome.error or "")
    scene.console.signs_inbox = None
    assert scene.report().pending == 0
    told = scene.console.stored()[-1]
    assert (told.kind, told.subject) == (EventKind.REFUSED_SOURCE, name_of(scene.console.url))
    assert told.detail == "an inbox: signed by no console key that this host trusts"
