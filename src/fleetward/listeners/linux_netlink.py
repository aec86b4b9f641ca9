"""Sockets from the Linux kernel itself: NETLINK_SOCK_DIAG, without a program or a text file between.

The kernel filters by port before it answers, by a few operations of bytecode that go with the
request; so asking for one port among thousands of sockets costs a fraction of a millisecond. It
answers anybody: uid, inode, cgroup and the IPv6-only flag need no root.

Sources: linux/inet_diag.h, linux/sock_diag.h, linux/netlink.h; sock_diag(7).

Deliberately not here: owners (linux_owners), sockets of other namespaces (linux_namespaces).
"""

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from fleetward.core.listeners import BoundSocket, Transport
from fleetward.listeners.source import Ports, SourceDeniedError

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_DUMP: Final = 0x301
"""NLM_F_REQUEST and NLM_F_DUMP."""

_ERROR, _DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBBI48s")
_ANSWER: Final = struct.Struct("=BBBB2s2s16s16sI8sIIIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_OPERATION: Final = struct.Struct("=BBH")

_BYTECODE: Final = 1
_GREATER_EQUAL, _LESS_EQUAL, _JUMP = 2, 3, 1
_V6ONLY: Final = 11
_CGROUP: Final = 21
_UNCONNECTED: Final = 1 << 7
"""TCP_CLOSE: how the kernel calls a UDP socket that is not connected."""

_LISTENING: Final = 1 << 10
"""TCP_LISTEN."""

_BUFFER_BYTES: Final = 128 * 1024
"""The kernel fills at most 32 KiB at once."""

MAX_FILTERED_PORTS: Final = 1_000
"""Beyond it all sockets are asked for and filtered here: the jumps of the bytecode are 16 bits."""

_KINDS: Final = (
    (Transport.TCP, socket.IPPROTO_TCP, _LISTENING),
    (Transport.UDP, socket.IPPROTO_UDP, _UNCONNECTED),
)


class NetlinkSockets:
    """The sockets of the network namespace of the calling thread."""

    method = "netlink"

    def __init__(self, namespace: int = 0) -> None:
        """Set up for the namespace whose inode is `namespace`; 0 where it is not known."""
        self._namespace = namespace

    def sockets(self, ports: Ports) -> tuple[BoundSocket, ...]:
        """Return the sockets on `ports`; every port where it is empty."""
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
                return tuple(self._ask(kernel, ports))
        except OSError as error:
            raise SourceDeniedError(f"netlink: {error.strerror or error}") from error

    def _ask(self, kernel: socket.socket, ports: Ports) -> Iterator[BoundSocket]:
        program = port_filter(ports) if len(ports) <= MAX_FILTERED_PORTS else b""
        for transport, protocol, states in _KINDS:
            for family in (socket.AF_INET, socket.AF_INET6):
                kernel.send(request(family, protocol, states, program))
                for answer in _answers(kernel):
                    found = parse_answer(answer, transport, self._namespace)
                    if not ports or found.port in ports:
                        yield found


def request(family: int, protocol: int, states: int, program: bytes) -> bytes:
    """Return a dump request (`inet_diag_req_v2`) with an optional filter."""
    body = _REQUEST.pack(family, protocol, 0, 0, states, bytes(48))
    if program:
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(program), _BYTECODE) + program
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _DUMP, 1, 0) + body


def port_filter(ports: Ports) -> bytes:
    """Return bytecode that accepts the local ports `ports`; empty where that is every port.

    For each port: at least it, at most it, then a jump to the end, which accepts. Each comparison
    is followed by its operand; `yes` and `no` are distances in bytes, and one operation (4 bytes)
    past the end refuses.
    """
    block = 5 * _OPERATION.size
    total = block * len(ports) - _OPERATION.size  # the last one needs no jump
    program = b""
    for port in sorted(ports):
        left = total - len(program)
        is_last = left < block
        over = _OPERATION.size if is_last else block  # from a block's end, or past the program's
        after = left + over if is_last else block
        operand = _OPERATION.pack(0, 0, port)
        program += _OPERATION.pack(_GREATER_EQUAL, 8, after) + operand
        program += _OPERATION.pack(_LESS_EQUAL, 8, after - 8) + operand
        if not is_last:
            program += _OPERATION.pack(_JUMP, 4, left - 16)
    return program


def _answers(kernel: socket.socket) -> Iterator[memoryview]:
    """Yield the answers to one request, each without its header."""
    while True:
        content = memoryview(kernel.recv(_BUFFER_BYTES))
        while len(content) >= _HEADER.size:
            length, kind, _, _, _ = _HEADER.unpack_from(content)
            if kind == _DONE:
                return
            if kind == _ERROR:
                _raise(content[_HEADER.size :])
            yield content[_HEADER.size : length]
            content = content[_aligned(length) :]


def _raise(content: memoryview) -> None:
    number = -struct.unpack_from("=i", content)[0]
    raise OSError(number, errno.errorcode.get(number, "unknown error"))


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def parse_answer(content: memoryview, transport: Transport, namespace: int) -> BoundSocket:
    """Return one answer (`inet_diag_msg` and its attributes) as a socket."""
    fields = _ANSWER.unpack_from(content)
    family, port, source = fields[0], fields[4], fields[6]
    uid, inode = fields[-2], fields[-1]
    is_v4 = family == socket.AF_INET
    address = IPv4Address(source[:4]) if is_v4 else IPv6Address(source)
    attributes = dict(_attributes(content[_ANSWER.size :]))
    cgroup = attributes.get(_CGROUP)
    return BoundSocket(
        protocol=transport,
        address=str(address),
        port=int.from_bytes(port, "big"),
        v6only=None if is_v4 or _V6ONLY not in attributes else attributes[_V6ONLY] != b"\0",
        inode=inode,
        uid=uid,
        cgroup=None if cgroup is None else int.from_bytes(cgroup, sys.byteorder),
        namespace=namespace,
    )


def _attributes(content: memoryview) -> Iterator[tuple[int, bytes]]:
    while len(content) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(content)
        if length < _ATTRIBUTE.size:
            return
        yield kind, bytes(content[_ATTRIBUTE.size : length])
        content = content[_aligned(length) :]
