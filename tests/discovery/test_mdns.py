"""Multicast DNS on a network of the test's own: two namespaces, a relay in one, a host in the other."""

import json
from ipaddress import ip_address

import pytest

from fleetward.discovery.mdns import MAX_NAMES
from support.namespaces import Machine, two_machines

pytestmark = pytest.mark.namespaces

ADVERTISE = """
import asyncio, sys
from ipaddress import ip_address
from fleetward.discovery.mdns import Advertisement, advertised

async def main():
    name, port, *addresses = sys.argv[1:]
    shown = Advertisement(name, [ip_address(a) for a in addresses], int(port))
    async with advertised(shown) as given:
        print(given, flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""

FIND = """
import json, socket, threading
from fleetward.discovery.mdns import find_relays

def ports():
    lines = [l.split() for f in ("udp", "udp6") for l in open(f"/proc/net/{f}").readlines()[1:]]
    return {int(line[1].rpartition(":")[2], 16) for line in lines}

seen, done = set(), threading.Event()
def watch():
    while not done.wait(0.01):
        seen.update(ports())

watcher = threading.Thread(target=watch)
watcher.start()
found = find_relays()
done.set()
watcher.join()
print(json.dumps({"found": found, "during": sorted(seen), "after": sorted(ports())}))
"""

FLOOD = """
import socket, struct, sys
def name(text):
    return b"".join(bytes([len(p)]) + p for p in text.encode().split(b".") if p) + b"\\0"

answers = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
answers.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
answers.bind(("", 5353))
group = socket.inet_aton("224.0.0.251") + socket.inet_aton(sys.argv[1])
answers.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
print("ready", flush=True)
service = "_fleetward._tcp.local."
_, peer = answers.recvfrom(2000)
for n in range(3000):
    own = f"evil{n}.{service}"
    host = f"evil{n}.local."
    records = [
        name(service) + struct.pack(">HHIH", 12, 1, 120, len(name(own))) + name(own),
        name(own) + struct.pack(">HHIH", 33, 0x8001, 120, 6 + len(name(host)))
        + struct.pack(">HHH", 0, 0, 2967) + name(host),
        name(host) + struct.pack(">HHIH", 1, 0x8001, 120, 4) + socket.inet_aton(sys.argv[1]),
    ]
    answers.sendto(struct.pack(">HHHHHH", 0, 0x8400, 0, 1, 0, 2) + b"".join(records), peer)
print("flooded", flush=True)
"""


def found_by(machine: Machine) -> dict[str, list[object]]:
    told: dict[str, list[object]] = json.loads(machine.run(FIND))
    return told


def test_a_host_finds_the_relays_of_its_network_and_listens_on_nothing() -> None:
    """Two relays have one name; the host asks once, from ports that the system gives (P4)."""
    with two_machines() as (site, host):
        with site.start(ADVERTISE, "relay.lyon", "2967", "127.0.0.1", "10.77.0.1") as first:
            assert first.stdout is not None
            assert first.stdout.readline() == "relay-lyon._fleetward._tcp.local.\n"
            with site.start(ADVERTISE, "relay.lyon", "8080", "fd00::7") as second:
                assert second.stdout is not None
                assert second.stdout.readline() == "relay-lyon-2._fleetward._tcp.local.\n"
                told = found_by(host)
                second.communicate("\n", timeout=20)
            first.communicate("\n", timeout=20)
        assert set(told["found"]) == {"http://10.77.0.1:2967", "http://[fd00::7]:8080"}
        assert told["during"]
        assert 5353 not in told["during"]
        assert told["after"] == []
        assert found_by(host)["found"] == []


def test_addresses_that_make_no_sense_are_not_asked() -> None:
    """Whoever is on the network announces the host's own loopback, or a cloud's metadata."""
    senseless = ("127.0.0.1", "169.254.169.254", "fe80::1")
    with two_machines() as (site, host), site.start(ADVERTISE, "x", "80", *senseless) as bad:
        assert bad.stdout is not None
        bad.stdout.readline()
        assert found_by(host)["found"] == []
        bad.communicate("\n", timeout=20)


def test_a_flood_of_answers_is_cut() -> None:
    """An attacker answers one question with three thousand relays."""
    with two_machines() as (attacker, host):
        with attacker.start(FLOOD, attacker.address) as flood:
            assert flood.stdout is not None
            assert flood.stdout.readline() == "ready\n"
            found = found_by(host)["found"]
            assert flood.stdout.readline() == "flooded\n"
        assert len(found) <= MAX_NAMES
        assert set(found) <= {f"http://{ip_address(attacker.address)}:2967"}


def test_where_there_is_no_network_it_is_said() -> None:
    code = (
        "from fleetward.discovery.mdns import find_relays\n"
        "from fleetward.errors import NetworkError\n"
        "try: print(find_relays())\n"
        "except NetworkError as error: print(error)\n"
    )
    with two_machines() as (_, host):
        said = host.run(
            "import subprocess\n"
            "for link in ('lo', *[n for _, n in __import__('socket').if_nameindex() if n != 'lo']):\n"
            "    subprocess.run(['ip', 'link', 'set', link, 'down'], check=True)\n" + code
        )
    assert said.startswith(("mDNS cannot be asked", "()"))
