"""Stories of the list of relays: who may sign it, and what a false one could do."""

import pytest

from fleetward.core.fleet import Relays, Site
from fleetward.errors import DigestError, DocumentError, MetadataError, TrustError
from fleetward.wire.documents import encode
from fleetward.wire.layout import RELAYS_TARGET, target_path
from support.sourceserver import SourceServer, gives
from support.trusthost import Host
from support.tufsim import SimFleet

LYON = Site(name="lyon", subnets=("10.2.0.0/16",), relays=("http://relay.lyon.example:2967",))
LISTED = Relays(sites=(LYON,))
EVIL = Relays(default=("http://attacker.example",))


def sign(origin: SimFleet, listed: Relays = LISTED) -> str:
    """The fleet keys sign a list; returns where it lies."""
    target = origin.add_target("fleet", RELAYS_TARGET, encode(listed))
    origin.publish("fleet")
    return target_path(RELAYS_TARGET, target.hashes["sha256"])  # type: ignore[arg-type]


def test_a_host_reads_what_two_fleet_keys_signed(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    assert client.refresh(source.url).relays() is None
    sign(origin)
    assert client.refresh(source.url).relays() == LISTED
    # It is kept, and read again without the network.
    client.restart()
    view = client.trust.last_view()
    assert view is not None
    assert view.relays() == LISTED


def test_one_stolen_fleet_key_signs_a_list(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    sign(origin)
    client.refresh(source.url).relays()
    origin.signers["fleet"] = origin.signers["fleet"][:1]
    sign(origin, EVIL)
    with pytest.raises(TrustError, match="fleet"):
        client.refresh(source.url).relays()


def test_the_stolen_online_key_names_a_list(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    """The steward's key may say who runs what, and nothing of where hosts ask."""
    origin.add_target("channels", RELAYS_TARGET, encode(EVIL))
    origin.publish("channels")
    view = client.refresh(source.url)
    assert view.relays() is None
    with pytest.raises(MetadataError, match="outside channels/"):
        view.channel("yara", "stable")  # type: ignore[arg-type]


def test_a_relay_sends_another_list_under_the_signed_name(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    source.scripts[sign(origin)] = gives(encode(EVIL))
    with pytest.raises(DigestError):
        client.refresh(source.url).relays()


@pytest.mark.parametrize(
    "content",
    [
        b'{"schema":"fleetward.relays/1","default":["file:///etc/passwd"]}',
        b'{"schema":"fleetward.relays/1","default":["http://user:word@relay.example"]}',
        b'{"schema":"fleetward.relays/1","sites":[{"name":"x","subnets":["0/0"],"relays":["http://r"]}]}',
        b'{"schema":"fleetward.policy/1","product":"yara"}',
    ],
)
def test_what_was_signed_by_mistake_is_no_list(
    origin: SimFleet, source: SourceServer, client: Host, content: bytes
) -> None:
    origin.add_target("fleet", RELAYS_TARGET, content)
    origin.publish("fleet")
    with pytest.raises(DocumentError):
        client.refresh(source.url).relays()
