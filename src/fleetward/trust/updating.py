"""One run of python-tuf's own `Updater`, in a scratch folder.

The updater decides what metadata is to be trusted; it has passed tuf-conformance whole, and its
public interface alone is used. It writes files without fsync and reads the wall clock, so it runs
on a private copy: the caller gives the trusted files in, and takes out what the run has verified,
also where the run failed half way, to keep it durably (trust.ledger).

Errors leave here as Fleetward's own.

Deliberately not here: which of the verified files to keep (trust.tufclient). Only this module of
the client imports `tuf`; it is imported when there is something to verify.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, unquote

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from fleetward.adapters.http import HttpSession
from fleetward.core.limits import MetadataLimits
from fleetward.errors import (
    DigestError,
    DiskError,
    ExpiredError,
    FleetwardError,
    MetadataError,
    NetworkError,
    NotFoundError,
    RollbackError,
)
from fleetward.trust.metadata import is_older, read_role

_ANY_LENGTH = 2**63
"""Of a target: tuf counts its bytes itself, and stops at the signed length."""


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a repository is read.

    Attributes:
        metadata_url: the URL of its metadata folder, without a trailing slash.
        targets_url: the URL of its targets folder, likewise; None where none is downloaded.
        primed: answers that are known already, by file name under `metadata_url`; None is "not
            there". They are not asked for again.
    """

    metadata_url: str
    targets_url: str | None = None
    primed: Mapping[str, bytes | None] = field(default_factory=dict)


class _Fetcher(FetcherInterface):
    """Brings what the updater asks for, over our own session.

    Attributes:
        last: the metadata that was brought last: its file name and bytes.
    """

    def __init__(self, session: HttpSession, repository: Repository) -> None:
        self.last = ("", b"")
        self._session = session
        self._base = f"{repository.metadata_url}/"
        self._primed = repository.primed

    def _fetch(self, url: str) -> Iterator[bytes]:
        """Yield a target; `download_file` counts its bytes."""
        with _http_errors(), self._session.get(url, max_bytes=_ANY_LENGTH) as answer:
            yield from answer.pieces()

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return metadata of at most `max_length` bytes."""
        name = url.removeprefix(self._base)
        content = self._primed[name] if name in self._primed else self._get(url, max_length)
        if content is None:
            raise DownloadHTTPError(f"{url} is not there", 404)
        self.last = (name, content)
        return content

    def _get(self, url: str, max_length: int) -> bytes:
        deadline = self._session.limits.metadata_deadline
        request = self._session.get(url, max_bytes=max_length, deadline=deadline)
        with _http_errors(), request as answer:
            return answer.read()


@contextmanager
def _http_errors() -> Generator[None]:
    try:
        yield
    except NotFoundError as error:
        raise DownloadHTTPError(str(error), error.status or 404) from error


class Run:
    """An updater at work in its scratch folder."""

    def __init__(
        self, updater: Updater, fetcher: _Fetcher, folder: Path, given: Mapping[str, bytes]
    ) -> None:
        """Wrap `updater`, which works in `folder` on the files `given`."""
        self._updater = updater
        self._fetcher = fetcher
        self._folder = folder
        self._given = given

    def refresh(self) -> None:
        """Bring the top-level roles up to date.

        Raises:
            TrustError: something does not verify.
            NetworkError: something cannot be brought.
            DiskError: the scratch folder is full.
        """
        with self._errors():
            self._updater.refresh()

    def load(self, target: str) -> bool:
        """Return whether some role names `target`, having loaded the roles that may.

        Raises:
            As `refresh`, which it includes.
        """
        with self._errors():
            return self._updater.get_targetinfo(target) is not None

    def download(self, target: str, kept: Path) -> bytes:
        """Return the verified bytes of `target`, from the file `kept` where they are there.

        Raises:
            NotFoundError: no role names it, or the source does not have it.
            As `refresh`, which it includes.
        """
        with self._errors():
            found = self._updater.get_targetinfo(target)
            if found is None:
                raise NotFoundError(f"no role of the repository names the target {target!r}")
            path = self._updater.find_cached_target(found, str(kept))
            path = path or self._updater.download_target(found, str(self._folder / "download"))
            return Path(path).read_bytes()

    def role(self, role: str) -> bytes | None:
        """Return the metadata of `role` that the updater left, or None."""
        path = self._folder / f"{quote(role, safe='')}.json"
        return path.read_bytes() if path.exists() else None

    def changed(self) -> dict[str, bytes]:
        """Return the metadata that the run has verified anew, by role."""
        found = {unquote(path.stem): path.read_bytes() for path in self._folder.glob("*.json")}
        return {
            role: content for role, content in found.items() if self._given.get(role) != content
        }

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Turn tuf's errors into ours, and say of an expired role when it expired."""
        try:
            with _tuf_errors():
                yield
        except ExpiredError as error:
            raise ExpiredError(
                f"{error.__cause__} since {self._expiry(str(error.__cause__)):%Y-%m-%d %H:%M} UTC: "
                "what is installed stays; the origin must renew it (or the clock of this host is "
                "wrong)"
            ) from error.__cause__
        except MetadataError as error:
            if isinstance(error.__cause__, BadVersionNumberError) and self._went_back():
                raise RollbackError(
                    f"older metadata than this host has seen: {error.__cause__}: the source "
                    "replays it; nothing was changed"
                ) from error.__cause__
            raise

    def _expiry(self, sentence: str) -> datetime:
        """Return when the role that tuf found expired did: root, or the one brought last."""
        root = self.role("root") if sentence.startswith("Final root") else None
        return read_role(root or self._fetcher.last[1]).expires

    def _went_back(self) -> bool:
        """Return whether the file brought last is, or lists, older metadata than what was given."""
        name, content = self._fetcher.last
        known = self._given.get(name.removesuffix(".json").rpartition(".")[2])
        return known is not None and is_older(content, known)


@contextmanager
def updater_run(
    session: HttpSession, repository: Repository, given: Mapping[str, bytes], limits: MetadataLimits
) -> Generator[Run]:
    """Start a run in a scratch folder that is removed afterwards.

    Args:
        session: how files are brought.
        repository: where they are.
        given: trusted metadata by role; `root` must be there, and is where trust begins.
        limits: lengths and counts.

    Raises:
        MetadataError: the root given does not verify by itself.
        DiskError: there is no room for the scratch folder.
    """
    with _tuf_errors():
        scratch = TemporaryDirectory(prefix="fleetward-")
    with scratch:
        folder = Path(scratch.name)
        fetcher = _Fetcher(session, repository)
        with _tuf_errors():
            for role, content in given.items():
                if role != "root":
                    (folder / f"{quote(role, safe='')}.json").write_bytes(content)
            updater = Updater(
                scratch.name,
                repository.metadata_url,
                target_base_url=repository.targets_url,
                fetcher=fetcher,
                config=_config(limits),
                bootstrap=given["root"],
            )
        yield Run(updater, fetcher, folder, given)


def verify_anchor(session: HttpSession, root: bytes) -> None:
    """Return where `root` is a root that a threshold of its own keys has signed.

    Args:
        session: not used to connect.
        root: the bytes of N.root.json.

    Raises:
        MetadataError: it is not.
    """
    nowhere = Repository("http://anchor.invalid")
    with updater_run(session, nowhere, {"root": root}, MetadataLimits()):
        return


def _config(limits: MetadataLimits) -> UpdaterConfig:
    return UpdaterConfig(
        max_root_rotations=limits.root_rotations,
        max_delegations=limits.delegations,
        root_max_length=limits.root_bytes,
        timestamp_max_length=limits.timestamp_bytes,
        snapshot_max_length=limits.snapshot_bytes,
        targets_max_length=limits.targets_bytes,
    )


@contextmanager
def _tuf_errors() -> Generator[None]:
    """Turn the errors of tuf, and of its scratch files, into ours."""
    try:
        yield
    except (RepositoryError, DownloadError) as error:
        raise _ours(error) from error
    except OSError as error:
        raise DiskError(
            f"no scratch folder for verifying metadata: {error}; free some space in the folder "
            "for temporary files"
        ) from error


def _ours(error: RepositoryError | DownloadError) -> FleetwardError:
    if isinstance(error, ExpiredMetadataError):
        return ExpiredError(f"{error}: what is installed stays; the origin must renew it")
    if isinstance(error, LengthOrHashMismatchError):
        return DigestError(f"not the bytes that were signed: {error}; nothing was changed")
    if isinstance(error, DownloadHTTPError):
        return NotFoundError(str(error), error.status_code)
    if isinstance(error, DownloadError):
        return NetworkError(str(error))
    return MetadataError(f"the metadata does not verify: {error}; nothing was changed")
