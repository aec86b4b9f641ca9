"""A repository's folder over HTTP: what is served, what never is, and at what cost."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetward.core.digest import sha256_of
from fleetward.httpd.background import ServerThread
from fleetward.httpd.files import RepositoryFiles, RepositoryHandler, path_of
from fleetward.httpd.limits import FileLimits
from fleetward.httpd.message import FileBody, Request
from httpd.rawhttp import Raw, get
from httpd.sample_repository import (
    CHANNEL,
    LARGE,
    SMALL,
    SNAPSHOT,
    TIMESTAMP,
    blob_url,
    channel_url,
    make_repository,
    write,
)

IMMUTABLE = "public, max-age=31536000, immutable"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repository")


@pytest.fixture
def url(root: Path) -> Iterator[str]:
    with ServerThread(RepositoryHandler(root)) as server:
        yield server.url


@pytest.mark.parametrize(
    ("path", "content", "kept"),
    [
        ("/metadata/timestamp.json", TIMESTAMP, "no-store"),
        ("/metadata/7.snapshot.json", SNAPSHOT, IMMUTABLE),
        (channel_url(), CHANNEL, IMMUTABLE),
        (blob_url(SMALL), SMALL, IMMUTABLE),
        (blob_url(LARGE), LARGE, IMMUTABLE),
    ],
)
def test_each_kind_of_file_says_how_long_it_may_be_kept(
    url: str, path: str, content: bytes, kept: str
) -> None:
    for _ in range(2):
        answer = get(url, path)
        assert (answer.status, answer.body) == (200, content)
        assert answer.headers["cache-control"] == kept
        assert answer.headers["etag"] == f'"{sha256_of(content)[:16]}"'
        again = get(url, path, f"If-None-Match: {answer.headers['etag']}")
        assert (again.status, again.body) == (304, b"")
        part = get(url, path, "Range: bytes=5-9", f"If-Range: {answer.headers['etag']}")
        assert (part.status, part.body) == (206, content[5:10])
        assert part.headers["content-range"] == f"bytes 5-9/{len(content)}"
        end = get(url, path, "Range: bytes=-7")
        assert end.body == content[-7:]
        beyond = get(url, path, f"Range: bytes={len(content)}-")
        assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(content)}")
        told = get(url, path, method="HEAD")
        assert int(told.headers["content-length"]) == len(content)


def test_only_get_and_head(url: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        answer = get(url, "/metadata/timestamp.json", method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "get, head")


def test_a_check_for_nothing_new_costs_less_than_a_kilobyte(url: str) -> None:
    etag = get(url, "/metadata/timestamp.json").headers["etag"]
    with Raw(url) as connection:
        common = "Host: relay.site.example:2967\r\nUser-Agent: fleetward\r\n"
        common += "Accept-Encoding: identity\r\n"
        known = f"If-None-Match: {etag}\r\n"
        requests = [
            f"GET /metadata/2.root.json HTTP/1.1\r\n{common}\r\n",
            f"GET /metadata/timestamp.json HTTP/1.1\r\n{common}{known}\r\n",
        ]
        total = 0
        for request, status in zip(requests, (404, 304), strict=True):
            connection.send(request.encode())
            answer = connection.answer()
            assert answer.status == status
            assert answer.headers["cache-control"] == "no-store"
            total += len(request) + len(answer.raw) + 4 + len(answer.body)
    assert total < 600


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metadata",
        "/metadata/",
        "/metadata/.timestamp.json.new",
        "/metadata/timestamp.json/",
        "/metadata/Timestamp.json",
        "/metadata/0.root.json",
        "/metadata/.json",
        "/metadata/../keys/online.pem",
        "/metadata/%2e%2e/keys/online.pem",
        "/keys/online.pem",
        "/targets/channels/yara/stable.json",
        "/targets/" + "a/" * 9 + "0" * 64 + ".x.json",
        "/blobs/sha256/ab/" + "0" * 64,
        "/blobs/sha256/00/" + "0" * 63,
        "/blobs/sha256/00/" + "0" * 64,
        "/blobs/sha256/00/" + "A" * 64,
        "/v1/relay",
        "/metadata/7.snapshot.json%00",
    ],
)
def test_no_other_path_exists(root: Path, url: str, path: str) -> None:
    write(root, "/keys/online.pem", b"secret")
    (root / "metadata/.timestamp.json.new").write_bytes(b"half written")
    answer = get(url, path)
    assert answer.status in {400, 404}
    assert answer.body == b""


def test_no_link_is_followed(root: Path, url: str, tmp_path: Path) -> None:
    """Whoever can make a link in the repository cannot make the server read a file outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "8.root.json").write_bytes(b"secret")
    (root / "metadata/8.root.json").symlink_to(outside / "8.root.json")
    assert get(url, "/metadata/8.root.json").status == 404
    (root / "metadata").rename(root / "real")
    (root / "metadata").symlink_to(outside)
    assert get(url, "/metadata/8.root.json").status == 404


def test_what_is_no_file_is_not_served(root: Path, url: str) -> None:
    os.mkfifo(root / "metadata/8.root.json")
    (root / "metadata/9.root.json").mkdir()
    assert get(url, "/metadata/8.root.json").status == 404
    assert get(url, "/metadata/9.root.json").status == 404


def test_a_replaced_file_is_served_at_once(root: Path, url: str) -> None:
    first = get(url, "/metadata/timestamp.json")
    write(root, "/metadata/timestamp.json", b"{}")
    second = get(url, "/metadata/timestamp.json", f"If-None-Match: {first.headers['etag']}")
    assert (second.status, second.body) == (200, b"{}")
    (root / "metadata/timestamp.json").unlink()
    assert get(url, "/metadata/timestamp.json").status == 404
    assert get(url, "/metadata/timestamp.json").headers["cache-control"] == "no-store"


def _ask(files: RepositoryFiles, url: str) -> int:
    path = path_of(url)
    assert path is not None
    response = files.respond(Request("GET", url, "", {}), path)
    assert response is not None
    body = response.body
    response.discard()
    return body.length if isinstance(body, FileBody) else len(body)


def test_the_memory_for_small_files_is_bounded(root: Path) -> None:
    files = RepositoryFiles(root, FileLimits(max_cached_bytes=4096, max_cached_files=3))
    for version in range(1, 20):
        write(root, f"/metadata/{version}.root.json", b"x" * 1000)
        assert _ask(files, f"/metadata/{version}.root.json") == 1000
        assert files._cached_bytes <= 4096
        assert len(files._cache) <= 3
    for version in range(20, 40):
        write(root, f"/metadata/{version}.root.json", b"x" * 2000)
        assert _ask(files, f"/metadata/{version}.root.json") == 2000
        assert files._cached_bytes <= 4096
    assert _ask(files, "/metadata/1.root.json") == 1000


def test_a_long_file_is_not_read_into_memory(root: Path) -> None:
    files = RepositoryFiles(root, FileLimits(max_cached_file=100))
    assert _ask(files, blob_url(SMALL)) == len(SMALL)
    assert _ask(files, "/metadata/timestamp.json") == len(TIMESTAMP)
    assert not files._cache
