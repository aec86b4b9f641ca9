"""The catalogue's rows.

Invariants:

- Rows of products, releases, channels and roles hold only what was verified (`following`); a
  refresh that fails changes `Repository` alone.
- A release is immutable; only `listed`, `revoked` and `reason` follow the repository.
- `Move` is written once and never changed: which release a channel pointed at, and since when.
"""

from enum import StrEnum

from django.db import models

_ID = 64
"""Characters of a digest in hex."""

_NAME = 64
"""Characters of a name of a product, channel or release (core.names)."""


class Kind(StrEnum):
    """By whom a problem must be solved (errors)."""

    NONE = ""
    TRUST = "trust"
    NETWORK = "network"
    DISK = "disk"
    CONFIGURATION = "configuration"


class MoveKind(StrEnum):
    """What changed in a channel's document."""

    FIRST = "first"
    RELEASE = "release"
    STATE = "state"
    WAVES = "waves"


class Stage(StrEnum):
    """How far a comparison is."""

    QUEUED = "queued"
    COMPUTING = "computing"
    DONE = "done"
    FAILED = "failed"


def _choices(words: type[StrEnum]) -> list[tuple[str, str]]:
    return [(word.value, word.value) for word in words]


class Repository(models.Model):
    """The one repository that this console follows; the row's key is 1.

    Attributes:
        url: where it is.
        checked: when it was last asked.
        refreshed: when an answer was last verified.
        root: version of the root that is trusted.
        timestamp: version of the newest timestamp that was verified.
        issued: when that was signed.
        interval: seconds after which it ought to be renewed.
        frozen: whether it is overdue by more than three intervals.
        clock_ahead: seconds that this machine's clock is ahead of it, where that is more than a day.
        problem_kind: why the last attempt failed, or what it could not take up; empty: nothing.
        problem: the same as a sentence.
        problem_since: when that began.
        leader: the process that follows; the others watch the row.
        lease: until when it does.
    """

    url = models.CharField(max_length=2_000, blank=True)
    checked = models.DateTimeField(null=True)
    refreshed = models.DateTimeField(null=True)
    root = models.BigIntegerField(default=0)
    timestamp = models.BigIntegerField(default=0)
    issued = models.DateTimeField(null=True)
    interval = models.BigIntegerField(default=0)
    frozen = models.BooleanField(default=False)
    clock_ahead = models.BigIntegerField(null=True)
    problem_kind = models.CharField(max_length=16, blank=True, choices=_choices(Kind))
    problem = models.TextField(blank=True)
    problem_since = models.DateTimeField(null=True)
    leader = models.CharField(max_length=32, blank=True)
    lease = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.url


class Product(models.Model):
    """What is distributed.

    Attributes:
        name: its name.
        floor: the least sequence number that a host may take from the network.
        ramp: the fastest ramp, as `[{"age": seconds, "percent": share}, …]`.
        when_nothing_is_allowed: `keep` or `none` (core.documents.Policy).
        listed: whether the repository still delegates it.
        problem: why its documents could not be read at the last attempt; empty: they could.
        seen: when it was first seen.
    """

    name = models.CharField(max_length=_NAME, unique=True)
    floor = models.BigIntegerField(default=0)
    ramp = models.JSONField(default=list)
    when_nothing_is_allowed = models.CharField(max_length=8, default="keep")
    listed = models.BooleanField(default=True)
    problem = models.TextField(blank=True)
    seen = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Release(models.Model):
    """One immutable, signed release (core.documents.Manifest).

    Attributes:
        manifest: the digest of its manifest.
        created: when the origin made it; ramps count from here.
        tree: the digest of its canonical tar; `tree_length` in bytes, `files` in number.
        pack: the digest of the whole release as one blob; `pack_length` in bytes.
        urgent: whether it passes the ramp.
        listed: whether the repository still names it.
        revoked: whether no host may run it again; `reason` says why.
        seen: when this console first saw it.
    """

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="releases")
    name = models.CharField(max_length=_NAME)
    seq = models.BigIntegerField()
    created = models.DateTimeField()
    manifest = models.CharField(max_length=_ID)
    engine = models.CharField(max_length=200)
    engine_min = models.CharField(max_length=200, blank=True)
    engine_max = models.CharField(max_length=200, blank=True)
    tree = models.CharField(max_length=_ID)
    tree_length = models.BigIntegerField()
    files = models.BigIntegerField()
    codec = models.CharField(max_length=32)
    pack = models.CharField(max_length=_ID)
    pack_length = models.BigIntegerField()
    urgent = models.BooleanField(default=False)
    listed = models.BooleanField(default=True)
    revoked = models.BooleanField(default=False)
    reason = models.TextField(blank=True)
    seen = models.DateTimeField()

    class Meta:
        ordering = ["-seq"]
        constraints = [
            models.UniqueConstraint(fields=["product", "name"], name="one_release_each"),
        ]
        indexes = [models.Index(fields=["product", "-seq"], name="release_by_seq")]

    def __str__(self) -> str:
        return f"{self.product_id} {self.name}"


class Delta(models.Model):
    """What turns another release into one (core.documents.Delta).

    Attributes:
        base: the name of the release that it starts from.
        base_tree: the digest of that release's tar.
        encoder: the gzip encoder that was proven; empty: none is needed.
        memory: bytes that applying takes.
        length: of the blob, in bytes.
    """

    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="deltas")
    base = models.CharField(max_length=_NAME)
    base_tree = models.CharField(max_length=_ID)
    codec = models.CharField(max_length=32)
    encoder = models.CharField(max_length=200, blank=True)
    memory = models.BigIntegerField()
    sha256 = models.CharField(max_length=_ID)
    length = models.BigIntegerField()

    class Meta:
        ordering = ["length", "id"]

    def __str__(self) -> str:
        return f"{self.codec} from {self.base}"


class Channel(models.Model):
    """A moving, signed pointer (core.documents.Channel).

    Attributes:
        release: what it points at; None where the release keys do not vouch for that.
        previous: what hosts outside the open waves run.
        points_at: the name that the document says, vouched for or not.
        plan: `now` or `waves`.
        state: of the rollout.
        waves: in their order, `[{"rings": […], "percent": share}, …]`.
        open: how many of them are open.
        salt: what a host's place is computed with, in UTF-8: exact, whatever is in it; None until
            it was read.
        since: when `release` was first seen there.
        listed: whether the repository still has it.
    """

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="channels")
    name = models.CharField(max_length=_NAME)
    release = models.ForeignKey(
        Release, null=True, on_delete=models.SET_NULL, related_name="current"
    )
    previous = models.ForeignKey(
        Release, null=True, on_delete=models.SET_NULL, related_name="before"
    )
    points_at = models.CharField(max_length=_NAME)
    plan = models.CharField(max_length=8)
    state = models.CharField(max_length=16)
    waves = models.JSONField(default=list)
    open = models.BigIntegerField(default=0)
    salt = models.BinaryField(null=True)
    since = models.DateTimeField()
    listed = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["product", "name"], name="one_channel_each")]

    def __str__(self) -> str:
        return self.name


class Move(models.Model):
    """That a channel's document changed: what it said from then on.

    Attributes:
        at: when this console verified it.
        issued: when the timestamp that carried it was signed.
        timestamp: that timestamp's version.
        kind: what changed most: the release before the state before the waves.
        release: by name; rows of releases may go, history stays.
    """

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="moves")
    at = models.DateTimeField()
    issued = models.DateTimeField()
    timestamp = models.BigIntegerField()
    kind = models.CharField(max_length=8, choices=_choices(MoveKind))
    release = models.CharField(max_length=_NAME)
    seq = models.BigIntegerField()
    previous = models.CharField(max_length=_NAME, blank=True)
    state = models.CharField(max_length=16)
    open = models.BigIntegerField(default=0)
    waves = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["channel", "-id"], name="move_by_channel")]

    def __str__(self) -> str:
        return f"{self.kind} to {self.release}"


class Role(models.Model):
    """A role of the repository, and when it must be renewed.

    Attributes:
        role: its name.
        version: of its metadata.
        expires: when that expires; None where it could not be read.
        keyids: the ids of the keys that may sign it.
        threshold: how many of them must.
        place: its place in a list, top-level roles first.
        changed: when the version was first seen.
    """

    role = models.CharField(max_length=100, unique=True)
    version = models.BigIntegerField()
    expires = models.DateTimeField(null=True)
    keyids = models.JSONField(default=list)
    threshold = models.BigIntegerField()
    place = models.BigIntegerField()
    changed = models.DateTimeField()

    class Meta:
        ordering = ["place"]

    def __str__(self) -> str:
        return self.role


class Comparison(models.Model):
    """What changed from one release to another; computed once, since releases are immutable.

    Attributes:
        old: the release before.
        new: the release after.
        stage: how far it is.
        reader: `comparing.READER`; a result of an older reader is computed anew.
        result: `rules.changes.Changes` as JSON; None until done.
        reason: why it failed; empty else.
        asked: when somebody first asked for it.
        begun: when it was taken up.
        ended: when it was done or failed.
    """

    old = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="compared_from")
    new = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="compared_to")
    stage = models.CharField(max_length=9, choices=_choices(Stage))
    reader = models.BigIntegerField()
    result = models.JSONField(null=True)
    reason = models.TextField(blank=True)
    asked = models.DateTimeField()
    begun = models.DateTimeField(null=True)
    ended = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["old", "new"], name="one_comparison_each")]
        indexes = [models.Index(fields=["stage", "id"], name="comparison_by_stage")]

    def __str__(self) -> str:
        return f"{self.old_id} to {self.new_id}"
