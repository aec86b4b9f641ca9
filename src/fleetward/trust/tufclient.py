"""The TUF client workflow over a durable ledger, and nothing of Fleetward's own documents.

What is verified is kept at once, in the order of the roles, also where the run fails half way: that
is what makes a later rollback visible. The first role that is refused ends the keeping, so that no
role is kept whose delegator was not.

tuf-conformance drives this class (tests/attack/conformance_client); hosts use `FleetTrust`
(trust.client), which asks for more.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fleetward.adapters.http import HttpSession
from fleetward.core.limits import MetadataLimits
from fleetward.errors import FleetwardError
from fleetward.trust.ledger import Ledger, TrustHome
from fleetward.trust.metadata import TOP_LEVEL, read_role
from fleetward.trust.rules import TufRules

if TYPE_CHECKING:
    from fleetward.trust.updating import Repository, Run

_Result = TypeVar("_Result")


class TufClient:
    """A ledger, and the way to bring it up to date."""

    def __init__(
        self,
        ledger: Ledger,
        session: HttpSession,
        rules: TufRules,
        limits: MetadataLimits | None = None,
    ) -> None:
        """Work on `ledger` over `session`, keeping what passes `rules`."""
        self._ledger = ledger
        self._session = session
        self._rules = rules
        self._limits = limits or MetadataLimits()

    @classmethod
    def begin(cls, home: TrustHome, anchor: bytes, session: HttpSession, rules: TufRules) -> Ledger:
        """Begin a ledger with the trust anchor `anchor`.

        Args:
            home: where.
            anchor: the bytes of a root that was got on a safe way.
            session: not used to connect.
            rules: what is asked of it beyond its own signatures.

        Raises:
            MetadataError: it is no root that its own keys have signed, or `rules` refuse it.
            ConfigurationError: there is a ledger already.
            DiskError: the disk fails.
        """
        from fleetward.trust.updating import verify_anchor  # noqa: PLC0415 (tuf: where needed)

        verify_anchor(session, anchor)
        rules.judge("root", anchor)
        return Ledger.create(home, anchor)

    def refresh(self, repository: "Repository") -> None:
        """Bring the top-level roles up to date.

        Raises:
            TrustError: something was refused (its subclass says why).
            NetworkError: something could not be brought.
            DiskError: the disk fails.
        """
        self._perform(repository, (), lambda run: run.refresh(), TOP_LEVEL)

    def load(self, repository: "Repository", target: str, role: str) -> None:
        """Bring the metadata of `role` up to date, the delegated role that may name `target`.

        Raises:
            As `refresh`, which it includes.
        """
        self._perform(repository, (role,), lambda run: run.load(target), (*TOP_LEVEL, role))

    def download(self, repository: "Repository", target: str, kept: Path) -> bytes:
        """Return the verified bytes of `target`, whichever role names it.

        Args:
            repository: with its `targets_url`.
            target: its name.
            kept: the file in which they may be from before.

        Raises:
            NotFoundError: no role names it, or the source does not have it.
            As `refresh`, which it includes.
        """
        roles = self._ledger.roles()
        return self._perform(repository, roles, lambda run: run.download(target, kept), TOP_LEVEL)

    def _perform(
        self,
        repository: "Repository",
        roles: Iterable[str],
        act: "Callable[[Run], _Result]",
        used: Iterable[str],
    ) -> _Result:
        """Run `act` with the stored metadata of `roles`, and keep what it verified.

        `used` are the roles that are judged again also where they did not change.
        """
        from fleetward.trust.updating import updater_run  # noqa: PLC0415 (tuf: where needed)

        found = {role: self._ledger.read(role) for role in (*TOP_LEVEL, *roles)}
        given = {role: content for role, content in found.items() if content is not None}
        given["root"] = self._ledger.root()
        with updater_run(self._session, repository, given, self._limits) as run:
            try:
                result = act(run)
            except FleetwardError:
                self._keep({"root": run.role("root"), **run.changed()})
                raise
            self._keep({role: run.role(role) for role in used} | run.changed())
            return result

    def _keep(self, verified: Mapping[str, bytes | None]) -> None:
        """Take up what was verified, in the order of the roles, until one is refused."""
        order = [role for role in TOP_LEVEL if role in verified]
        try:
            for role in (*order, *sorted(set(verified) - set(order))):
                content = verified[role]
                if content is not None:
                    self._keep_role(role, content)
        finally:
            self._ledger.save()

    def _keep_role(self, role: str, content: bytes) -> None:
        if role == "timestamp":
            self._rules.require_current("root", read_role(self._ledger.root()).expires)
        self._rules.judge(role, content)
        self._ledger.take(role, content)
