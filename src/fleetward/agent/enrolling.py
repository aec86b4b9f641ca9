"""How this host becomes known to a console, and what it then believes of that console.

    HOME/host.key          the host's key (identity.hosts)
    HOME/enrolment.json    the token file, kept (mode 0600) while the console has not decided
    HOME/console.json      the token file's pins and the console's last answer; there once it answered

The token is never sent; the console's answer is believed only where a key signed it that this host
believes (agent.consoles: the token file's, until the fleet keys have named others) and it answers
this very request. A token file of a console that the fleet keys do not name is refused. So a relay that carries both can only lose them. Asking again
with the same token is always safe: a console counts a token once per key.

Deliberately not here: what the token proves (identity.enrolment), check-ins (agent.checkins).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.clock import Clock
from fleetward.adapters.entropy import Entropy
from fleetward.adapters.http import HttpSession
from fleetward.agent.carrying import bring, first
from fleetward.agent.consoles import believed, signed_consoles
from fleetward.agent.home import CONSOLE_FILE, Home
from fleetward.core.enrolment import EnrolmentAnswer, HostFacts, Standing
from fleetward.errors import ConfigurationError, DocumentError, SignatureError
from fleetward.identity.consoles import ConsolePublic
from fleetward.identity.enrolment import (
    EnrolmentToken,
    request_enrolment,
    verify_answer,
)
from fleetward.identity.hosts import HostKey, load_host_key, obtain_host_key
from fleetward.wire.checkins import ENVELOPE_MEDIA_TYPE
from fleetward.wire.documents import decode_json, encode_json
from fleetward.wire.enrolment import ENROL_PATH
from fleetward.wire.tokenfile import (
    ConsolePins,
    TokenFile,
    decode_token_file,
    encode_token_file,
)

HOST_KEY_FILE: Final = "host.key"
WAITING_FILE: Final = "enrolment.json"
_SCHEMA: Final = "fleetward.enrolled/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What the console answered last.

    Attributes:
        pins: the console that this host believes now; on disk, as the token file named it.
        standing: approved, pending or refused.
        record: the id of the host's record, by which waves go; empty unless approved.
        reason: the console's words.
        answered: when the console signed it.
    """

    pins: ConsolePins
    standing: Standing
    record: str = ""
    reason: str = ""
    answered: datetime

    def public(self) -> ConsolePublic:
        """Return the console to which check-ins are sealed."""
        return public_of(self.pins)


def public_of(pins: ConsolePins) -> ConsolePublic:
    """Return a console's public keys; the first signing key is the one in use."""
    return ConsolePublic(pins.signing_keys()[0], pins.sealing_key())


def host_key(home: Home) -> HostKey:
    """Return the key of an enrolled host. Raises ConfigurationError: there is none."""
    return load_host_key(home.disk, home.path / HOST_KEY_FILE)


def load_enrolled(home: Home) -> Enrolled | None:
    """Return what the console answered last; None where this host never asked one.

    Raises:
        ConfigurationError: the file is damaged, or the signed document is.
    """
    path = home.path / CONSOLE_FILE
    try:
        enrolled = decode_json(_SCHEMA, Enrolled, home.disk.read(path))
    except FileNotFoundError:
        return None
    except DocumentError as error:
        raise ConfigurationError(f"{path} is damaged ({error}): enrol this host again") from error
    return replace(enrolled, pins=believed(home, enrolled.pins))


def read_token_file(content: bytes, console: str | None) -> TokenFile:
    """Return a token file, for the console that the operator names.

    Args:
        content: the file's bytes.
        console: the URL to use in place of the file's (another way to the same console).

    Raises:
        ConfigurationError: it is no token file, or its token is none.
    """
    try:
        file = decode_token_file(content)
        EnrolmentToken.parse(file.token)
        if console is None:
            return file
        return replace(file, pins=replace(file.pins, console=console.rstrip("/")))
    except DocumentError as error:
        raise ConfigurationError(
            f"not a token file ({error}): take it whole from the console, page Settings, Enrolment"
        ) from error


def enrol(  # noqa: PLR0913 (the world, passed in)
    home: Home,
    file: TokenFile,
    sources: Iterable[str],
    facts: HostFacts,
    *,
    session: HttpSession,
    clock: Clock,
    entropy: Entropy,
) -> Enrolled:
    """Ask the console to know this host, by a relay or directly, and keep its answer.

    Args:
        home: the agent's folder; the caller holds its lock.
        file: the token file.
        sources: relays that may carry the request.
        facts: what the host says of itself.
        session: connects out.
        clock: time.
        entropy: makes the host's key, and nonces.

    Raises:
        NetworkError: nobody carried the request, or brought its answer.
        TrustError: an answer that the console did not sign, or not to this request; or the fleet
            keys name other consoles than the token file, and nothing was asked.
        DiskError: HOME cannot be written.
    """
    trusted = _require_named(home, file)
    key = obtain_host_key(home.disk, home.path / HOST_KEY_FILE, entropy)
    write_file(home.disk, home.path / WAITING_FILE, encode_token_file(file), private=True)
    answer = _ask(key, file, trusted, sources, facts, session=session, clock=clock, entropy=entropy)
    return _keep(home, file.pins, answer)


def _require_named(home: Home, file: TokenFile) -> tuple[bytes, ...]:
    """Return the signing keys that may answer, where the token file's console is one to believe."""
    signed = signed_consoles(home)
    if signed is not None and not signed.names(file.pins.signing[0], file.pins.sealing):
        raise SignatureError(
            "the token file names a console that the fleet keys do not: take a new one from the "
            "console, page Settings, Enrolment; if the console's keys are new, wait until they are "
            "signed (fleetward origin console)"
        )
    return believed(home, file.pins).signing_keys()


def ask_again(
    home: Home,
    sources: Iterable[str],
    facts: HostFacts,
    *,
    session: HttpSession,
    clock: Clock,
    entropy: Entropy,
) -> Enrolled | None:
    """Ask the console again with the token that is kept; None where none is.

    Raises:
        NetworkError, TrustError, DiskError: as `enrol`.
        ConfigurationError: the kept token file is damaged.
    """
    try:
        content = home.disk.read(home.path / WAITING_FILE)
    except FileNotFoundError:
        return None
    file = read_token_file(content, None)
    return enrol(home, file, sources, facts, session=session, clock=clock, entropy=entropy)


def _ask(  # noqa: PLR0913 (the world, passed in)
    key: HostKey,
    file: TokenFile,
    trusted: tuple[bytes, ...],
    sources: Iterable[str],
    facts: HostFacts,
    *,
    session: HttpSession,
    clock: Clock,
    entropy: Entropy,
) -> EnrolmentAnswer:
    token = EnrolmentToken.parse(file.token)
    made = request_enrolment(
        key, public_of(file.pins), token, facts, entropy=entropy, now=clock.now()
    )

    def attempt(url: str) -> EnrolmentAnswer:
        taken = bring(session, [url], ENROL_PATH, made.envelope, ENVELOPE_MEDIA_TYPE)
        return verify_answer(taken.body, made.request, trusted)

    return first([*sources, file.pins.console], attempt)


def _keep(home: Home, pins: ConsolePins, answer: EnrolmentAnswer) -> Enrolled:
    enrolled = Enrolled(
        pins=pins,
        standing=answer.standing,
        record=answer.record,
        reason=answer.reason,
        answered=answer.issued,
    )
    if not (answer.standing is Standing.REFUSED and _is_approved(home)):
        path = home.path / CONSOLE_FILE
        write_file(home.disk, path, encode_json(_SCHEMA, enrolled), private=True)
    if answer.standing is not Standing.PENDING:
        home.disk.remove(home.path / WAITING_FILE)
        home.disk.sync_folder(home.path)
    return enrolled


def _is_approved(home: Home) -> bool:
    """Return whether a refusal must not undo what holds: somebody tried a wrong token here."""
    before = load_enrolled(home)
    return before is not None and before.standing is Standing.APPROVED
