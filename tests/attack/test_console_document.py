"""Stories of `fleet/console.json`: who may say whom hosts believe, and what a false one could do."""

import pytest

from fleetward.core.consoles import ConsolePair, Consoles
from fleetward.errors import DigestError, DocumentError, MetadataError, RollbackError, TrustError
from fleetward.trust.client import Outcome
from fleetward.wire.documents import encode
from fleetward.wire.layout import CONSOLE_TARGET, target_path
from support.sourceserver import SourceServer, gives
from support.trusthost import Host
from support.tufsim import SimFleet

OLD = Consoles(keys=(ConsolePair(name="main", signing="1a" * 32, sealing="1b" * 32),))
NEW = Consoles(keys=(ConsolePair(name="main", signing="2a" * 32, sealing="2b" * 32),))
EVIL = Consoles(keys=(ConsolePair(name="main", signing="ea" * 32, sealing="eb" * 32),))


def sign(origin: SimFleet, consoles: Consoles = OLD) -> str:
    """The fleet keys sign whom hosts believe; returns where it lies."""
    target = origin.add_target("fleet", CONSOLE_TARGET, encode(consoles))
    origin.publish("fleet")
    return target_path(CONSOLE_TARGET, target.hashes["sha256"])  # type: ignore[arg-type]


def test_a_host_reads_what_two_fleet_keys_signed(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    assert client.refresh(source.url).consoles() is None
    sign(origin)
    assert client.refresh(source.url).consoles() == OLD
    client.restart()
    view = client.trust.last_view()
    assert view is not None
    assert view.consoles() == OLD


def test_one_stolen_fleet_key_names_another_console(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    sign(origin)
    client.refresh(source.url).consoles()
    origin.signers["fleet"] = origin.signers["fleet"][:1]
    sign(origin, EVIL)
    with pytest.raises(TrustError, match="fleet"):
        client.refresh(source.url).consoles()


def test_the_stolen_online_key_names_another_console(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    """The steward's key says who runs what; it signs snapshot and timestamp, and no console."""
    sign(origin)
    origin.add_target("channels", CONSOLE_TARGET, encode(EVIL))
    origin.publish("channels")
    view = client.refresh(source.url)
    assert view.consoles() == OLD
    with pytest.raises(MetadataError, match="outside channels/"):
        view.channel("yara", "stable")  # type: ignore[arg-type]


def test_the_stolen_online_keys_bring_the_old_fleet_role_back(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    """Snapshot and timestamp are new and well signed; the fleet role in them is the one before."""
    sign(origin)
    before = origin.roles["fleet"].version
    sign(origin, NEW)
    assert client.refresh(source.url).consoles() == NEW
    origin.roles["fleet"].version = before - 1
    sign(origin, OLD)
    with pytest.raises(RollbackError):
        client.refresh(source.url)
    client.restart()
    # No whole view is left, and none with the old document: what the host knew is kept elsewhere
    # (agent.consoles).
    assert client.trust.last_view() is None


def test_a_relay_replays_the_repository_of_before_the_rotation(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    sign(origin)
    client.refresh(source.url)
    old = dict(origin.files)
    sign(origin, NEW)
    assert client.refresh(source.url).consoles() == NEW
    origin.files.clear()
    origin.files.update(old)
    with pytest.raises(RollbackError):
        client.refresh(source.url)
    view = client.trust.last_view()
    assert view is not None
    assert view.consoles() == NEW


def test_a_relay_withholds_the_document_and_the_next_source_gives_it(
    origin: SimFleet, source: SourceServer, relay: SourceServer, client: Host
) -> None:
    path = sign(origin)
    relay.scripts[path] = lambda exchange: exchange.answer(404)
    relay.files = {name: content for name, content in origin.files.items() if name != path}
    assert client.refresh(relay.url, source.url).consoles() == OLD


def test_a_relay_sends_another_document_under_the_signed_name(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    source.scripts[sign(origin)] = gives(encode(EVIL))
    view = client.refresh(source.url)
    with pytest.raises(DigestError):
        view.consoles()
    assert [report.outcome for report in view.reports] == [Outcome.FRESH, Outcome.REFUSED]


def test_a_relay_mixes_the_old_document_with_new_metadata(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    sign(origin)
    source.scripts[sign(origin, NEW)] = gives(encode(OLD))
    with pytest.raises(DigestError):
        client.refresh(source.url).consoles()


@pytest.mark.parametrize(
    "content",
    [
        b'{"schema":"fleetward.console/1","keys":[]}',
        b'{"schema":"fleetward.console/1","keys":[{"name":"main","signing":"ab","sealing":"cd"}]}',
        b'{"schema":"fleetward.relays/1"}',
        b"",
    ],
)
def test_what_was_signed_by_mistake_names_no_console(
    origin: SimFleet, source: SourceServer, client: Host, content: bytes
) -> None:
    origin.add_target("fleet", CONSOLE_TARGET, content)
    origin.publish("fleet")
    with pytest.raises(DocumentError):
        client.refresh(source.url).consoles()
