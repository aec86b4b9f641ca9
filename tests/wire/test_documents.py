"""Signed documents on the wire: canonical, strict, and unchanged since they were fixed."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.consoles import Approver, ConsolePair, Consoles, OfflineSite
from fleetward.core.documents import (
    Channel,
    Floor,
    Manifest,
    Policy,
    RampStep,
    Revoked,
    Wave,
)
from fleetward.core.fleet import Relays, Site
from fleetward.core.names import ReleaseName
from fleetward.errors import DocumentError
from fleetward.wire.documents import decode, decode_json, encode, encode_json
from support.samples import CHANNEL, DIGEST, MANIFEST, PRODUCT

GOLDEN = Path(__file__).parent / "golden"
FLOOR = Floor(
    product=PRODUCT,
    seq=7,
    revoked=(Revoked(release=ReleaseName("r3"), tree=DIGEST, reason="stopped the mail servers"),),
)
POLICY = Policy(
    product=PRODUCT,
    ramp=(RampStep(age=0, percent=1.5), RampStep(age=3600, percent=100)),
    when_nothing_is_allowed="none",
)
RELAYS = Relays(
    origins=("https://origin.example",),
    sites=(
        Site(
            name="lyon",
            subnets=("10.2.0.0/16", "2001:db8:2::/48"),
            relays=("http://relay-1.lyon.example:2967", "http://relay-2.lyon.example:2967"),
        ),
        Site(name="lyon.lab", subnets=("10.2.7.0/24",), relays=("http://10.2.7.2:2967",)),
    ),
    default=("https://relay.example",),
)
CONSOLES = Consoles(
    keys=(
        ConsolePair(
            name="main", signing="1a" * 32, sealing="1b" * 32, url="https://console.example"
        ),
        ConsolePair(name="stand-by", signing="2a" * 32, sealing="2b" * 32),
    ),
    approvers=(Approver(name="ada", key="3a" * 32),),
    offline=(OfflineSite(site="ship-1", max_age=2_592_000),),
)
ALL: dict[str, Any] = {
    "console": CONSOLES,
    "release": MANIFEST,
    "channel": CHANNEL,
    "floor": FLOOR,
    "policy": POLICY,
    "relays": RELAYS,
}


@pytest.mark.parametrize("name", ALL)
def test_golden_documents_have_not_changed(name: str) -> None:
    content = (GOLDEN / f"{name}.json").read_bytes()
    assert encode(ALL[name]) == content
    assert decode(type(ALL[name]), content) == ALL[name]
    assert content.startswith(b'{"schema":"fleetward.%b/1",' % name.encode())


def test_a_field_that_is_not_known_is_passed_over() -> None:
    content = encode(FLOOR)[:-1] + b',"later":{"x":[1]}}'
    assert decode(Floor, content) == FLOOR


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (b"", "not a fleetward.floor/1"),
        (b"[]", "not a fleetward.floor/1"),
        (b"{}", "schema"),
        (b'{"schema":"fleetward.floor/2"}', "another version"),
        (b'{"schema":"fleetward.floor/1"}', "product"),
        (b'{"schema":"fleetward.floor/1","product":"yara","seq":"1"}', "seq"),
        (b'{"schema":"fleetward.floor/1","product":"../x","seq":1}', "product name"),
        (b'{"schema":"fleetward.floor/1","product":"yara","seq":-1}', "negative"),
        (b'{"schema":"fleetward.floor/1","product":"yara","seq":1e400}', "not a"),
        (b'{"schema":"fleetward.floor/1","product":"\xff","seq":1}', "not a"),
        (b"[" * 30_000, "not a"),
        (b" " * 70_000, "70000 bytes"),
    ],
)
def test_what_is_no_floor_says_why(content: bytes, because: str) -> None:
    with pytest.raises(DocumentError, match=because):
        decode(Floor, content)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_refused(noise: bytes) -> None:
    for kind in (Manifest, Channel, Floor, Policy, Relays):
        with pytest.raises(DocumentError):
            decode(kind, noise)


def test_waves_and_gates_of_a_channel_come_back() -> None:
    waves = (Wave(rings=("canary",)), Wave(percent=10))
    channel = Channel(
        product=PRODUCT,
        channel=CHANNEL.channel,
        release=CHANNEL.release,
        salt="00",
        plan="waves",
        waves=waves,
        open=1,
        state="running",
    )
    assert decode(Channel, encode(channel)) == channel


def test_plain_documents() -> None:
    assert encode_json("x/1", {"a": 1}) == b'{"schema":"x/1","a":1}'
    assert decode_json("x/1", dict, b'{"schema":"x/1","a":1}')["a"] == 1
