"""Signatures of code on macOS, by its `codesign`: who signed, and whether the file still is that.

    codesign --display --verbose=2 -- FILE    `Authority=…` lines, the signer's own first
    codesign --verify --strict -- FILE        exit 0: intact; 1: it is not

An ad-hoc signature (`Signature=adhoc`) names nobody and counts as none.

Not run on macOS here. Source: codesign(1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fleetward.core.listeners import Signature
from fleetward.listeners.signatures import Run, run_asking

_AUTHORITY: Final = "Authority="
_UNSIGNED: Final = "code object is not signed at all"
_ADHOC: Final = "Signature=adhoc"
_INTACT: Final[dict[int | None, bool]] = {0: True, 1: False}
"""By codesign's exit code; 2 and 3 are other complaints, and decide nothing."""


@dataclass(frozen=True, slots=True)
class MacosSignatures:
    """Asks codesign.

    Attributes:
        run: runs a command.
        program: codesign.
    """

    run: Run = run_asking
    program: str = "/usr/bin/codesign"

    def __call__(self, paths: Sequence[str]) -> dict[str, Signature]:
        """Return the signatures of files.

        Raises:
            ConfigurationError: there is no codesign.
        """
        found = {path: self._of(path) for path in paths}
        return {path: one for path, one in found.items() if one is not None}

    def _of(self, path: str) -> Signature | None:
        said = self.run((self.program, "--display", "--verbose=2", "--", path), None).output
        signer = signer_in(said)
        if not signer:
            return None if signer is None else Signature(signer="", intact=None)
        code = self.run((self.program, "--verify", "--strict", "--", path), None).exit_code
        return Signature(signer=signer, intact=_INTACT.get(code))


def signer_in(said: str) -> str | None:
    """Return who signed, by `codesign --display`; empty for nobody, None where it said neither."""
    for line in said.splitlines():
        if line.startswith(_AUTHORITY):
            return line.removeprefix(_AUTHORITY).strip()
    return "" if _UNSIGNED in said or _ADHOC in said else None
