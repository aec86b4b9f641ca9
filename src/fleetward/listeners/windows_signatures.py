"""Authenticode signatures, by PowerShell's Get-AuthenticodeSignature (which knows catalogues too).

Paths go in by an environment variable, separated by `|`, which no path of Windows has: nothing of a
path is ever read as PowerShell. The answer is a JSON list of path, status and the certificate's subject.

Statuses: `Valid` is intact; `HashMismatch` is another file than was signed; `NotSigned` is no
signature; all else (an authority that is not trusted, a format that cannot be signed) decides
nothing. Source: Microsoft, System.Management.Automation.SignatureStatus.

Not run on Windows here.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from fleetward.core.listeners import Signature
from fleetward.listeners.signatures import Run, run_asking

_VARIABLE: Final = "FLEETWARD_FILES"
_KEPT: Final = ("SystemRoot", "windir", "PATH", "PSModulePath", "TEMP", "TMP", "ProgramFiles")
"""Of the environment, that PowerShell cannot do without."""

_SCRIPT: Final = f"""
$ErrorActionPreference = 'SilentlyContinue'
[Console]::OutputEncoding = [Text.Encoding]::UTF8
ConvertTo-Json -Compress -InputObject @($env:{_VARIABLE} -split '\\|' | ForEach-Object {{
  $s = Get-AuthenticodeSignature -LiteralPath $_
  @{{ path = $_; status = "$($s.Status)"; subject = "$($s.SignerCertificate.Subject)" }}
}})
"""
_INTACT: Final = {"Valid": True, "HashMismatch": False}


class _Row(msgspec.Struct):
    path: str
    status: str
    subject: str


@dataclass(frozen=True, slots=True)
class WindowsSignatures:
    """Asks PowerShell.

    Attributes:
        run: runs a command.
        program: PowerShell; `pwsh` where Windows' own is taken away.
    """

    run: Run = run_asking
    program: str = "powershell.exe"

    def __call__(self, paths: Sequence[str]) -> dict[str, Signature]:
        """Return the signatures of files.

        Raises:
            ConfigurationError: there is no PowerShell.
        """
        asked = [path for path in paths if "|" not in path]
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment[_VARIABLE] = "|".join(asked)
        command = (self.program, "-NoProfile", "-NonInteractive", "-Command", _SCRIPT)
        return parse_signatures(self.run(command, environment).output) if asked else {}


def parse_signatures(answer: str) -> dict[str, Signature]:
    """Return what PowerShell said of files; nothing where it said something else."""
    try:
        rows = msgspec.json.decode(answer.strip().lstrip("\ufeff"), type=list[_Row])
    except msgspec.MsgspecError:
        return {}
    found = {}
    for row in rows:
        if row.status == "NotSigned":
            found[row.path] = Signature(signer="", intact=None)
        elif row.subject:
            signer = common_name(row.subject)
            found[row.path] = Signature(signer=signer, intact=_INTACT.get(row.status))
    return found


def common_name(subject: str) -> str:
    """Return the CN of a subject such as `CN="Symantec, Inc.", O=…`; else the subject itself."""
    at = 0 if subject.startswith("CN=") else subject.find(", CN=") + 2
    if not subject.startswith("CN=", at):
        return subject
    value = subject[at + 3 :]
    if not value.startswith('"'):
        return value.partition(",")[0].strip()
    name, end = "", 1
    while end < len(value) and (value[end] != '"' or value[end : end + 2] == '""'):
        name += value[end]
        end += 2 if value[end] == '"' else 1
    return name
