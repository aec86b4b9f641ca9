"""P6, told as stories: who tries what with check-ins, and what people see of it at the console.

The real program on SQLite or PostgreSQL, real HTTP; hosts are enrolled, and sign and seal as agents do.
Relays are played by whoever posts their batches.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from console.databases import a_database
from console.programs import Console, fetch
from fleetward.adapters.compression import compress
from fleetward.adapters.entropy import SystemEntropy
from fleetward.core.enrolment import HostFacts
from fleetward.core.status import HostEvent
from fleetward.identity.checkins import seal_check_in, verify_inbox
from fleetward.identity.consoles import ConsolePublic
from fleetward.identity.enrolment import EnrolmentToken, request_enrolment
from fleetward.identity.hosts import HostKey
from fleetward.wire.checkins import (
    BATCH_MEDIA_TYPE,
    CHECKIN_TYPE,
    ENVELOPE_MEDIA_TYPE,
    Carried,
    encode_batch,
    encode_check_in,
    milliseconds_of,
)
from fleetward.wire.tokenfile import decode_token_file
from support.status import EPOCH, event, host_key, product, usual

NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE = timedelta(minutes=1)


@dataclass
class Desk:
    """A running console, a token for its API, and what hosts know of it."""

    url: str
    token: str
    console: ConsolePublic
    secret: EnrolmentToken
    enrolled: int = 0

    def host(self) -> HostKey:
        """Enrol another host."""
        self.enrolled += 1
        key = host_key(self.enrolled)
        request = request_enrolment(
            key,
            self.console,
            self.secret,
            HostFacts(name=f"pc-{self.enrolled}"),
            entropy=SystemEntropy(),
            now=datetime.now(UTC),
        )
        headers = {"Content-Type": ENVELOPE_MEDIA_TYPE}
        assert fetch(f"{self.url}/v1/enroll", headers, request.envelope)[0] == 200
        return key

    def seal(self, key: HostKey, n: int, release: str, *events: HostEvent) -> bytes:
        """What a host says in its check-in `n`."""
        said = usual(key, n, products=(product("yara", release),), events=events)
        return seal_check_in(replace(said, sent=NOW + n * MINUTE), key, self.console)

    def bring(self, envelope: bytes) -> int:
        """Bring one as its host does; return the status."""
        headers = {"Content-Type": ENVELOPE_MEDIA_TYPE}
        return fetch(f"{self.url}/v1/checkins", headers, envelope)[0]

    def carry(self, *envelopes: bytes) -> dict[str, int]:
        """Bring a batch as a relay does; return how many were taken, and how many not."""
        received = milliseconds_of(datetime.now(UTC))
        batch = compress(encode_batch(Carried(received, "10.1.2.3", e) for e in envelopes))
        headers = {"Content-Type": BATCH_MEDIA_TYPE}
        status, _, body = fetch(f"{self.url}/v1/checkins", headers, batch)
        assert status == 200, body
        return {verdict: count for verdict, count in json.loads(body).items() if count}

    def acknowledged(self, key: HostKey) -> int:
        """Up to which event the console says that it has all, as the host believes it."""
        status, _, body = fetch(f"{self.url}/v1/inbox/{key.id}?after=0")
        assert status == 200
        signing = [self.console.signing]
        inbox = verify_inbox(body, key.id, signing, seen=0, now=datetime.now(UTC))
        return {ack.epoch: ack.e for ack in inbox.acks}.get(EPOCH, 0)

    def api(self, path: str, body: bytes | None = None) -> Any:  # noqa: ANN401 (JSON)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        status, _, answer = fetch(f"{self.url}/api/v1{path}", headers, body)
        assert status == 200, answer
        return json.loads(answer)

    def record(self, key: HostKey) -> str:
        rows = self.api("/hosts?limit=200")["items"]
        found: str = next(row["record"] for row in rows if row["key"] == key.id)
        return found

    def shown(self, key: HostKey) -> tuple[str, int, list[int]]:
        """What people see of a host: its release, its check-in number, its events' numbers."""
        record = self.record(key)
        host = self.api(f"/hosts/{record}")
        events = self.api(f"/hosts/{record}/events")["items"]
        assert host["cloned"] is None
        releases = [row["release"] for row in host["products"]]
        presence = host["presence"] or {"n": 0}
        return "".join(releases), presence["n"], sorted(row["e"] for row in events)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder: Path = tmp_path_factory.mktemp("console")
    with a_database(folder) as db:
        console = Console(folder, db)
        file, token = console.enrolment("http://127.0.0.1:1", uses=20)
        found = decode_token_file(file)
        pins = found.pins
        public = ConsolePublic(pins.signing_keys()[0], pins.sealing_key())
        with console.running() as url:
            yield Desk(url, token, public, EnrolmentToken.parse(found.token))


def test_another_host_sends_a_hosts_check_in_as_its_own(desk: Desk) -> None:
    """The thief is enrolled too; he seals words that name his victim, and signs them himself."""
    victim, thief = desk.host(), desk.host()
    assert desk.bring(desk.seal(victim, 1, "r1", event(1))) == 204
    said = usual(victim, 2, products=(product("yara", "evil"),), events=(event(2),))
    stolen = thief.sign(CHECKIN_TYPE, desk.console.seal(encode_check_in(said)))
    assert desk.bring(stolen) == 400
    assert desk.carry(stolen) == {"malformed": 1}
    assert desk.shown(victim) == ("r1", 1, [1])
    assert desk.shown(thief) == ("", 0, [])


def test_a_relay_replays_a_check_in(desk: Desk) -> None:
    """A relay keeps what a host said first, and sends it again once the host runs something newer."""
    host = desk.host()
    old = desk.seal(host, 1, "r1", event(1))
    assert desk.carry(old, old) == {"stored": 2}
    assert desk.bring(desk.seal(host, 2, "r2")) == 204
    seen = desk.api(f"/hosts/{desk.record(host)}")["seen"]
    for _ in range(3):
        assert desk.carry(old) == {"stored": 1}
    assert desk.shown(host) == ("r2", 2, [1])
    transitions = desk.api(f"/hosts/{desk.record(host)}/transitions")["items"]
    assert [row["release"] for row in transitions] == ["r2", "r1"]
    assert desk.api(f"/hosts/{desk.record(host)}")["seen"] == seen, "a replay is no sign of life"


def test_a_relay_alters_a_check_in(desk: Desk) -> None:
    """One byte at a time; the check-ins beside it in the batch are taken."""
    host, neighbour = desk.host(), desk.host()
    envelope = desk.seal(host, 1, "r1", event(1))
    altered = [
        envelope[:place] + bytes([envelope[place] ^ 1]) + envelope[place + 1 :]
        for place in range(40, len(envelope) - 40, 50)
    ]
    fine = desk.seal(neighbour, 1, "r1")
    counted = desk.carry(*altered, fine)
    assert counted.pop("stored") == 1
    assert sum(counted.values()) == len(altered)
    assert set(counted) <= {"malformed", "unknown"}, "an altered host id is nobody's"
    assert desk.shown(host) == ("", 0, [])
    assert desk.bring(envelope) == 204, "what the host said itself is taken"
    assert desk.shown(host) == ("r1", 1, [1])


def test_a_relay_drops_a_check_in(desk: Desk) -> None:
    """Event 2 never comes; the host hears so from the console, past the relay, and sends it again."""
    host = desk.host()
    assert desk.carry(desk.seal(host, 1, "r1", event(1))) == {"stored": 1}
    desk.seal(host, 2, "r2", event(2))  # the relay drops it
    assert desk.carry(desk.seal(host, 3, "r2", event(3))) == {"stored": 1}
    assert desk.acknowledged(host) == 1
    assert desk.shown(host) == ("r2", 3, [1, 3])
    assert desk.bring(desk.seal(host, 4, "r2", event(2), event(3))) == 204
    assert desk.acknowledged(host) == 3
    assert desk.shown(host) == ("r2", 4, [1, 2, 3])


def test_a_revoked_host_reports(desk: Desk) -> None:
    """Its key was stolen: what is signed with it is refused, by whatever way it comes."""
    host = desk.host()
    assert desk.bring(desk.seal(host, 1, "r1", event(1))) == 204
    record = desk.record(host)
    desk.api(f"/hosts/{record}/revoke", b"{}")
    after = desk.seal(host, 2, "evil", event(2))
    assert desk.bring(after) == 403
    assert desk.carry(after) == {"revoked": 1}
    assert fetch(f"{desk.url}/v1/inbox/{host.id}?after=0")[0] == 404
    shown = desk.api(f"/hosts/{record}")
    assert shown["standing"] == "revoked"
    assert shown["products"][0]["release"] == "r1"
    assert [row["e"] for row in desk.api(f"/hosts/{record}/events")["items"]] == [1]


def test_somebody_whom_the_console_does_not_know_reports(desk: Desk) -> None:
    stranger = host_key(999)
    assert desk.bring(desk.seal(stranger, 1, "r1")) == 403
    assert desk.carry(desk.seal(stranger, 2, "r1")) == {"unknown": 1}
    assert stranger.id not in {row["key"] for row in desk.api("/hosts?limit=200")["items"]}
