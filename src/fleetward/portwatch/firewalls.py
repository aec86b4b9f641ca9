"""`ports rules`: who may talk on port 2967, in the languages of firewalls and of Suricata.

What all have in common: packets of connections that exist already pass (a client's own port may be
2967), loopback passes, whoever is stopped is logged at a bounded rate, and nothing but port 2967
is touched. A packet that passes here still meets the machine's other rules.

On Windows an explicit block beats every allow, so a block of "any" beside a scoped allow would
stop the allowed too: what is blocked there is the complement, as ranges.

Sources: nft(8), iptables-extensions(8), Suricata's rule format, New-NetFirewallRule.

Deliberately not here: who may talk (portwatch.pins).
"""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Final

from fleetward.core.fleet import Network, parse_subnet
from fleetward.portwatch.pins import GROUPS, Pins, Role, complement

_VERSIONS: Final = (4, 6)
_FIRST_SID: Final = 1_296_701
"""In the range for local rules (1,000,000 to 1,999,999); from 2,000,000 on is somebody else's."""


class Format(StrEnum):
    """Languages."""

    NFTABLES = "nftables"
    IPTABLES = "iptables"
    SURICATA = "suricata"
    WINDOWS = "windows"


def rules_text(pins: Pins, language: Format) -> str:
    """Return the rules in a language, with comments; ends with a line break."""
    return "\n".join(_WRITERS[language](pins)) + "\n"


def _head(pins: Pins, how: str) -> Iterator[str]:
    yield f"# Fleetward: who may talk on port {pins.port} (tcp and udp); for a {pins.role}."
    yield f"# Made {pins.made:%Y-%m-%dT%H:%M:%SZ} from {len(pins.relays)} addresses of relays and"
    yield f"# {len(pins.subnets)} subnets of clients. Make it anew when the list of relays changes."
    yield f"# {how}"
    yield from (f"# Note: {remark}" for remark in pins.remarks)
    if not pins.relays:
        yield "# Note: no relay is known, so nobody may be talked to on this port."


# -- nftables ----------------------------------------------------------------------------------


def _nftables(pins: Pins) -> Iterator[str]:
    table = f"inet fleetward_{pins.port}"
    yield "#!/usr/sbin/nft -f"
    yield from _head(pins, "Try it with `nft -c -f FILE`, load it with `nft -f FILE`.")
    yield f"table {table}"
    yield f"delete table {table}"
    yield f"table {table} {{"
    for version in _VERSIONS:
        yield from _nft_set(pins, version)
    yield from _nft_chain("input", "iifname", f"th dport {pins.port} jump incoming")
    yield "\tchain incoming {"
    yield from _nft_incoming(pins)
    yield from _nft_stop("in")
    yield from _nft_chain("output", "oifname", f"th dport {pins.port} jump outgoing")
    yield "\tchain outgoing {"
    yield from (f"\t\tip{_six(v)} daddr @relays{v} accept" for v in _VERSIONS)
    if pins.role is Role.RELAY:
        yield from (
            f"\t\tip{_six(g.version)} daddr {g} udp dport {pins.port} accept" for g in GROUPS
        )
    yield from _nft_stop("out")
    yield "}"


def _six(version: int) -> str:
    return "6" if version == 6 else ""


def _nft_set(pins: Pins, version: int) -> Iterator[str]:
    kind = f"\t\ttype ipv{version}_addr"
    relays = [f'{p.address} comment "{p.name[:120]}"' for p in pins.relays_of(version)]
    subnets = [str(subnet) for subnet in pins.subnets_of(version)]
    for name, elements in ((f"relays{version}", relays), (f"clients{version}", subnets)):
        yield f"\tset {name} {{"
        yield kind
        if name.startswith("clients"):
            yield "\t\tflags interval"
        if elements:
            yield f"\t\telements = {{ {', '.join(elements)} }}"
        yield "\t}"


def _nft_chain(hook: str, interface: str, jump: str) -> Iterator[str]:
    yield f"\tchain {hook} {{"
    yield f"\t\ttype filter hook {hook} priority -5; policy accept;"
    yield f'\t\t{interface} "lo" accept'
    yield "\t\tct state established,related accept"
    yield f"\t\tmeta l4proto {{ tcp, udp }} {jump}"
    yield "\t}"


def _nft_incoming(pins: Pins) -> Iterator[str]:
    for version in _VERSIONS:
        family = f"ip{_six(version)}"
        if pins.role is Role.RELAY:
            yield f"\t\t{family} saddr @relays{version} accept"
            yield f"\t\t{family} saddr @clients{version} accept"
        elif pins.announcements:
            yield f"\t\t{family} saddr @relays{version} udp dport {pins.port} accept"


def _nft_stop(direction: str) -> Iterator[str]:
    yield f'\t\tlimit rate 10/minute log prefix "fleetward-2967-{direction} "'
    yield "\t\tcounter drop"
    yield "\t}"


# -- iptables ----------------------------------------------------------------------------------


def _iptables(pins: Pins) -> Iterator[str]:
    yield "#!/bin/sh"
    yield from _head(pins, "Run it as root; again to replace what it set.")
    yield "set -eu"
    for version in _VERSIONS:
        tool = f"ip{_six(version)}tables"
        yield f"{tool}-restore --wait --noflush <<'RULES'"
        yield from _restore_lines(pins, version)
        yield "RULES"
        for hook, chain in (("INPUT", _chain(pins, "IN")), ("OUTPUT", _chain(pins, "OUT"))):
            jump = f"{hook} -j {chain}"
            yield f"{tool} --wait -C {jump} 2>/dev/null || {tool} --wait -I {jump}"


def _chain(pins: Pins, direction: str) -> str:
    return f"FLEETWARD-{pins.port}-{direction}"


def _restore_lines(pins: Pins, version: int) -> Iterator[str]:
    yield "*filter"
    for direction in ("IN", "OUT"):
        yield f":{_chain(pins, direction)} - [0:0]"
    yield from _ipt_chain(pins, "IN", "-i", _ipt_sources(pins, version))
    yield from _ipt_chain(pins, "OUT", "-o", _ipt_targets(pins, version))
    yield "COMMIT"


def _ipt_chain(pins: Pins, direction: str, lo: str, allowed: Iterable[str]) -> Iterator[str]:
    chain = f"-A {_chain(pins, direction)}"
    yield f"{chain} {lo} lo -j RETURN"
    yield f"{chain} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"
    yield from (f"{chain} {match} -j RETURN" for match in allowed)
    prefix = f"fleetward-{pins.port}-{direction.lower()} "
    for protocol in ("tcp", "udp"):
        match = f"{chain} -p {protocol} --dport {pins.port}"
        yield f'{match} -m limit --limit 10/minute -j LOG --log-prefix "{prefix}"'
        yield f"{match} -j DROP"


def _ipt_sources(pins: Pins, version: int) -> Iterator[str]:
    for network in pins.sources_of(version):
        yield from (f"-s {network} -p {p} --dport {pins.port}" for p in ("tcp", "udp"))
    if pins.role is Role.HOST and pins.announcements:
        for network in pins.targets_of(version):
            yield f"-s {network} -p udp --dport {pins.port}"


def _ipt_targets(pins: Pins, version: int) -> Iterator[str]:
    for network in pins.targets_of(version):
        yield from (f"-d {network} -p {p} --dport {pins.port}" for p in ("tcp", "udp"))
    if pins.role is Role.RELAY:
        groups = (group for group in GROUPS if group.version == version)
        yield from (f"-d {group} -p udp --dport {pins.port}" for group in groups)


# -- suricata ----------------------------------------------------------------------------------


def _suricata(pins: Pins) -> Iterator[str]:
    yield from _head(pins, "For a sensor that sees the network: try it with `suricata -T -S FILE`.")
    relays = [network for v in _VERSIONS for network in pins.targets_of(v)]
    strangers = _all_but([*relays, *pins.subnets])
    asked = f"a stranger asks on port {pins.port}"
    misled = f"somebody asks a machine on port {pins.port} that is no relay of the list"
    ways = (
        ("tcp", strangers, "any", asked),
        ("udp", strangers, "any", asked),
        ("tcp", "any", _all_but(relays), misled),
        ("udp", "any", _all_but([*relays, *GROUPS]), misled),
    )
    for sid, (protocol, source, target, what) in enumerate(ways, _FIRST_SID):
        begins = "flow:to_server; " + ("flags:S,12; " if protocol == "tcp" else "")
        yield (
            f"alert {protocol} {source} any -> {target} {pins.port} "
            f'(msg:"FLEETWARD {protocol}: {what}"; {begins}'
            "threshold:type limit, track by_src, count 1, seconds 300; "
            f"classtype:policy-violation; sid:{sid}; rev:1;)"
        )


def _all_but(networks: Iterable[object]) -> str:
    names = ",".join(map(str, networks))
    return f"![{names}]" if names else "any"


# -- Windows -----------------------------------------------------------------------------------


def _windows(pins: Pins) -> Iterator[str]:
    yield from _head(pins, "PowerShell, as administrator; again to replace what it set.")
    yield f"$group = 'Fleetward port {pins.port}'"
    yield (
        "Get-NetFirewallRule -Group $group -ErrorAction SilentlyContinue | Remove-NetFirewallRule"
    )
    for protocol in ("TCP", "UDP"):
        hears = pins.role is Role.HOST and pins.announcements and protocol == "UDP"
        sources = [
            network
            for v in _VERSIONS
            for network in (pins.targets_of(v) if hears else pins.sources_of(v))
        ]
        yield from _win_pair(pins, "Inbound", protocol, sources)
        targets = [network for v in _VERSIONS for network in pins.targets_of(v)]
        if pins.role is Role.RELAY and protocol == "UDP":
            targets += [parse_subnet(str(group)) for group in GROUPS]
        yield from _win_pair(pins, "Outbound", protocol, targets)


def _win_pair(pins: Pins, direction: str, protocol: str, allowed: list[Network]) -> Iterator[str]:
    """Write an allow for `allowed` and a block for its complement; never a block of "any" beside."""
    local = "-LocalPort" if direction == "Inbound" else "-RemotePort"
    title = f"Fleetward {pins.port} {protocol} {direction.lower()}"
    start = (
        f"New-NetFirewallRule -Group $group -Direction {direction} -Protocol {protocol} "
        f"{local} {pins.port} -Profile Any"
    )
    if not allowed:
        yield f"{start} -DisplayName '{title}: nobody' -Action Block | Out-Null"
        return
    others = [
        f"{first}-{last}" if first != last else str(first)
        for version in _VERSIONS
        for first, last in complement(allowed, version)
    ]
    yield (
        f"{start} -DisplayName '{title}: allowed' -Action Allow "
        f"-RemoteAddress {_win_list(allowed)} | Out-Null"
    )
    if others:
        yield (
            f"{start} -DisplayName '{title}: everybody else' -Action Block "
            f"-RemoteAddress {_win_list(others)} | Out-Null"
        )


def _win_list(items: Iterable[object]) -> str:
    return f"@({', '.join(repr(str(item)) for item in items)})"


_WRITERS: Final[dict[Format, Callable[[Pins], Iterator[str]]]] = {
    Format.NFTABLES: _nftables,
    Format.IPTABLES: _iptables,
    Format.SURICATA: _suricata,
    Format.WINDOWS: _windows,
}
