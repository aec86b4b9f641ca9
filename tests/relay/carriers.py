"""Relays that carry status, for tests: short waits, a console that is a stand-in, posts of check-ins."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from fleetward.adapters.compression import compress
from fleetward.config.relay import SpoolSettings
from fleetward.relay.settings import CarryLimits, RelaySettings
from fleetward.wire.checkins import BATCH_MEDIA_TYPE, Carried, encode_batch
from httpd.rawhttp import Answer, Raw
from relay.relays import TestRelay, settings_for

NOWHERE = "http://127.0.0.1:9"
SPOOL = SpoolSettings(delay=timedelta(0), check_ins_per_second=0.0, enrolments_per_second=0.0)
CARRY = CarryLimits(
    first_pause=timedelta(milliseconds=5), max_pause=timedelta(milliseconds=20), answer_seconds=5
)


def carrying_settings(
    cache: Path,
    console: str = "",
    upstream: str = NOWHERE,
    spool: SpoolSettings = SPOOL,
    carry: CarryLimits = CARRY,
) -> RelaySettings:
    settings = settings_for(cache, upstream)
    return replace(settings, console=console, spool=spool, carry_limits=carry)


def carrying_relay(
    cache: Path,
    console: str = "",
    upstream: str = NOWHERE,
    spool: SpoolSettings = SPOOL,
    carry: CarryLimits = CARRY,
) -> TestRelay:
    return TestRelay(carrying_settings(cache, console, upstream, spool, carry))


def post(
    url: str, body: bytes, media_type: str = "application/json", path: str = "/v1/checkins"
) -> Answer:
    with Raw(url) as connection:
        return post_on(connection, body, media_type, path)


def post_on(
    connection: Raw, body: bytes, media_type: str = "application/json", path: str = "/v1/checkins"
) -> Answer:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    connection.send(head.encode() + body)
    return connection.answer()


def batch_of(envelopes: Sequence[bytes], hops: int = 1, received: int = 1_000) -> bytes:
    return compress(encode_batch(Carried(received, "192.0.2.9", one, hops) for one in envelopes))


def post_batch(url: str, envelopes: Sequence[bytes], hops: int = 1) -> Answer:
    return post(url, batch_of(envelopes, hops), BATCH_MEDIA_TYPE)
