"""The threads that follow the repository and compare releases, for as long as the server runs.

Threads and not tasks: verifying, opening packs and reading rules would hold the event loop. Daemon
threads: what they do is written in transactions, so the end of the process may come at any time.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from django.db import DatabaseError, close_old_connections, connection

from fleetward import __version__
from fleetward.adapters.disk import Disk, Kind, SystemDisk
from fleetward.adapters.http import HttpSession, HttpSettings
from fleetward.adapters.proxies import Proxies
from fleetward.config.console import RepositorySettings
from fleetward.console.catalogue.comparing import Workplace, work_off_one
from fleetward.console.catalogue.following import LEASE, Follower
from fleetward.console.database import parse_database
from fleetward.console.keeping import state_folder
from fleetward.console.wiring import Wiring, wired
from fleetward.errors import ConfigurationError, DiskError
from fleetward.trust.client import FleetTrust

_log = logging.getLogger(__name__)

TRUST: Final = "repository-trust"
"""The folder of the trust state, below the console's own."""

LEASE_TURNS: Final = 3
"""How many turns a process that follows may miss before another one does."""

LOOK: Final = timedelta(seconds=1)
"""How often somebody's wish for a comparison is looked for."""

ENDING: Final = timedelta(seconds=2)
"""How long the end of the server waits for a thread."""


async def work_for_ever() -> None:
    """Follow the repository and compare, until cancelled; nothing where none is configured."""
    wiring = wired()
    repository = wiring.settings.repository
    if repository is None:
        return
    stop, leads = threading.Event(), threading.Event()
    follower = follower_of(wiring, repository, SystemDisk())
    place = workplace_of(wiring, repository, SystemDisk())
    threads = [
        threading.Thread(target=_repeat, args=each, name="catalogue", daemon=True)
        for each in (
            (lambda: _follow(follower, leads), repository.poll, stop),
            (lambda: _compare(place, leads), LOOK, stop),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        await asyncio.Event().wait()
    finally:
        stop.set()
        for thread in threads:
            await asyncio.to_thread(thread.join, ENDING.total_seconds())
        await asyncio.to_thread(_leave, follower)


def _repeat(act: Callable[[], None], pause: timedelta, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            close_old_connections()
            act()
        except Exception:  # noqa: BLE001 (whatever it was: the next turn tries again, and the log says it)
            _log.exception("a turn of the catalogue failed; the next one tries again")
        stop.wait(pause.total_seconds())
    connection.close()


def _follow(follower: Follower, leads: threading.Event) -> None:
    if follower.round():
        leads.set()
    else:
        leads.clear()


def _leave(follower: Follower) -> None:
    """Give the lease up, so that whoever starts next follows at once."""
    try:
        follower.leave()
    except DatabaseError:
        _log.warning("the lease of the repository was not given up; it ends by itself")


def _compare(place: Workplace, leads: threading.Event) -> None:
    while leads.is_set() and work_off_one(place):
        pass


def follower_of(wiring: Wiring, repository: RepositorySettings, disk: Disk) -> Follower:
    """Return what follows the repository of the settings."""
    session = _session(wiring, repository)
    folder = _state(wiring) / TRUST
    process = wiring.entropy.token(16).hex()
    return Follower(
        lambda: open_trust(disk, folder, repository, session, wiring),
        repository.url,
        wiring.clock,
        process,
        max(LEASE, LEASE_TURNS * repository.poll),
    )


def workplace_of(wiring: Wiring, repository: RepositorySettings, disk: Disk) -> Workplace:
    """Return where releases of the repository of the settings are compared."""
    return Workplace(
        disk,
        _state(wiring),
        _session(wiring, repository),
        repository.url,
        repository.max_tree,
        wiring.clock,
    )


def open_trust(
    disk: Disk, folder: Path, repository: RepositorySettings, session: HttpSession, wiring: Wiring
) -> FleetTrust:
    """Open the trust state, begun with the anchor of the settings where there is none.

    Raises:
        ConfigurationError: the anchor cannot be read, or the state is damaged.
        MetadataError: the anchor is no root that its own keys have signed.
        DiskError: the disk fails.
    """
    if disk.kind(folder / "state" / "trust.json") is Kind.FILE:
        return FleetTrust(disk, folder, session, wiring.clock)
    try:
        anchor = disk.read(repository.root)
    except (FileNotFoundError, DiskError) as error:
        raise ConfigurationError(
            f"cannot read the trust anchor repository.root: {error}; give the file N.root.json"
        ) from error
    disk.make_folder(folder, private=True)
    return FleetTrust.create(disk, folder, anchor, session, wiring.clock)


def _state(wiring: Wiring) -> Path:
    return state_folder(wiring.settings, parse_database(wiring.settings.db))


def _session(wiring: Wiring, repository: RepositorySettings) -> HttpSession:
    proxy = repository.proxy
    proxies = Proxies.every(proxy) if proxy else Proxies.from_environment(os.environ)
    settings = HttpSettings(
        user_agent=f"fleetward-console/{__version__}",
        proxies=proxies,
        ca_bundle=repository.ca_bundle,
    )
    return HttpSession(wiring.clock, settings)
