"""What every command of the origin works with, passed in: repository, keys, clock, entropy."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import Disk
from fleetward.adapters.entropy import Entropy
from fleetward.origin.keyring import Keyring
from fleetward.origin.repository import Repository
from fleetward.origin.roles import Lifetimes

LOCK = ".lock"
"""Held while metadata changes: for moments."""

PUBLISH_LOCK = ".publish.lock"
"""Held while a release is made, and while blobs are removed: for minutes."""

PATIENCE = timedelta(seconds=30)
"""How long a command waits for another one, unless told otherwise."""


class Progress(Protocol):
    """Who is told how far long work is."""

    def step(self, name: str, done: int, total: int) -> None:
        """Hear that `done` of `total` parts of the step `name` are done."""
        ...


class Silence:
    """A Progress that says nothing."""

    def step(self, name: str, done: int, total: int) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """An origin at work.

    Attributes:
        repository: its files.
        keyring: the keys that this command can read.
        clock: the time.
        entropy: where keys and salts come from.
        lifetimes: how long metadata is valid.
        wait: how long to wait for another command.
        progress: who is told how far long work is.
    """

    repository: Repository
    keyring: Keyring
    clock: Clock
    entropy: Entropy
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    wait: timedelta = PATIENCE
    progress: Progress = field(default_factory=Silence)

    @property
    def disk(self) -> Disk:
        """The disk that the repository lies on."""
        return self.repository.disk

    @property
    def folder(self) -> Path:
        """The repository's folder."""
        return self.repository.folder

    @contextmanager
    def alone(self, name: str = LOCK) -> Generator[None]:
        """Hold one of the repository's locks.

        Raises:
            ConfigurationError: there is no repository.
            BusyError: another command still holds it after `wait`.
        """
        with self.repository.lock(name, self.clock, self.wait):
            yield
