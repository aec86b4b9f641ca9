"""`ports rules`: who may talk on port 2967, in four languages; each tried by its own program."""

import ipaddress
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.fleet import Network, Relays, Site
from fleetward.errors import NetworkError, UsageError
from fleetward.portwatch.firewalls import Format, rules_text
from fleetward.portwatch.pins import Pins, Role, collapsed, complement, pins_of, resolve_name
from support.namespaces import two_machines

MADE = datetime(2026, 11, 24, tzinfo=UTC)
LISTED = Relays(
    origins=("https://origin.example",),
    sites=(
        Site(
            name="berlin",
            subnets=("10.1.0.0/16", "2001:db8:1::/48"),
            relays=("http://10.1.0.9:2967", "http://[2001:db8:1::9]:2967"),
        ),
        Site(name="oslo", subnets=("10.2.0.0/16",), relays=("http://relay.oslo.example:2967",)),
    ),
    default=("http://192.0.2.7:2967",),
)
NAMES = {"relay.oslo.example": ("10.2.0.9", "2001:db8:2::9")}


def resolve(name: str) -> tuple[str, ...]:
    return NAMES.get(name, ())


def pins(
    role: Role = Role.RELAY,
    *,
    subnets: tuple[str, ...] = ("172.16.0.0/12",),
    announcements: bool = False,
    listed: Relays = LISTED,
) -> Pins:
    return pins_of(
        listed, subnets, role=role, announcements=announcements, made=MADE, resolve=resolve
    )


EVERY = [
    pytest.param(pins(), id="relay"),
    pytest.param(pins(Role.HOST), id="host"),
    pytest.param(pins(Role.HOST, announcements=True), id="host that hears"),
    pytest.param(pins(listed=Relays(), subnets=("10.0.0.0/8", "10.1.0.0/16")), id="subnets alone"),
    pytest.param(pins(listed=Relays(), subnets=()), id="nobody"),
    pytest.param(pins(Role.HOST, listed=Relays(), subnets=()), id="host, nobody"),
]


# -- who may talk ------------------------------------------------------------------------------


def test_relays_by_address_and_name_and_the_subnets_of_sites() -> None:
    found = pins()
    assert [str(peer.address) for peer in found.relays] == [
        "10.1.0.9",
        "2001:db8:1::9",
        "10.2.0.9",
        "2001:db8:2::9",
        "192.0.2.7",
    ]
    assert [str(subnet) for subnet in found.subnets] == [
        "10.1.0.0/16",
        "10.2.0.0/16",
        "172.16.0.0/12",
        "2001:db8:1::/48",
    ]
    assert found.remarks == (
        "https://origin.example is on port 443: these rules do not concern it",
    )
    assert [str(network) for network in found.sources_of(4)][-1] == "192.0.2.7/32"
    assert pins(Role.HOST).sources_of(4) == ()


def test_a_relay_on_plain_http_without_a_port_is_on_80() -> None:
    listed = Relays(default=("http://192.0.2.7",))
    assert "on port 80" in pins(listed=listed).remarks[0]


def test_a_relay_whose_name_does_not_resolve_is_an_error_and_not_left_out() -> None:
    """Rules without it would cut its site off."""
    listed = Relays(default=("http://gone.example:2967",))
    with pytest.raises(NetworkError, match=r"gone\.example"):
        pins(listed=listed)


def test_a_subnet_that_is_none() -> None:
    with pytest.raises(UsageError, match="no subnet"):
        pins(subnets=("10.1.2.3/16",))


def test_names_are_resolved_by_the_system() -> None:
    assert set(resolve_name("localhost")) <= {"127.0.0.1", "::1"}
    assert resolve_name("no-such-host.invalid") == ()
    assert resolve_name("x" * 300) == ()


NETWORKS = st.lists(
    st.one_of(
        st.builds(
            lambda a, p: ipaddress.ip_network((a, p), strict=False),
            st.integers(0, 2**32 - 1),
            st.integers(0, 32),
        ),
        st.builds(
            lambda a, p: ipaddress.ip_network((a, p), strict=False),
            st.integers(2**32, 2**128 - 1),
            st.integers(0, 128),
        ),
    ),
    max_size=8,
)


@given(NETWORKS, st.sampled_from([4, 6]))
def test_the_complement_and_the_networks_are_everything_and_share_nothing(
    networks: list[Network], version: int
) -> None:
    inside = [(int(n[0]), int(n[-1])) for n in collapsed(networks, version)]
    outside = [(int(a), int(b)) for a, b in complement(networks, version)]
    at = 0
    for first, last in sorted([*inside, *outside]):
        assert first == at
        at = last + 1
    assert at == 2 ** (32 if version == 4 else 128)


# -- nftables ----------------------------------------------------------------------------------


@pytest.mark.nftables
@pytest.mark.parametrize("found", EVERY)
def test_nft_takes_the_rules(found: Pins, tmp_path: Path) -> None:
    if which("nft", path="/usr/sbin:/usr/bin:/sbin") is None:
        pytest.skip("no nft: apt-get install nftables")
    file = tmp_path / "rules.nft"
    file.write_text(rules_text(found, Format.NFTABLES))
    tried = subprocess.run(
        ["/usr/sbin/nft", "-c", "-f", file], capture_output=True, text=True, check=False
    )
    if "Operation not permitted" in tried.stderr:
        pytest.skip("nft -c needs root: sudo make test")
    assert tried.returncode == 0, tried.stderr


def test_nftables_by_role() -> None:
    relay = rules_text(pins(), Format.NFTABLES)
    assert "ip saddr @clients4 accept" in relay
    assert "ip daddr 239.255.29.67 udp dport 2967 accept" in relay
    assert '10.1.0.9 comment "http://10.1.0.9:2967"' in relay
    host = rules_text(pins(Role.HOST), Format.NFTABLES)
    assert "saddr" not in host
    assert "239.255.29.67" not in host
    hears = rules_text(pins(Role.HOST, announcements=True), Format.NFTABLES)
    assert "ip6 saddr @relays6 udp dport 2967 accept" in hears
    assert "no relay is known" in rules_text(pins(listed=Relays()), Format.NFTABLES)


def test_an_answer_to_a_client_whose_own_port_is_2967_passes() -> None:
    """The ephemeral-range trap: connections that exist come before anything about the port."""
    for language in (Format.NFTABLES, Format.IPTABLES):
        lines = rules_text(pins(Role.HOST), language).splitlines()
        established = next(i for i, line in enumerate(lines) if "established" in line.lower())
        dropped = next(i for i, line in enumerate(lines) if "drop" in line.lower())
        assert established < dropped


KNOCK = """
import socket, sys
knocker = socket.socket()
knocker.settimeout(float(sys.argv[2]))
print(knocker.connect_ex((sys.argv[1], 2967)))
"""
LISTEN = """
import socket, sys
listener = socket.create_server(("", 2967))
print("listens", flush=True)
sys.stdin.read()
"""


@pytest.mark.namespaces
@pytest.mark.nftables
def test_the_rules_let_clients_in_and_strangers_not(tmp_path: Path) -> None:
    """A relay with the rules loaded, and a neighbour: first a client of the list, then a stranger."""
    if which("nft", path="/usr/sbin:/usr/bin:/sbin") is None:
        pytest.skip("no nft: apt-get install nftables")
    with two_machines() as (relay, neighbour):

        def load(subnet: str) -> None:
            file = tmp_path / "rules.nft"
            file.write_text(rules_text(pins(subnets=(subnet,), listed=Relays()), Format.NFTABLES))
            nft = ["ip", "netns", "exec", relay.name, "/usr/sbin/nft", "-f", str(file)]
            subprocess.run(nft, check=True, capture_output=True)

        with relay.start(LISTEN) as listener:
            try:
                assert listener.stdout
                assert listener.stdout.readline() == "listens\n"
                load("10.77.0.0/24")
                assert neighbour.run(KNOCK, relay.address, "20") == "0\n"
                load("192.0.2.0/24")  # the same file again replaces what it set
                assert neighbour.run(KNOCK, relay.address, "0.5") != "0\n"
                assert relay.run(KNOCK, "127.0.0.1", "20") == "0\n"
            finally:
                listener.terminate()


# -- iptables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("found", EVERY)
def test_the_script_for_iptables_is_a_shells(found: Pins) -> None:
    text = rules_text(found, Format.IPTABLES)
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    blocks = re.findall(r"(ip6?tables)-restore .*?\n(.*?)\nRULES", text, re.DOTALL)
    assert [tool for tool, _ in blocks] == ["iptables", "ip6tables"]
    for tool, block in blocks:
        addresses = re.findall(r"-[sd] (\S+)", block)
        versions = {ipaddress.ip_network(address).version for address in addresses}
        assert versions <= {4 if tool == "iptables" else 6}
        assert block.count("-j DROP") == 4


@pytest.mark.iptables
@pytest.mark.parametrize("found", EVERY)
def test_iptables_itself(found: Pins) -> None:
    if which("iptables-restore", path="/usr/sbin:/usr/bin:/sbin") is None:
        pytest.skip("no iptables: apt-get install iptables")
    text = rules_text(found, Format.IPTABLES)
    for tool, block in re.findall(r"(ip6?tables)-restore .*?\n(.*?)\nRULES", text, re.DOTALL):
        tried = subprocess.run(
            [f"/usr/sbin/{tool}-restore", "--test", "--noflush"],
            input=block + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if "Permission denied" in tried.stderr or "must be root" in tried.stderr:
            pytest.skip("iptables-restore --test needs root: sudo make test")
        assert tried.returncode == 0, tried.stderr


def test_iptables_for_a_host_that_hears_announcements() -> None:
    text = rules_text(pins(Role.HOST, announcements=True), Format.IPTABLES)
    assert "-A FLEETWARD-2967-IN -s 10.1.0.9/32 -p udp --dport 2967 -j RETURN" in text
    assert "-A FLEETWARD-2967-IN -s 10.1.0.9/32 -p tcp" not in text


# -- suricata ----------------------------------------------------------------------------------


@pytest.mark.suricata
@pytest.mark.parametrize("found", EVERY)
def test_suricata_takes_the_rules(found: Pins, tmp_path: Path) -> None:
    suricata = which("suricata", path="/usr/sbin:/usr/bin")
    if suricata is None:
        pytest.skip("no suricata: apt-get install suricata (bookworm-backports on Debian 12)")
    file = tmp_path / "fleetward.rules"
    file.write_text(rules_text(found, Format.SURICATA))
    tried = subprocess.run(
        [suricata, "-T", "-S", str(file), "-l", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr


def test_suricatas_rules_have_ids_of_their_own_in_the_local_range() -> None:
    text = rules_text(pins(), Format.SURICATA)
    sids = [int(sid) for sid in re.findall(r"sid:(\d+);", text)]
    assert len(set(sids)) == 4
    assert all(1_000_000 <= sid < 2_000_000 for sid in sids)
    assert "![10.1.0.9/32,10.2.0.9/32,192.0.2.7/32,2001:db8:1::9/128" in text
    assert "alert tcp any any -> any 2967" in rules_text(
        pins(listed=Relays(), subnets=()), Format.SURICATA
    )


# -- Windows -----------------------------------------------------------------------------------

RULE = re.compile(
    r"New-NetFirewallRule .*-Direction (?P<way>\w+) -Protocol (?P<protocol>\w+) .*"
    r"-Action (?P<action>\w+)(?: -RemoteAddress @\((?P<addresses>[^)]*)\))?"
)


@pytest.mark.parametrize("found", EVERY)
def test_windows_never_blocks_any_beside_a_scoped_allow(found: Pins) -> None:
    """There a block beats every allow: `block any` would stop the allowed as well."""
    rules = [match for line in windows(found) if (match := RULE.match(line))]
    for way in ("Inbound", "Outbound"):
        for protocol in ("TCP", "UDP"):
            mine = [r for r in rules if (r["way"], r["protocol"]) == (way, protocol)]
            allows = [r for r in mine if r["action"] == "Allow"]
            blocks = [r for r in mine if r["action"] == "Block"]
            assert blocks
            if not allows:
                assert [block["addresses"] for block in blocks] == [None]
                continue
            allowed, blocked = spans(allows), spans(blocks)
            for version, first, last in allowed:
                assert not [
                    b for b in blocked if b[0] == version and b[1] <= last and b[2] >= first
                ]
            assert covered(allowed + blocked)


def windows(found: Pins) -> list[str]:
    return rules_text(found, Format.WINDOWS).splitlines()


Span = tuple[int, int, int]


def spans(rules: list[re.Match[str]]) -> list[Span]:
    texts = [text for rule in rules for text in re.findall(r"'([^']+)'", rule["addresses"])]
    return [span(text) for text in texts]


def span(text: str) -> Span:
    if "-" in text:
        first, last = map(ipaddress.ip_address, text.split("-"))
        return first.version, int(first), int(last)
    network = ipaddress.ip_network(text)
    return network.version, int(network[0]), int(network[-1])


def covered(found: list[Span]) -> bool:
    """Return whether the spans are all addresses of both versions."""
    for version, end in ((4, 2**32), (6, 2**128)):
        at = 0
        for _, first, last in sorted(s for s in found if s[0] == version):
            assert first <= at
            at = max(at, last + 1)
        if at != end:
            return False
    return True


def test_an_address_alone_in_the_complement_is_no_range() -> None:
    two = (
        "0.0.0.0/1",
        "128.0.0.0/2",
        "192.0.0.0/3",
        "224.0.0.0/4",
        "240.0.0.0/5",
        "248.0.0.0/6",
        "252.0.0.0/7",
        "254.0.0.0/8",
        "255.0.0.0/9",
        "255.128.0.0/10",
        "255.192.0.0/11",
        "255.224.0.0/12",
        "255.240.0.0/13",
        "255.248.0.0/14",
        "255.252.0.0/15",
        "255.254.0.0/16",
        "255.255.0.0/17",
        "255.255.128.0/18",
        "255.255.192.0/19",
        "255.255.224.0/20",
        "255.255.240.0/21",
        "255.255.248.0/22",
        "255.255.252.0/23",
        "255.255.254.0/24",
        "255.255.255.0/25",
        "255.255.255.128/26",
        "255.255.255.192/27",
        "255.255.255.224/28",
        "255.255.255.240/29",
        "255.255.255.248/30",
        "255.255.255.252/31",
        "255.255.255.254/32",
        "::/0",
    )
    text = rules_text(pins(listed=Relays(), subnets=two), Format.WINDOWS)
    assert "-Action Block -RemoteAddress @('255.255.255.255')" in text
    everybody = rules_text(pins(listed=Relays(), subnets=("0.0.0.0/0", "::/0")), Format.WINDOWS)
    assert "inbound: everybody else" not in everybody
