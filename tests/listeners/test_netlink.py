"""The kernel's own list: the filter's bytecode, the answers' bytes, and what is refused."""

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.listeners import Transport
from fleetward.errors import ConfigurationError
from fleetward.listeners import linux_netlink
from fleetward.listeners.linux_netlink import NetlinkSockets, parse_answer, port_filter, request
from fleetward.listeners.source import SourceDeniedError

PORTS = st.frozensets(st.integers(1, 65_535), min_size=1, max_size=40)


def run(program: bytes, port: int) -> bool:
    """Run a filter as the kernel does (net/ipv4/inet_diag.c, inet_diag_bc_run)."""
    at, left = 0, len(program)
    while left > 0:
        code, yes, no = struct.unpack_from("=BBH", program, at)
        operand = struct.unpack_from("=BBH", program, at + 4)[2] if code in {2, 3} else 0
        holds = {1: False, 2: port >= operand, 3: port <= operand}[code]
        step = yes if holds else no
        assert step % 4 == 0
        assert 4 <= step <= left + 4
        at, left = at + step, left - step
    return left == 0


def audit(program: bytes) -> None:
    """Check what the kernel checks before it takes a filter (inet_diag_bc_audit)."""
    at, left = 0, len(program)
    starts = set()
    while left > 0:
        starts.add(at)
        _, yes, _ = struct.unpack_from("=BBH", program, at)
        at, left = at + yes, left - yes
    assert left == 0
    for start in starts:
        code, _, no = struct.unpack_from("=BBH", program, start)
        least = 8 if code in {2, 3} else 4
        target = start + no
        assert no >= least
        assert no <= len(program) - start + 4
        assert target >= len(program) or target in starts


@given(PORTS, st.integers(0, 65_535))
def test_the_filter_accepts_its_ports_and_no_other(ports: frozenset[int], other: int) -> None:
    program = port_filter(ports)
    audit(program)
    for port in {*ports, other, *(port + 1 for port in ports), *(port - 1 for port in ports)}:
        assert run(program, port) == (port in ports)


def test_no_ports_is_no_filter() -> None:
    assert port_filter(frozenset()) == b""
    assert len(request(2, 6, 1, b"")) == 16 + 56
    assert len(request(2, 6, 1, bytes(36))) == 16 + 56 + 4 + 36


def bound(count: int) -> list[socket.socket]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
        one.listen()
    return sockets


def test_the_kernel_takes_the_filter_for_one_many_and_too_many_ports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sockets = bound(30)
    try:
        ports = frozenset(one.getsockname()[1] for one in sockets)
        for wanted in (frozenset(list(ports)[:1]), ports, ports | frozenset(range(1, 900))):
            found = {one.port for one in NetlinkSockets().sockets(wanted)}
            assert wanted & ports <= found <= wanted
        monkeypatch.setattr(linux_netlink, "MAX_FILTERED_PORTS", 3)
        assert {one.port for one in NetlinkSockets().sockets(ports)} == ports
        assert ports <= {one.port for one in NetlinkSockets().sockets(frozenset())}
    finally:
        for one in sockets:
            one.close()


# -- recorded answers --------------------------------------------------------------------------


def answer(
    family: int, port: int, address: bytes, uid: int, inode: int, attributes: bytes = b""
) -> memoryview:
    identity = struct.pack(">HH", port, 0) + address.ljust(16, b"\0") + bytes(28)
    numbers = struct.pack("=IIIII", 0, 0, 0, uid, inode)
    return memoryview(bytes((family, 10, 0, 0)) + identity + numbers + attributes)


def attribute(kind: int, content: bytes) -> bytes:
    padded = content + bytes(-len(content) % 4)
    return struct.pack("=HH", 4 + len(content), kind) + padded


def test_answers_with_and_without_attributes() -> None:
    flags = attribute(11, b"\0") + attribute(8, b"\0") + attribute(21, struct.pack("=Q", 4711))
    both = parse_answer(answer(10, 2967, bytes(16), 0, 5, flags), Transport.TCP, 9)
    assert (both.address, both.port, both.v6only) == ("::", 2967, False)
    assert (both.cgroup, both.inode, both.uid, both.namespace) == (4711, 5, 0, 9)
    only = parse_answer(answer(10, 1, bytes(16), 0, 5, attribute(11, b"\1")), Transport.TCP, 0)
    assert only.v6only is True
    old = parse_answer(answer(10, 1, bytes(16), 0, 5), Transport.TCP, 0)
    assert (old.v6only, old.cgroup) == (None, None)
    four = parse_answer(answer(2, 80, bytes((127, 0, 0, 1)), 33, 6), Transport.UDP, 0)
    assert (four.address, four.v6only, four.uid) == ("127.0.0.1", None, 33)


@given(st.binary(max_size=40))
def test_attributes_of_any_bytes_end(tail: bytes) -> None:
    found = parse_answer(answer(2, 80, b"\x7f\0\0\1", 0, 1, tail), Transport.TCP, 0)
    assert found.port == 80


class Kernel:
    """Answers one request with recorded messages."""

    def __init__(self, *messages: bytes) -> None:
        self._messages = list(messages)

    def recv(self, _length: int) -> bytes:
        return self._messages.pop(0)


def message(kind: int, content: bytes = b"") -> bytes:
    padded = content + bytes(-len(content) % 4)
    return struct.pack("=IHHII", 16 + len(content), kind, 0, 0, 0) + padded


def test_answers_come_in_several_pieces() -> None:
    row = bytes(answer(2, 80, b"\x7f\0\0\1", 0, 1))
    kernel = Kernel(message(20, row) + message(20, row), message(20, row) + message(3))
    assert len(list(linux_netlink._answers(kernel))) == 3  # type: ignore[arg-type]


def test_an_error_of_the_kernel_is_raised_with_its_name() -> None:
    kernel = Kernel(message(2, struct.pack("=i", -errno.ENOENT)))
    with pytest.raises(OSError, match="ENOENT"):
        list(linux_netlink._answers(kernel))  # type: ignore[arg-type]
    strange = Kernel(message(2, struct.pack("=i", -9999)))
    with pytest.raises(OSError, match="unknown"):
        list(linux_netlink._answers(strange))  # type: ignore[arg-type]


def test_a_sandbox_that_forbids_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    """RestrictAddressFamilies= in a unit file: the socket cannot even be made."""

    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(SourceDeniedError, match="not supported"):
        NetlinkSockets().sockets(frozenset())
    assert not issubclass(SourceDeniedError, ConfigurationError)
