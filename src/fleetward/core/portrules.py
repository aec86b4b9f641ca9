"""The operator's own rules: which listener is expected, unknown or suspicious on his hosts.

A rule matches where everything that it names fits; what it does not name may be anything. The
first rule that matches decides. `expected` does not excuse what looks like an attack (a deleted
executable, say): `despite` names the reasons that a rule excuses, one by one.

Invariant: a rule that exists names something, and its patterns are bounded.

Deliberately not here: TOML (config.ports), what follows from a match (core.ports).
"""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from fleetward.core.digest import parse_sha256
from fleetward.core.listeners import Listener, Owner, PackageFile, Platform, Signature, Transport
from fleetward.errors import DocumentError

MAX_RULES: Final = 1_000
"""Rules of one file: each is tried on each listener."""

MAX_PATTERN_CHARS: Final = 400
"""Of a path: longer patterns make matching slow on purpose."""


class Verdict(StrEnum):
    """What is to be thought of a listener."""

    EXPECTED = "expected"
    UNKNOWN = "unknown"
    SUSPICIOUS = "suspicious"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRule:
    """One rule; empty fields match everything.

    Attributes:
        name: for people; appears in the reason.
        verdict: what a match means.
        port: the port; 0 for every port.
        protocol: tcp or udp; None for both.
        path: of the executable; `*`, `?` and `[…]` as in a shell, without regard to case on
            Windows.
        sha256: of the executable.
        script: what an interpreter runs: a path with wildcards, or a module.
        script_sha256: of the script's file.
        package: that owns the executable, which must not be altered.
        signer: of the executable, with wildcards; the system must trust it (Windows, macOS).
        user: whose socket it is.
        unit: the systemd unit.
        container: with wildcards.
        despite: ids of reasons which a match excuses.
    """

    name: str
    verdict: Verdict = Verdict.EXPECTED
    port: int = 0
    protocol: Transport | None = None
    path: str = ""
    sha256: str = ""
    script: str = ""
    script_sha256: str = ""
    package: str = ""
    signer: str = ""
    user: str = ""
    unit: str = ""
    container: str = ""
    despite: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise DocumentError(f"the rule {self.name!r} has the port {self.port}: 1 to 65535")
        for digest in filter(None, (self.sha256, self.script_sha256)):
            parse_sha256(digest)
        if max(map(len, (self.path, self.script, self.container, self.signer))) > MAX_PATTERN_CHARS:
            raise DocumentError(f"the rule {self.name!r} has too long a pattern")
        if not any((self.port, self.protocol, self.unit, self.user, self.container, *self.pins)):
            raise DocumentError(f"the rule {self.name!r} names nothing: it would match everything")

    @property
    def pins(self) -> tuple[str, ...]:
        """What it says of the program itself."""
        return (
            self.path, self.sha256, self.script, self.script_sha256, self.package, self.signer,
        )  # fmt: skip

    @property
    def pins_script(self) -> bool:
        """Whether it is enough for an interpreter, which runs whatever it is given."""
        return bool(self.unit or self.script or self.script_sha256)

    def matches(self, listener: Listener, platform: Platform) -> bool:
        """Return whether every owner of `listener` fits; what cannot be seen does not fit.

        The owner that only holds the socket for activation (pid 1) is left out where another
        serves.
        """
        socket, first = listener.socket, listener.principal
        fits_socket = (
            self.port in {0, socket.port}
            and self.protocol in {None, socket.protocol}
            and self.user in {"", listener.user}
        )
        if not fits_socket:
            return False
        if first is None:
            return (
                not any(self.pins)
                and self.unit in {"", listener.unit}
                and _like(listener.container, self.container, platform)
            )
        owners = [o for o in listener.owners if o.pid != 1 or o is first]
        return all(self._fits(owner, listener, platform) for owner in owners)

    def _fits(self, owner: Owner, listener: Listener, platform: Platform) -> bool:
        return (
            self.unit in {"", owner.unit or listener.unit}
            and _like(owner.container or listener.container, self.container, platform)
            and self._fits_file(owner, platform)
            and self._fits_script(owner, platform)
        )

    def _fits_file(self, owner: Owner, platform: Platform) -> bool:
        file = owner.executable
        if file is None:
            return not any((self.path, self.sha256, self.package, self.signer))
        return (
            _like(file.path, self.path, platform)
            and self.sha256 in {"", file.sha256}
            and self._fits_package(file.package)
            and self._fits_signer(file.signature)
        )

    def _fits_package(self, found: PackageFile | None) -> bool:
        if not self.package:
            return True
        return found is not None and found.name == self.package and found.intact is not False

    def _fits_signer(self, found: Signature | None) -> bool:
        if not self.signer:
            return True
        is_good = found is not None and bool(found.signer) and found.intact is True
        return is_good and found is not None and fnmatchcase(found.signer, self.signer)

    def _fits_script(self, owner: Owner, platform: Platform) -> bool:
        if not self.script and not self.script_sha256:
            return True
        script = owner.script
        return (
            script is not None
            and _like(script.name, self.script, platform)
            and self.script_sha256 in {"", script.sha256}
        )


def _like(text: str, pattern: str, platform: Platform) -> bool:
    if not pattern:
        return True
    if platform is Platform.WINDOWS:
        text, pattern = (t.casefold().replace("/", "\\") for t in (text, pattern))
    return fnmatchcase(text, pattern)
