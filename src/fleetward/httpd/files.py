"""A repository's folder over HTTP: the paths of `wire.layout`, and 404 for everything else.

Invariants: no link is followed, in any component, so nothing outside the root is ever served;
a cached file is compared with its name on every request (device, inode, size, modification), or
once for all requests that one turn of the event loop reads (`httpd.repeats`), so what `origin
publish` or a relay's fill replaces is served at once.
"""

import hashlib
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fleetward.httpd.conditional import NotModified, Whole, represent, select
from fleetward.httpd.limits import FileLimits
from fleetward.httpd.message import (
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    Answer,
    FileBody,
    Repeatable,
    Request,
    Response,
)
from fleetward.wire.layout import RepositoryPath, parse_repository_path

NOT_FOUND_METADATA = Response(404, (("Cache-Control", "no-store"),))
"""A 404 of N+1.root.json that some cache kept would hide a new root from its clients."""

_Identity = tuple[int, int, int, int]


def etag_of(path: RepositoryPath, content: bytes = b"") -> bytes:
    """Return the strong ETag of a file: 16 hex digits of its digest, in quotes.

    The digest is the one in the name where the name says it, else that of `content`.
    """
    digest = path.digest or hashlib.sha256(content).hexdigest()
    return f'"{digest[:16]}"'.encode()


@dataclass(frozen=True, slots=True)
class _Cached:
    identity: _Identity
    etag: bytes
    content: bytes
    whole: Response
    not_modified: Response


class RepositoryFiles:
    """The files under one root; opens them, caches the small ones."""

    def __init__(self, root: Path, limits: FileLimits | None = None) -> None:
        self._root = os.fspath(root)
        self._limits = limits or FileLimits()
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._cached_bytes = 0

    def respond(self, request: Request, path: RepositoryPath) -> Response | None:
        """Return the answer to GET or HEAD, or None where there is no such file."""
        cached = self._cache.get(path.path)
        if cached is not None:
            if self._is_current(path.path, cached):
                self._cache.move_to_end(path.path)
                return _respond_cached(request, path, cached)
            self._evict(path.path)
        descriptor = self._open(path.path)
        if descriptor is None:
            return None
        status = os.fstat(descriptor)
        if status.st_size <= self._limits.max_cached_file:
            return _respond_cached(request, path, self._load(path, descriptor, status))
        return _respond_file(request, path, descriptor, status)

    def repeatable(
        self, response: Response, path: RepositoryPath, on_repeat: Callable[[], None] | None = None
    ) -> Answer:
        """Return a response of `respond` as one that may be repeated while its file stays.

        Args:
            response: what `respond` just returned for the path.
            path: the same.
            on_repeat: called for each repeat (to count it, say).
        """
        cached = self._cache.get(path.path)
        if cached is None or not isinstance(response.body, bytes):
            return response
        known = cached
        return Repeatable(response, lambda: self._is_current(path.path, known), on_repeat)

    def absence(self, response: Response, path: RepositoryPath) -> Answer:
        """Return a response as one that may be repeated while there is no such file."""
        name = f"{self._root}/{path.path}"
        return Repeatable(response, lambda: not os.path.lexists(name))

    def _is_current(self, path: str, cached: _Cached) -> bool:
        try:
            return _identity(os.stat(f"{self._root}/{path}")) == cached.identity  # noqa: PTH116 (speed)
        except OSError:
            return False

    def _open(self, path: str) -> int | None:
        """Open a regular file without following any link below the root."""
        if not os.path.lexists(f"{self._root}/{path}"):
            return None
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        folder: int | None = None
        names = path.split("/")
        try:
            folder = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
            for name in names[:-1]:
                inner = os.open(name, flags | os.O_DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = inner
            descriptor = os.open(names[-1], flags, dir_fd=folder)
        except OSError:
            return None
        finally:
            if folder is not None:
                os.close(folder)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def _load(self, path: RepositoryPath, descriptor: int, status: os.stat_result) -> _Cached:
        with os.fdopen(descriptor, "rb") as stream:
            content = stream.read(self._limits.max_cached_file + 1)
        etag = etag_of(path, content)
        headers = file_headers(path, etag)
        not_modified = Response(304, headers)
        whole = Response(200, headers, content)
        cached = _Cached(_identity(status), etag, content, whole, not_modified)
        if len(content) == status.st_size:
            self._remember(path.path, cached)
        return cached

    def _remember(self, path: str, cached: _Cached) -> None:
        self._cache[path] = cached
        self._cached_bytes += len(cached.content)
        while (
            self._cached_bytes > self._limits.max_cached_bytes
            or len(self._cache) > self._limits.max_cached_files
        ):
            self._evict(next(iter(self._cache)))

    def _evict(self, path: str) -> None:
        self._cached_bytes -= len(self._cache.pop(path).content)


class RepositoryHandler:
    """Serves a repository's folder; used by `origin serve`, and inside the relay for its cache."""

    def __init__(self, root: Path, limits: FileLimits | None = None) -> None:
        self._files = RepositoryFiles(root, limits)

    def max_body(self, method: str, path: str) -> int:
        """Return 0: files take no body."""
        return 0

    def answer(self, request: Request) -> Answer:
        """Return the file, 404, or 405."""
        if request.method not in {"GET", "HEAD"}:
            return METHOD_NOT_ALLOWED
        path = path_of(request.path)
        if path is None:
            return NOT_FOUND
        response = self._files.respond(request, path)
        if response is None:
            return self._files.absence(not_found(path), path)
        return self._files.repeatable(response, path)


@lru_cache(maxsize=4096)
def path_of(url_path: str) -> RepositoryPath | None:
    """Return what a request's path names, or None where no repository has it."""
    return parse_repository_path(url_path[1:])


def not_found(path: RepositoryPath) -> Response:
    """Return the 404 of a path that the repository could have."""
    return NOT_FOUND if path.path.startswith("blobs/") else NOT_FOUND_METADATA


def _identity(status: os.stat_result) -> _Identity:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def file_headers(path: RepositoryPath, etag: bytes) -> tuple[tuple[str, str], ...]:
    """Return the headers that tell a file's version and how long caches may keep it."""
    return (("ETag", etag.decode()), ("Cache-Control", path.freshness.value))


def _respond_cached(request: Request, path: RepositoryPath, cached: _Cached) -> Response:
    content = cached.content
    selection = select(request.method, request.headers, cached.etag, len(content))
    if isinstance(selection, Whole):
        return cached.whole
    if isinstance(selection, NotModified):
        return cached.not_modified
    return represent(
        selection,
        file_headers(path, cached.etag),
        len(content),
        lambda first, length: content[first : first + length],
    )


def _respond_file(
    request: Request, path: RepositoryPath, descriptor: int, status: os.stat_result
) -> Response:
    etag = etag_of(path, repr(_identity(status)).encode())
    length = status.st_size
    response = represent(
        select(request.method, request.headers, etag, length),
        file_headers(path, etag),
        length,
        lambda first, count: FileBody(descriptor, first, count),
    )
    if not isinstance(response.body, FileBody):
        os.close(descriptor)
    return response
