"""Four languages, one meaning: whoever may talk by one firewall's rules may by every other's.

Each text is read by a small model of its language, and asked about the same packets.
"""

import ipaddress
import re
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.core.fleet import Address, Network
from fleetward.portwatch.firewalls import Format, rules_text
from fleetward.portwatch.pins import GROUPS, Peer, Pins, Role, collapsed

MADE = datetime(2026, 11, 24, tzinfo=UTC)
V4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
V6 = st.integers(2**32, 2**128 - 1).map(ipaddress.IPv6Address)
ADDRESSES: st.SearchStrategy[Address] = st.one_of(V4, V6)


def network(address: Address, share: float) -> Network:
    prefix = round(share * address.max_prefixlen)
    return ipaddress.ip_network((address, prefix), strict=False)


NETWORKS = st.builds(network, ADDRESSES, st.sampled_from([0.25, 0.5, 0.75, 1.0]))


@st.composite
def every_pins(draw: st.DrawFn) -> Pins:
    peers = draw(st.lists(ADDRESSES, max_size=4, unique=True))
    subnets = draw(st.lists(NETWORKS, max_size=4))
    return Pins(
        role=draw(st.sampled_from(Role)),
        relays=tuple(Peer(address, f"http://r{n}:2967") for n, address in enumerate(peers)),
        subnets=(*collapsed(subnets, 4), *collapsed(subnets, 6)),
        announcements=draw(st.booleans()),
        made=MADE,
    )


@st.composite
def packets(draw: st.DrawFn, pins: Pins) -> tuple[Address, str]:
    """Draw a peer: often one that the rules name, or its neighbour."""
    named = [peer.address for peer in pins.relays]
    named += [subnet[0] for subnet in pins.subnets] + [subnet[-1] for subnet in pins.subnets]
    named += list(GROUPS)
    address = draw(st.one_of(st.sampled_from(named), ADDRESSES))
    step = draw(st.sampled_from([0, 0, 1, -1]))
    number = min(max(int(address) + step, 0), 2**address.max_prefixlen - 1)
    return type(address)(number), draw(st.sampled_from(["tcp", "udp"]))


def meant_in(pins: Pins, peer: Address, protocol: str) -> bool:
    """Say whether `peer` may begin to talk to this machine, by the words of portwatch.pins."""
    is_relay = any(one.address == peer for one in pins.relays)
    if pins.role is Role.RELAY:
        return is_relay or any(peer in subnet for subnet in pins.subnets)
    return is_relay and pins.announcements and protocol == "udp"


def meant_out(pins: Pins, peer: Address, protocol: str) -> bool:
    """Say whether this machine may begin to talk to `peer`."""
    announces = pins.role is Role.RELAY and protocol == "udp" and peer in GROUPS
    return announces or any(one.address == peer for one in pins.relays)


# -- the models --------------------------------------------------------------------------------


def by_nftables(text: str, chain: str, peer: Address, protocol: str) -> bool:
    sets = {
        name: re.findall(r"[0-9a-f:.]+(?:/\d+)?(?= comment|,|$)", elements)
        for name, elements in re.findall(r"set (\w+) \{[^}]*elements = \{(.*) \}\n", text)
    }
    body = re.search(rf"chain {chain} \{{\n(.*?)\n\t\}}", text, re.DOTALL)
    assert body
    for line in body[1].splitlines():
        rule = re.match(r"\t\t(ip6?) [sd]addr (?:@(\w+)|(\S+))( udp dport 2967)? accept", line)
        if rule is None:
            continue
        version = 6 if rule[1] == "ip6" else 4
        elements = sets.get(rule[2], []) if rule[2] else [rule[3]]
        if (
            peer.version == version
            and (not rule[4] or protocol == "udp")
            and any(peer in ipaddress.ip_network(element) for element in elements)
        ):
            return True
    return False


def by_iptables(text: str, direction: str, peer: Address, protocol: str) -> bool:
    tool = "ip6tables" if peer.version == 6 else "iptables"
    block = re.search(rf"^{tool}-restore .*?\n(.*?)\nRULES", text, re.DOTALL | re.MULTILINE)
    assert block
    for line in block[1].splitlines():
        if not line.startswith(f"-A FLEETWARD-2967-{direction} ") or f"-p {protocol} " not in line:
            continue
        named = re.search(r" -[sd] (\S+)", line)
        if named is None:
            assert "LOG" in line or "DROP" in line
        elif peer in ipaddress.ip_network(named[1]):
            return line.endswith("-j RETURN")
    return False


def by_windows(text: str, way: str, peer: Address, protocol: str) -> bool:
    """A block beats every allow; without either, what the machine does anyway (not ours)."""
    verdict = False
    for line in text.splitlines():
        if f"-Direction {way} -Protocol {protocol.upper()} " not in line:
            continue
        named = re.search(r"-RemoteAddress @\((.*?)\)", line)
        if named is not None and not any(_spans(text, peer) for text in _quoted(named[1])):
            continue
        if "-Action Block" in line:
            return False
        verdict = True
    return verdict


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']+)'", text)


def _spans(text: str, peer: Address) -> bool:
    first, dash, last = text.partition("-")
    if not dash:
        return peer in ipaddress.ip_network(text)
    low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    return low.version == peer.version and int(low) <= int(peer) <= int(high)


def by_suricata(text: str, protocol: str, peer: Address, *, as_source: bool) -> bool:
    """Return whether no rule fires for a packet of `peer`, or to it."""
    for line in text.splitlines():
        rule = re.match(rf"alert {protocol} (\S+) any -> (\S+) 2967 ", line)
        if rule is None:
            continue
        concerns = rule[1] if as_source else rule[2]
        if concerns.startswith("!"):
            names = concerns[2:-1].split(",")
            if not any(peer in ipaddress.ip_network(name) for name in names):
                return False
    return True


# -- the stories -------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=150)
def test_who_may_ask_this_machine(data: st.DataObject) -> None:
    pins = data.draw(every_pins())
    peer, protocol = data.draw(packets(pins))
    meant = meant_in(pins, peer, protocol)
    assert by_nftables(rules_text(pins, Format.NFTABLES), "incoming", peer, protocol) == meant
    assert by_iptables(rules_text(pins, Format.IPTABLES), "IN", peer, protocol) == meant
    assert by_windows(rules_text(pins, Format.WINDOWS), "Inbound", peer, protocol) == meant


@given(st.data())
@settings(max_examples=150)
def test_whom_this_machine_may_ask(data: st.DataObject) -> None:
    pins = data.draw(every_pins())
    peer, protocol = data.draw(packets(pins))
    meant = meant_out(pins, peer, protocol)
    assert by_nftables(rules_text(pins, Format.NFTABLES), "outgoing", peer, protocol) == meant
    assert by_iptables(rules_text(pins, Format.IPTABLES), "OUT", peer, protocol) == meant
    assert by_windows(rules_text(pins, Format.WINDOWS), "Outbound", peer, protocol) == meant


@given(st.data())
@settings(max_examples=100)
def test_a_sensor_is_silent_about_whoever_may_talk(data: st.DataObject) -> None:
    """It does not know which machine is a relay, so it speaks of the network as a whole."""
    pins = data.draw(every_pins())
    peer, protocol = data.draw(packets(pins))
    text = rules_text(pins, Format.SURICATA)
    known = any(one.address == peer for one in pins.relays)
    client = known or any(peer in subnet for subnet in pins.subnets)
    names_somebody = bool(pins.relays or pins.subnets)
    assert by_suricata(text, protocol, peer, as_source=True) == (client or not names_somebody)
    group = protocol == "udp" and peer in GROUPS
    no_relays = protocol == "tcp" and not pins.relays
    assert by_suricata(text, protocol, peer, as_source=False) == (known or group or no_relays)


@given(every_pins(), st.sampled_from(Format))
def test_texts_have_short_names_no_tabs_of_others_and_end_with_a_line(
    pins: Pins, language: Format
) -> None:
    text = rules_text(pins, language)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert "2967" in text.splitlines()[1] + text.splitlines()[0]
    assert text == rules_text(pins, language)
