"""What an origin notices of the timestamp on its disk."""

from pathlib import Path

from fleetward.core.limits import MetadataLimits
from fleetward.httpd.message import Request, Response
from fleetward.httpd.watchers import Watchers
from fleetward.origin.serving import OriginHandler, TimestampFile
from httpd.sample_repository import write
from support.fakes import SeededEntropy
from support.timestamps import timestamp

STAMP = "/metadata/timestamp.json"


def test_a_timestamp_is_seen_once(tmp_path: Path) -> None:
    file = TimestampFile(tmp_path)
    assert file.look() is None
    write(tmp_path, STAMP, timestamp(1))
    seen = file.look()
    assert seen is not None
    assert (seen.version, seen.content) == (1, timestamp(1))
    assert file.look() is None
    write(tmp_path, STAMP, timestamp(2))
    again = file.look()
    assert again is not None
    assert again.version == 2


def test_one_that_is_gone_for_a_moment_is_seen_when_it_is_back(tmp_path: Path) -> None:
    write(tmp_path, STAMP, timestamp(1))
    file = TimestampFile(tmp_path)
    file.look()
    (tmp_path / STAMP[1:]).unlink()
    assert file.look() is None
    write(tmp_path, STAMP, timestamp(1))
    seen = file.look()
    assert seen is not None
    assert seen.version == 1


def test_what_is_no_timestamp_claims_nothing(tmp_path: Path) -> None:
    file = TimestampFile(tmp_path)
    endless = timestamp(7).ljust(MetadataLimits().timestamp_bytes * 3)
    for content in (b"", b"{}", timestamp(0), endless):
        write(tmp_path, STAMP, content)
        seen = file.look()
        assert seen is not None
        assert seen.version == 0
        assert len(seen.content) <= MetadataLimits().timestamp_bytes + 1


def test_a_watch_is_answered_with_what_a_plain_request_gets(tmp_path: Path) -> None:
    write(tmp_path, STAMP, timestamp(3))
    watchers = Watchers(SeededEntropy())
    handler = OriginHandler(tmp_path, watchers)
    seen = TimestampFile(tmp_path).look()
    assert seen is not None
    watchers.publish(seen.version, seen.response)
    watched = handler.answer(Request("GET", "/v1/watch", "after=2", {}))
    plain = handler.answer(Request("GET", STAMP, "", {}))
    plain = plain if isinstance(plain, Response) else plain.response  # type: ignore[union-attr]
    assert isinstance(watched, Response)
    assert (watched.status, watched.body, watched.encoded) == (200, plain.body, plain.encoded)


def test_a_request_to_a_proxy_is_none_for_the_watch(tmp_path: Path) -> None:
    handler = OriginHandler(tmp_path, Watchers(SeededEntropy()))
    request = Request("GET", "/v1/watch", "after=2", {}, authority="http://other")
    answer = handler.answer(request)
    assert isinstance(answer, Response)
    assert answer.status == 404
    assert handler.max_body("POST", "/v1/watch") == 0
