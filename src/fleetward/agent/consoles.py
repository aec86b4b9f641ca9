"""Whom this host believes as its console.

    before the first verified document    the keys of the token file (trust on enrolment)
    after it                              the keys of `fleet/console.json`, and no others

    HOME/signed-console.json    the document as it was verified last, fleetward.console/1

Invariants: a key that left the document is believed no more, and nothing is sealed to it. A document
that is withheld, expired, unreadable or gone from the repository changes nothing: what was verified
last holds, so nobody brings a retired key back by taking the document away. The file is written only
where the document changed, and before anything is decided on it.

Deliberately not here: verifying (trust), the keys' use (identity). Nothing here imports either.
"""

from dataclasses import replace
from typing import Final

from fleetward.adapters.atomicfile import write_file
from fleetward.agent.home import Home
from fleetward.core.consoles import Consoles
from fleetward.errors import ConfigurationError, DocumentError
from fleetward.wire.documents import decode, encode
from fleetward.wire.tokenfile import ConsolePins

SIGNED_FILE: Final = "signed-console.json"


def remember_consoles(home: Home, verified: Consoles) -> None:
    """Keep a verified document; nothing is written where it is known.

    Raises:
        DiskError: it could not be made durable; the one before still holds.
    """
    path, content = home.path / SIGNED_FILE, encode(verified)
    try:
        known = home.disk.read(path)
    except FileNotFoundError:
        known = b""
    if content != known:
        write_file(home.disk, path, content)


def signed_consoles(home: Home) -> Consoles | None:
    """Return the document that was verified last; None before the first.

    Raises:
        ConfigurationError: the file is damaged. The token file is not believed in its place: its
            keys may be those that were taken out. The next check writes it anew.
    """
    path = home.path / SIGNED_FILE
    try:
        return decode(Consoles, home.disk.read(path))
    except FileNotFoundError:
        return None
    except DocumentError as error:
        raise ConfigurationError(
            f"{path} is damaged ({error}): run `fleetward agent update {home.path}`"
        ) from error


def believed(home: Home, pins: ConsolePins) -> ConsolePins:
    """Return the console that this host believes, in place of the one of its token file.

    The first signing key and the sealing key are a pair; the URL is the pair's, or the token file's.

    Raises:
        ConfigurationError: as `signed_consoles`.
    """
    signed = signed_consoles(home)
    if signed is None:
        return pins
    first = signed.keys[0]
    return replace(
        pins,
        console=first.url or pins.console,
        signing=tuple(pair.signing for pair in signed.keys),
        sealing=first.sealing,
    )
