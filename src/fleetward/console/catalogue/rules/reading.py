"""Which rules a file of a release holds: chosen by its name, and by what is in it."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from fleetward.console.catalogue.rules.clamav import (
    CONTAINERS,
    TEXT,
    read_clamav,
    read_container,
    read_header,
)
from fleetward.console.catalogue.rules.rule import Rule
from fleetward.console.catalogue.rules.sigma import read_sigma
from fleetward.console.catalogue.rules.suricata import read_suricata
from fleetward.console.catalogue.rules.yara import read_yara

MAX_FILE: Final = 64 * 1024 * 1024
"""Bytes of a file that is read for rules; a larger one is compared as a file (a busy console)."""

_YARA: Final = frozenset({".yar", ".yara"})
_SIGMA: Final = frozenset({".yml", ".yaml"})
_HEADER: Final = ".header"


def may_hold_rules(path: str) -> bool:
    """Return whether a file of that name is one that rules are read from."""
    return _suffix(path) in TEXT | CONTAINERS | _YARA | _SIGMA | {".rules"}


def read_rules(path: str, content: bytes) -> Iterator[Rule]:
    """Yield the rules of a file, in its order; none where it holds none."""
    suffix = _suffix(path)
    if suffix in CONTAINERS:
        name = PurePosixPath(path).name
        for inner, held in read_container(content, name):
            if inner == name + _HEADER:
                yield from read_header(held, name)
            elif _suffix(inner) not in CONTAINERS:
                yield from read_rules(inner, held)
    elif suffix in TEXT:
        yield from read_clamav(content, suffix)
    elif suffix in _YARA:
        yield from read_yara(content)
    elif suffix == ".rules":
        yield from read_suricata(content)
    elif suffix in _SIGMA:
        yield from read_sigma(content)


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()
