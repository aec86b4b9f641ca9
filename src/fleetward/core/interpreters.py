"""Interpreters, and what they run: python is no answer to "who listens?", its script is one.

Everything here goes by the command line, which a program can forge; so an operator's rule that
pins an interpreter by its path alone is not enough for a good verdict (core.ports).

Deliberately not here: reading the script (listeners).
"""

import re
from typing import Final

from fleetward.core.listeners import MAX_ARGUMENTS, Script

_NAMES: Final = re.compile(
    r"(?:python|pypy|perl|ruby|node|nodejs|php|lua|tclsh|guile|R|java|mono|dotnet|pwsh|powershell|"
    r"bash|dash|sh|zsh|ksh|fish|busybox|wscript|cscript|deno|bun)[0-9.]*w?(?:-[a-z]+)?(?:\.exe)?",
    re.IGNORECASE,
)
_WITH_VALUE: Final = {
    "python": ("-X", "-W", "--check-hash-based-pycs"),
    "pypy": ("-X", "-W"),
    "java": ("-cp", "-classpath", "--class-path", "-p", "--module-path"),
    "node": ("-r", "--require", "--import", "--loader"),
    "perl": ("-I", "-M", "-m"),
    "ruby": ("-I", "-r", "-C"),
    "bash": ("-o", "-O", "--rcfile", "--init-file"),
}
"""Options that take the next argument; what is not listed takes none."""

_CODE: Final = {
    "python": r"-[bBdEiIOPqsSuvx]*c.*",
    "pypy": r"-[bBdEiIOPqsSuvx]*c.*",
    "perl": r"-[a-zA-Z]*[eE]",
    "ruby": r"-[a-zA-Z]*e",
    "node": r"-[pe]|--eval|--print",
    "pwsh": r"(?i:-c(ommand)?|-e(ncodedcommand)?)",
    "powershell": r"(?i:-c(ommand)?|-e(ncodedcommand)?)",
}
_SHELL_CODE: Final = r"-[a-z]*c"
"""Of every other interpreter: shells, above all."""

_MODULE: Final = {"python": r"-[bBdEiIOPqsSuvx]*m", "pypy": r"-[bBdEiIOPqsSuvx]*m", "java": "-jar"}


def file_name(path: str) -> str:
    """Return the last part of a path of any platform."""
    return re.split(r"[/\\]", path)[-1]


def is_interpreter(path: str) -> bool:
    """Return whether the program at `path` runs what others wrote, by its name."""
    return _NAMES.fullmatch(file_name(path)) is not None


def script_of(executable: str, command: tuple[str, ...]) -> Script | None:
    """Return what an interpreter runs; None where it is none, or reads from its input.

    Args:
        executable: the path of the program.
        command: its command line, the program first.
    """
    if not is_interpreter(executable):
        return None
    family = re.split(r"[^a-z]", file_name(executable).lower())[0]
    code = _CODE.get(family, _SHELL_CODE)
    rest = list(command[1:])
    while rest:
        word = rest.pop(0)
        if rest and re.fullmatch(_MODULE.get(family, "(?!)"), word):
            kind = "file" if word == "-jar" else "module"
            return Script(kind=kind, name=rest[0], arguments=tuple(rest[1:MAX_ARGUMENTS]))
        if re.fullmatch(code, word):
            return Script(kind="code")
        if word in _WITH_VALUE.get(family, ()):
            rest = rest[1:]
        elif not word.startswith("-"):
            kind = "module" if family == "java" else "file"
            return Script(kind=kind, name=word, arguments=tuple(rest[: MAX_ARGUMENTS - 1]))
    return None
