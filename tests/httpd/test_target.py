"""A request target is decoded and normalised once, before anything looks at it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetward.httpd.message import RefusedRequestError
from fleetward.httpd.target import parse_target


@pytest.mark.parametrize(
    ("raw", "path", "query", "authority"),
    [
        (b"/", "/", "", ""),
        (b"/metadata/timestamp.json", "/metadata/timestamp.json", "", ""),
        (b"/a/../b", "/b", "", ""),
        (b"/a/./b//c", "/a/b/c", "", ""),
        (b"/a/%2e%2E/b", "/b", "", ""),
        (b"/a%2Fb", "/a/b", "", ""),
        (b"/a/b/..", "/a/", "", ""),
        (b"/a/..", "/", "", ""),
        (b"/%61", "/a", "", ""),
        (b"/%2541", "/%41", "", ""),
        (b"/v1/watch?after=7&x=%00", "/v1/watch", "after=7&x=%00", ""),
        (b"http://relay:2967/a?b", "/a", "b", "http://relay:2967"),
        (b"HTTPS://relay", "/", "", "https://relay"),
        (b"http://relay?q", "/", "q", "http://relay"),
        (b"/caf%C3%A9", "/café", "", ""),
    ],
)
def test_a_target_means_one_path(raw: bytes, path: str, query: str, authority: str) -> None:
    assert parse_target(raw) == (path, query, authority)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"*",
        b"relay:2967",
        b"metadata/timestamp.json",
        b"ftp://relay/a",
        b"http://user@relay/a",
        b"http://user:secret@relay/a",
        b"http://caf\xc3\xa9/a",
        b"/a#b",
        b"/..",
        b"/../etc/passwd",
        b"/a/../../etc/passwd",
        b"/%2e%2e/etc/passwd",
        b"/a/%2e%2e%2f%2e%2e%2fetc",
        b"/%",
        b"/%4",
        b"/%zz",
        b"/%00",
        b"/%0d%0aX:y",
        b"/%7f",
        b"/%ff",
        b"/%c0%af",
    ],
)
def test_a_target_that_could_mean_two_things_is_refused(raw: bytes) -> None:
    with pytest.raises(RefusedRequestError) as caught:
        parse_target(raw)
    assert caught.value.status == 400


@given(st.binary(max_size=60).map(lambda tail: b"/" + tail))
@example(b"/a/%2e%2e/%2e%2e/b")
def test_whatever_is_sent_no_path_escapes(raw: bytes) -> None:
    try:
        path = parse_target(raw).path
    except RefusedRequestError:
        return
    assert path.startswith("/")
    assert not {"", ".", ".."}.intersection(path.split("/")[1:-1])
    assert path.split("/")[-1] not in {".", ".."}
    assert path.isprintable()
