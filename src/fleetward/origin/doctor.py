"""Looks a repository over: `origin doctor`. Reads only; takes no lock and needs no passphrase.

Each finding has an id that stays the same, a severity, a sentence and the next step. The checks
are a list of functions from a `Patient` to findings; a repository whose metadata does not verify
gets that one finding, since nothing it says can be believed.

Deliberately not here: repairing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from fleetward.adapters.clock import Clock
from fleetward.core.documents import Channel, Manifest
from fleetward.core.limits import CLOCK_BEHIND_TOLERANCE, FROZEN_AFTER_INTERVALS
from fleetward.core.names import parse_product
from fleetward.errors import DocumentError, FleetwardError, MetadataError
from fleetward.origin.contents import NamedFile, blob_files, target_files
from fleetward.origin.keyring import OFFLINE, ONLINE, Keyring
from fleetward.origin.releases import Releases, read_role
from fleetward.origin.repository import PENDING, Closure, Repository, intact
from fleetward.origin.roles import OFFLINE_ROLES, ONLINE_ROLES, Lifetimes
from fleetward.origin.workshop import Progress
from fleetward.trust.signing import SignedRole

SCHEMA = "fleetward.doctor/1"
Severity = Literal["critical", "warning"]

EXPIRES_SOON = {
    "root": timedelta(days=60),
    "targets": timedelta(days=45),
    "fleet": timedelta(days=45),
    "releases": timedelta(days=7),
    "channels": timedelta(days=2),
    "snapshot": timedelta(days=2),
    "timestamp": timedelta(days=2),
}
"""From when on an expiry is a finding: long enough for people to meet with their keys."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or soon will be.

    Attributes:
        id: what it is, for scripts; `KIND` or `KIND:SUBJECT`.
        severity: `critical` where hosts fail or are unprotected, else `warning`.
        sentence: what is the matter.
        next_step: what to do.
    """

    id: str
    severity: Severity
    sentence: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Patient:
    """What the checks look at."""

    repository: Repository
    closure: Closure
    keyring: Keyring | None
    now: datetime
    lifetimes: Lifetimes
    progress: Progress


def examine(
    repository: Repository,
    keyring: Keyring | None,
    clock: Clock,
    progress: Progress,
    lifetimes: Lifetimes | None = None,
) -> list[Finding]:
    """Return what is wrong with a repository, worst first.

    Args:
        repository: which one.
        keyring: the keys, or None where only the repository is looked at.
        clock: the time.
        progress: who is told how far it is.
        lifetimes: how long metadata should be valid.

    Raises:
        ConfigurationError: there is no repository, or a key file is malformed.
        DiskError: the disk fails.
    """
    try:
        closure = repository.closure()
    except (MetadataError, DocumentError) as error:
        return [
            Finding(
                "metadata",
                "critical",
                f"the metadata does not verify, so no host can use it: {error}",
                "restore the repository's folder from a copy, timestamp.json last",
            )
        ]
    patient = Patient(repository, closure, keyring, clock.now(), lifetimes or Lifetimes(), progress)
    findings = [finding for check in CHECKS for finding in check(patient)]
    return sorted(findings, key=lambda finding: finding.severity)


# -- time ----------------------------------------------------------------------------------------


def _expiry(patient: Patient) -> Iterator[Finding]:
    closure = patient.closure
    for role in (closure.root, *closure.roles.values(), closure.snapshot, closure.timestamp):
        kind = "releases" if role.role.startswith("releases-") else role.role
        left = role.expires - patient.now
        if left > EXPIRES_SOON[kind]:
            continue
        when = f"{role.role} {'expired' if left <= timedelta() else 'expires'} on "
        yield Finding(
            f"expiry:{role.role}",
            "critical" if left <= timedelta() else "warning",
            f"{when}{role.expires:%Y-%m-%d %H:%M} UTC; from then on hosts take nothing new",
            _renewal(role, patient),
        )


def _renewal(role: SignedRole, patient: Patient) -> str:
    folder = patient.repository.folder
    if role.role in ONLINE_ROLES:
        return f"see that `fleetward origin steward {folder} --keys DIR` runs"
    return f"run `fleetward origin renew {folder} --keys DIR {role.role}` where its keys are"


def _clock(patient: Patient) -> Iterator[Finding]:
    timestamp = patient.closure.timestamp
    issued, interval = timestamp.issued, timestamp.interval
    if issued is None or interval is None:
        yield Finding(
            "timestamp-form",
            "critical",
            "timestamp.json does not say when it was made, so hosts cannot see that it is frozen",
            "let Fleetward's own steward sign it",
        )
        return
    if issued - patient.now > CLOCK_BEHIND_TOLERANCE:
        yield Finding(
            "clock",
            "critical",
            f"timestamp.json was made at {issued:%Y-%m-%d %H:%M} UTC, which is to come: this "
            "clock is behind, or the steward's was ahead",
            "set both clocks right; hosts never take a time before the greatest one signed",
        )
    elif patient.now - issued > interval * FROZEN_AFTER_INTERVALS:
        yield Finding(
            "stale",
            "warning",
            f"timestamp.json is {_spoken(patient.now - issued)} old and should be at most "
            f"{_spoken(interval)}: hosts report `frozen`",
            _renewal(timestamp, patient),
        )


def _too_long(patient: Patient) -> Iterator[Finding]:
    closure = patient.closure
    for role in (closure.root, *closure.roles.values(), closure.snapshot, closure.timestamp):
        if role.expires - patient.now > patient.lifetimes.of(role.role) + timedelta(days=1):
            yield Finding(
                f"valid-too-long:{role.role}",
                "warning",
                f"{role.role} is valid until {role.expires:%Y-%m-%d} UTC, longer than it should "
                "be: it was signed by a clock that was ahead",
                "set the signer's clock right and sign again",
            )


def _spoken(span: timedelta) -> str:
    hours, rest = divmod(int(span.total_seconds()), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min"


# -- files ---------------------------------------------------------------------------------------


def _files(patient: Patient) -> Iterator[Finding]:
    repository = patient.repository
    targets = target_files(patient.closure.roles.values())
    for target in targets:
        try:
            content = repository.disk.read(repository.folder / target.path)
        except FileNotFoundError:
            content = None
        if content is None or not target.ref.matches(content):
            yield _broken(target.path, target.named_by, missing=content is None)
    yield from _blobs(patient)


def _blobs(patient: Patient) -> Iterator[Finding]:
    repository = patient.repository
    blobs: list[NamedFile] = []
    for target in target_files(patient.closure.roles.values()):
        try:
            blobs += blob_files(repository, [target])
        except FleetwardError:
            continue  # reported as a broken target
    for done, blob in enumerate(blobs):
        patient.progress.step("blobs", done, len(blobs))
        if not intact(repository, blob.ref.sha256, blob.ref.length):
            yield _broken(blob.path, blob.named_by, missing=not repository.holds(blob.path))
    patient.progress.step("blobs", len(blobs), len(blobs))


def _broken(path: str, named_by: str, *, missing: bool) -> Finding:
    return Finding(
        f"{'missing' if missing else 'damaged'}:{path}",
        "critical",
        f"{path} is {'missing' if missing else 'damaged'}; {named_by} names it",
        "restore it from a copy of the repository, or publish a new release",
    )


# -- releases and channels -----------------------------------------------------------------------


def _channels(patient: Patient) -> Iterator[Finding]:
    for channel in _documents(patient):
        name = f"{channel.product}/{channel.channel}"
        if channel.plan == "now":
            yield Finding(
                f"plan-now:{name}",
                "warning",
                f"channel {name} opens each release to all hosts at once",
                "give it a ramp with `fleetward origin policy`",
            )
        releases = _releases(patient, channel)
        manifest = releases.manifests.get(channel.release.manifest) if releases else None
        if releases and _refused(releases, manifest):
            yield Finding(
                f"refused:{name}",
                "critical",
                f"channel {name} points at {channel.release.release}, which hosts refuse: it is "
                "revoked, under the floor, or not signed by the releases role",
                "publish another release there",
            )


def _refused(releases: Releases, manifest: Manifest | None) -> bool:
    if manifest is None or manifest.seq < releases.floor.seq:
        return True
    return releases.floor.revocation_of(manifest.tree.sha256) is not None


def _documents(patient: Patient) -> Iterator[Channel]:
    for name, ref in patient.closure.roles["channels"].targets.items():
        try:
            yield patient.repository.document(Channel, name, ref)
        except DocumentError:
            continue  # reported as a broken target


def _releases(patient: Patient, channel: Channel) -> Releases | None:
    role = patient.closure.roles.get(f"releases-{channel.product}")
    try:
        return read_role(patient.repository, role, parse_product(channel.product)) if role else None
    except DocumentError:
        return None  # reported as a broken target


# -- keys ----------------------------------------------------------------------------------------


def _spare_keys(patient: Patient) -> Iterator[Finding]:
    delegates = {**patient.closure.root.delegates, **patient.closure.roles["targets"].delegates}
    for role in OFFLINE_ROLES:
        keys = delegates[role]
        if keys.threshold >= len(keys.keys):
            yield Finding(
                f"no-spare-key:{role}",
                "warning",
                f"{role} needs all of its {len(keys.keys)} keys: one lost key ends the repository",
                f"run `fleetward origin rotate` to give {role} more keys",
            )


def _keys(patient: Patient) -> Iterator[Finding]:
    if patient.keyring is None:
        return
    found = patient.keyring.found()
    folder = patient.keyring.folder
    plain = [each.file.name for each in found if each.file.is_plain]
    if plain:
        yield Finding(
            "plain-keys",
            "warning",
            f"{len(plain)} of {len(found)} keys under {folder} lie there unencrypted",
            "use encrypted keys outside of demos: `fleetward origin rotate` from a sealed ring",
        )
    places = {each.place for each in found}
    if OFFLINE in places and places != {OFFLINE}:
        others = ", ".join(sorted(places - {OFFLINE}))
        yield Finding(
            "keys-in-one-place",
            "warning",
            f"{folder} holds offline keys beside {others}: who takes this machine has everything",
            f"move {folder / OFFLINE} to media that are kept apart, one key to a person",
        )
    elif ONLINE in places and places != {ONLINE}:
        yield Finding(
            "keys-in-one-place",
            "warning",
            f"{folder} holds online and product keys: who takes this machine can publish",
            "keep products' keys on the build host and online keys on the steward's",
        )


def _pending(patient: Patient) -> Iterator[Finding]:
    repository = patient.repository
    try:
        names = repository.disk.listing(repository.folder / PENDING)
    except FileNotFoundError:
        return
    waiting = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    if waiting:
        yield Finding(
            "pending",
            "warning",
            f"metadata waits for signatures or for the steward: {', '.join(waiting)}",
            f"run `fleetward origin sign {repository.folder} --keys DIR` where keys are, or "
            "remove what is not wanted from the folder `pending`",
        )


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    _expiry,
    _clock,
    _too_long,
    _files,
    _channels,
    _spare_keys,
    _keys,
    _pending,
)
