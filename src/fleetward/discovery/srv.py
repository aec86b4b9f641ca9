"""Relays by DNS SRV (RFC 2782): `_fleetward._tcp.DOMAIN`, and `_fleetwards._tcp.DOMAIN` for https.

What DNS says is not signed: it is an address to try, and what is got there is verified. A name
that does not exist is an answer (there are none); a server that does not answer is an error.

Imported only where a domain is configured: dnspython costs megabytes.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import dns.exception
import dns.name
import dns.rdtypes.IN.SRV
import dns.resolver

from fleetward.core.fleet import parse_source_url
from fleetward.discovery.finds import Service, Services
from fleetward.errors import DocumentError, NetworkError

SERVICES: Final = (("_fleetward._tcp", "http"), ("_fleetwards._tcp", "https"))
TIMEOUT: Final = timedelta(seconds=5)
"""The whole of one lookup, however many servers are tried."""

MAX_RECORDS: Final = 64
"""Records of one answer that are looked at."""

NOTHING_FOUND_FOR: Final = timedelta(minutes=30)
"""How long `there are none` is believed; a negative answer's own lifetime is often a day."""


def look_up(domain: str, resolver: dns.resolver.Resolver | None = None) -> Services:
    """Return the relays of a domain.

    Args:
        domain: without the service labels.
        resolver: whom to ask; the system's unless given.

    Raises:
        NetworkError: no server answered, or the domain is no name.
    """
    found: list[Service] = []
    lifetimes: list[int] = []
    for service, scheme in SERVICES:
        answer = _answer(f"{service}.{domain}", resolver)
        if answer is not None and answer.rrset is not None:
            lifetimes.append(answer.rrset.ttl)
            found += _services(answer, scheme)
    found.sort(key=lambda one: (one.priority, -one.weight, one.url))
    lifetime = timedelta(seconds=min(lifetimes)) if lifetimes else NOTHING_FOUND_FOR
    return Services(tuple(found), lifetime)


def _answer(name: str, resolver: dns.resolver.Resolver | None) -> dns.resolver.Answer | None:
    try:
        asked = resolver or dns.resolver.Resolver()
        return asked.resolve(
            dns.name.from_text(name), "SRV", lifetime=TIMEOUT.total_seconds(), search=False
        )
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None
    except dns.exception.DNSException as error:
        raise NetworkError(
            f"DNS did not say whether there are relays at {name}: {error}; look at the resolver, "
            "and at discovery.srv"
        ) from error


def _services(answer: dns.resolver.Answer, scheme: str) -> Iterator[Service]:
    records = [one for one in answer if isinstance(one, dns.rdtypes.IN.SRV.SRV)]
    for record in records[:MAX_RECORDS]:
        host = record.target.to_text(omit_final_dot=True)
        if _is_number(host) or host.lower().rsplit(".", maxsplit=1)[-1] == "localhost":
            continue
        try:
            url = parse_source_url(f"{scheme}://{host}:{record.port}")
        except DocumentError:
            continue  # "." says that there is no such service; other names are no host's
        yield Service(url, record.priority, record.weight)


def _is_number(host: str) -> bool:
    """Return whether a name would be taken as an IPv4 address, in any of its spellings."""
    last = host.rsplit(".", maxsplit=1)[-1].lower()
    return last.isdecimal() or last.startswith("0x")
