"""The online keys at work: renews what is due, finishes what is pending.

The steward's folder of keys holds `online` alone; where it could read offline keys it refuses to
start, since whoever takes over this machine would have them too.

Deliberately not here: evidence from the console and the waves that it opens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetward.errors import ConfigurationError, FleetwardError
from fleetward.origin.finish import Outcome, finish
from fleetward.origin.keyring import OFFLINE, Keyring
from fleetward.origin.repository import PENDING, Closure
from fleetward.origin.roles import ONLINE_ROLES, Lifetimes
from fleetward.origin.staging import Staging
from fleetward.origin.workshop import Workshop

_TICK = timedelta(seconds=1)
_LOOK = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Due:
    """A role that somebody else's keys must renew.

    Attributes:
        role: its name.
        expires: when it expires.
        command: what its holders run.
    """

    role: str
    expires: datetime
    command: str


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of the steward did.

    Attributes:
        renewed: online roles that were due.
        outcome: what became live and what waits.
        due: what others must renew.
    """

    renewed: tuple[str, ...]
    outcome: Outcome
    due: tuple[Due, ...]


def steward_once(shop: Workshop) -> Round:
    """Renew what is due and finish what is pending.

    Raises:
        ConfigurationError: offline keys can be read here, or there is no repository.
        KeyUnavailableError: the online keys are not here.
        ClockError: this machine's clock stands behind what was signed already.
        BusyError: another command works on the repository.
        DiskError: the disk is full or failing; what is live is whole.
    """
    refuse_offline_keys(shop.keyring)
    with shop.alone():
        staging = Staging(shop)
        renew = due_online(staging.closure, shop.clock.now(), shop.lifetimes)
        outcome = finish(staging, renew)
        return Round(renew, outcome, due_elsewhere(staging.closure, shop))


def steward(
    shop: Workshop, is_stopped: Callable[[], bool], report: Callable[[Round | FleetwardError], None]
) -> None:
    """Steward until `is_stopped`; a round that fails is reported and tried again.

    Args:
        shop: what to work with.
        is_stopped: asked every second.
        report: hears of each round that did something, and of each that failed.

    Raises:
        FleetwardError: the first round failed, so the setting is wrong.
    """
    report(steward_once(shop))
    while not is_stopped():
        _wait(shop, _LOOK, is_stopped)
        if is_stopped() or not _has_work(shop):
            continue
        try:
            done = steward_once(shop)
        except FleetwardError as error:
            report(error)
            continue
        if done.outcome.became_live:
            report(done)


def refuse_offline_keys(keyring: Keyring) -> None:
    """Return where no offline key can be read.

    Raises:
        ConfigurationError: one can.
    """
    keyring.look_again()
    if any(found.place == OFFLINE for found in keyring.found()):
        raise ConfigurationError(
            f"{keyring.folder / OFFLINE} holds keys that the steward can read, so whoever breaks "
            "in here has them too: move them away (a disk in a safe) and start it again"
        )


def due_online(closure: Closure, now: datetime, lifetimes: Lifetimes) -> tuple[str, ...]:
    """Return the online roles to renew: timestamp after its interval, others at half their life."""
    issued = closure.timestamp.issued
    due = [
        role.role
        for role in (closure.roles["channels"], closure.snapshot)
        if role.expires - now < lifetimes.of(role.role) / 2
    ]
    if due or issued is None or now - issued >= lifetimes.interval:
        due.append("timestamp")
    return tuple(due)


def due_elsewhere(closure: Closure, shop: Workshop) -> tuple[Due, ...]:
    """Return the offline and product roles that are under half of their life."""
    now = shop.clock.now()
    roles = [closure.root, *closure.roles.values()]
    return tuple(
        Due(role.role, role.expires, f"fleetward origin renew {shop.folder} --keys DIR")
        for role in roles
        if role.role not in ONLINE_ROLES and role.expires - now < shop.lifetimes.of(role.role) / 2
    )


def _has_work(shop: Workshop) -> bool:
    try:
        pending = shop.disk.listing(shop.folder / PENDING)
        closure = shop.repository.closure()
    except (FleetwardError, FileNotFoundError):
        return True  # the round will say what is wrong
    return bool(pending) or bool(due_online(closure, shop.clock.now(), shop.lifetimes))


def _wait(shop: Workshop, pause: timedelta, is_stopped: Callable[[], bool]) -> None:
    until = shop.clock.monotonic() + pause
    while not is_stopped() and shop.clock.monotonic() < until:
        shop.clock.sleep(_TICK)
