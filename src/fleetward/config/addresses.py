"""Addresses in settings: plain ones, multicast groups, and HOST:PORT."""

import ipaddress

from fleetward.errors import ConfigurationError


def require_address(text: str) -> None:
    """Return where `text` is an IPv4 or IPv6 address.

    Raises:
        ConfigurationError: it is a name, or none.
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no address: write one such as 0.0.0.0, :: or 192.0.2.1"
        ) from None


def require_group(text: str) -> None:
    """Return where `text` is a multicast group.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        is_group = ipaddress.ip_address(text).is_multicast
    except ValueError:
        is_group = False
    if not is_group:
        raise ConfigurationError(
            f"{text!r} is no multicast group: write an address of 224.0.0.0/4 or ff00::/8, such as "
            "239.255.29.67 or ff08::2967"
        )


def require_host_and_port(text: str) -> None:
    """Return where `text` is HOST:PORT.

    Raises:
        ConfigurationError: it is not.
    """
    try:
        split_host_and_port(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no HOST:PORT: write 192.0.2.1:2967 or [::1]:2967"
        ) from None


def split_host_and_port(text: str) -> tuple[str, int]:
    """Return HOST:PORT (`[HOST]:PORT` for IPv6) as host and port.

    Raises:
        ValueError: another form, or port 0.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(text)
    return host, int(port)
