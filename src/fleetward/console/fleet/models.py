"""The fleet's rows.

Invariants:

- A host record outlives its keys: a reinstalled host comes with a new key to its old record, whose
  public id decides in which wave it is.
- `Presence` is the newest of each key and is written with every check-in; `CheckIn` keeps the ones
  that are worth keeping, for days; `Transition` keeps what products a host ran, for years.
- An event is there once per content: (key, epoch, e, digest) is unique.
- No secret is kept here: the secret of an enrolment token is derived (fleet.tokens).
"""

from enum import StrEnum

from django.db import models

from fleetward.console.fleet.standings import DirectiveState, HostStanding, KeyStanding
from fleetward.console.organisation.models import Site, User
from fleetward.core.inbox import DirectiveKind

_ID = 64
"""Characters of a digest in hex."""


def _choices(words: type[StrEnum]) -> list[tuple[str, str]]:
    return [(word.value, word.value) for word in words]


class Tag(models.Model):
    """A word by which people group hosts."""

    name = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Host(models.Model):
    """A host record.

    Attributes:
        record: its public id, 16 hex digits; waves go by it.
        name: what the host called itself when it was enrolled; people may change it.
        standing: whether its check-ins are taken.
        site: where it belongs.
        tags: words of people.
        os: name and version of its system.
        agent: version of its agent.
        key: the key that it reports with now.
        created: when it became known.
        standing_since: when `standing` changed last.
        clone_sign: why it looks like two hosts; empty for nearly all.
        cloned: when it last did.
    """

    record = models.CharField(max_length=16, unique=True)
    name = models.CharField(max_length=200)
    standing = models.CharField(max_length=8, choices=_choices(HostStanding))
    site = models.ForeignKey(Site, null=True, blank=True, on_delete=models.SET_NULL)
    tags = models.ManyToManyField(Tag, blank=True, related_name="hosts")
    os = models.CharField(max_length=200, blank=True)
    agent = models.CharField(max_length=200, blank=True)
    key = models.OneToOneField(
        "HostKey", null=True, blank=True, on_delete=models.SET_NULL, related_name="reports_for"
    )
    created = models.DateTimeField()
    standing_since = models.DateTimeField()
    clone_sign = models.CharField(max_length=200, blank=True)
    cloned = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name", "id"]
        indexes = [
            models.Index(fields=["name", "id"], name="host_by_name"),
            models.Index(fields=["standing", "name", "id"], name="host_by_standing"),
            models.Index(fields=["site", "name", "id"], name="host_by_site"),
            models.Index(
                fields=["cloned"], name="host_cloned", condition=models.Q(cloned__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.name


class EnrolmentToken(models.Model):
    """A token that hosts are enrolled with; its secret is derived from `token`.

    Attributes:
        token: its public name, 16 hex digits.
        note: what it is for.
        site: where its hosts belong.
        tags: what its hosts are tagged with.
        host: the one record that it is for (a reinstalled host), or None.
        uses: how many keys may be enrolled with it.
        used: how many were.
        needs_approval: whether a person decides about each host.
        expires: when it stops working.
        revoked: when somebody ended it.
        created_by: the name of who made it.
    """

    token = models.CharField(max_length=16, unique=True)
    note = models.CharField(max_length=200, blank=True)
    site = models.ForeignKey(Site, null=True, blank=True, on_delete=models.SET_NULL)
    tags = models.ManyToManyField(Tag, blank=True)
    host = models.ForeignKey(Host, null=True, blank=True, on_delete=models.CASCADE)
    uses = models.PositiveIntegerField(default=1)
    used = models.PositiveIntegerField(default=0)
    needs_approval = models.BooleanField(default=False)
    created = models.DateTimeField()
    created_by = models.CharField(max_length=200)
    expires = models.DateTimeField()
    revoked = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.note or self.token


class HostKey(models.Model):
    """A key that a host reports with, or did.

    Attributes:
        key: its id, the sha256 of the public key: what relays and envelopes name.
        public: 32 bytes.
        host: the record that it belongs to.
        standing: whether its check-ins are taken; a replaced key's events still are.
        token: what it was enrolled with.
        enrolled: when it was first asked for.
        peer: from which address, as the first relay or the console saw it.
    """

    key = models.CharField(max_length=_ID, unique=True)
    public = models.BinaryField(max_length=32)
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="keys")
    standing = models.CharField(max_length=8, choices=_choices(KeyStanding))
    token = models.ForeignKey(EnrolmentToken, null=True, on_delete=models.SET_NULL)
    enrolled = models.DateTimeField()
    peer = models.CharField(max_length=45, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.key[:16]


class Presence(models.Model):
    """The newest of a key: what was seen last, and its current epoch (core.checkins.Epoch, Clock).

    Attributes:
        seen: when the host was certainly alive.
        received: when the newest check-in was received, by the relay's clock.
        newest_sent: the same check-in's time by the host's clock.
        offset_ms: how far the host's clock stands behind; `measured` says when that was seen.
        peer: from which address it came to the relay, or to the console.
        relay: which relay or source served the host last, as it says.
        clock: seconds by which the host says its clock stands ahead of signed time; None unknown.
        content: digest of what it runs (products, ports, root), to see whether that changed.
        kept: when a check-in was last kept whole.
        inbox_seq: the number of the newest inbox (milliseconds since 1970, so that it rises even
            over a restored backup).
    """

    key = models.OneToOneField(
        HostKey, primary_key=True, on_delete=models.CASCADE, related_name="presence"
    )
    epoch = models.CharField(max_length=16)
    greatest_n = models.BigIntegerField()
    digest = models.CharField(max_length=_ID)
    first_sent = models.DateTimeField()
    newest_sent = models.DateTimeField()
    contiguous_e = models.BigIntegerField(default=0)
    greatest_e = models.BigIntegerField(default=0)
    seen = models.DateTimeField()
    received = models.DateTimeField()
    offset_ms = models.BigIntegerField()
    measured = models.DateTimeField()
    peer = models.CharField(max_length=45, blank=True)
    relay = models.CharField(max_length=200, blank=True)
    clock = models.BigIntegerField(null=True)
    tuf_root = models.BigIntegerField(default=0)
    tuf_timestamp = models.BigIntegerField(default=0)
    tuf_snapshot = models.BigIntegerField(default=0)
    listeners = models.BigIntegerField(null=True)
    unexpected = models.BigIntegerField(null=True)
    ports = models.CharField(max_length=_ID, blank=True)
    content = models.CharField(max_length=_ID)
    kept = models.DateTimeField(null=True)
    inbox_seq = models.BigIntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["unexpected"], name="presence_unexpected")]

    def __str__(self) -> str:
        return f"presence of {self.key_id}"


class RetiredEpoch(models.Model):
    """An epoch of a key that is not its current one (core.checkins.Epoch)."""

    key = models.ForeignKey(HostKey, on_delete=models.CASCADE, related_name="retired_epochs")
    epoch = models.CharField(max_length=16)
    greatest_n = models.BigIntegerField()
    digest = models.CharField(max_length=_ID)
    first_sent = models.DateTimeField()
    newest_sent = models.DateTimeField()
    contiguous_e = models.BigIntegerField(default=0)
    greatest_e = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "epoch"], name="one_epoch_once")]

    def __str__(self) -> str:
        return f"epoch {self.epoch} of {self.key_id}"


class CheckIn(models.Model):
    """A check-in that is worth keeping for days: with a change or an event, odd, or now and then.

    Attributes:
        standing: a `core.checkins.Standing`.
        content: what the host said: the opened JSON.
        envelope: what it signed; kept where something changed or happened.
    """

    key = models.ForeignKey(HostKey, on_delete=models.CASCADE, related_name="check_ins")
    epoch = models.CharField(max_length=16)
    n = models.BigIntegerField()
    sent = models.DateTimeField()
    received = models.DateTimeField(db_index=True)
    peer = models.CharField(max_length=45, blank=True)
    standing = models.CharField(max_length=10)
    content = models.BinaryField()
    envelope = models.BinaryField(null=True)

    class Meta:
        indexes = [models.Index(fields=["key", "-id"], name="check_in_by_key")]

    def __str__(self) -> str:
        return f"check-in {self.n} of {self.key_id}"


class Event(models.Model):
    """What happened on a host; fields as `core.status.HostEvent`.

    Attributes:
        digest: of its canonical bytes without its number: one number with two contents is two rows.
        received: when this console stored it.
    """

    key = models.ForeignKey(HostKey, on_delete=models.CASCADE, related_name="events")
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="events")
    epoch = models.CharField(max_length=16)
    e = models.BigIntegerField()
    digest = models.CharField(max_length=_ID)
    at = models.DateTimeField()
    received = models.DateTimeField()
    kind = models.CharField(max_length=20)
    product = models.CharField(max_length=64, blank=True)
    release = models.CharField(max_length=64, blank=True)
    subject = models.CharField(max_length=200, blank=True)
    detail = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key", "epoch", "e", "digest"], name="one_event_once")
        ]
        indexes = [
            models.Index(fields=["host", "-id"], name="event_by_host"),
            models.Index(fields=["kind", "-id"], name="event_by_kind"),
            models.Index(fields=["received"], name="event_by_received"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.e} of {self.host_id}"


class ProductState(models.Model):
    """What a host runs of a product now, fields as `core.status.ProductStatus`; `since` when."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="products")
    product = models.CharField(max_length=64)
    channel = models.CharField(max_length=64)
    release = models.CharField(max_length=64, blank=True)
    seq = models.BigIntegerField(default=0)
    state = models.CharField(max_length=12)
    tree = models.CharField(max_length=_ID, blank=True)
    wave = models.BigIntegerField(null=True)
    since = models.DateTimeField()

    class Meta:
        ordering = ["product"]
        constraints = [models.UniqueConstraint(fields=["host", "product"], name="one_state_each")]
        indexes = [
            models.Index(fields=["product", "release", "host"], name="state_by_release"),
            models.Index(fields=["state", "product", "host"], name="state_by_state"),
            models.Index(fields=["product", "channel", "release", "host"], name="state_by_channel"),
        ]

    def __str__(self) -> str:
        return f"{self.product} {self.release} on {self.host_id}"


class Transition(models.Model):
    """That a host changed what it runs of a product; kept for years.

    Attributes:
        at: when the host said so, by the receiver's clock.
        product: which.
        release_before: empty where there was none.
        release: empty where there is none now.
        state_before: of the installation.
        state: of the installation.
    """

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="transitions")
    at = models.DateTimeField()
    product = models.CharField(max_length=64)
    release_before = models.CharField(max_length=64, blank=True)
    release = models.CharField(max_length=64, blank=True)
    seq = models.BigIntegerField(default=0)
    state_before = models.CharField(max_length=12, blank=True)
    state = models.CharField(max_length=12)

    class Meta:
        indexes = [
            models.Index(fields=["host", "-id"], name="transition_by_host"),
            models.Index(fields=["product", "release", "at"], name="transition_by_release"),
            models.Index(fields=["at"], name="transition_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.product} {self.release} {self.state} on {self.host_id}"


class BulkDirective(models.Model):
    """One act of a person that asks many hosts for the same.

    Attributes:
        nonce: its public id, 32 hex digits; drawn with the page that asks for confirmation, so that
            pressing twice asks once.
        until: the end of a pause.
        query: the filter that chose the hosts, as the Hosts page's URL has it; empty for all.
        most: how many hosts the person agreed to.
        asked: how many were asked so far.
        passed_over: hosts that fitted and are not active.
        reached: primary key of the last host that was asked: where an act that was cut off goes on.
        is_complete: whether all have been asked.
    """

    nonce = models.CharField(max_length=32, unique=True)
    kind = models.CharField(max_length=16, choices=_choices(DirectiveKind))
    product = models.CharField(max_length=64, blank=True)
    until = models.DateTimeField(null=True)
    query = models.CharField(max_length=2000, blank=True)
    most = models.PositiveIntegerField()
    asked = models.PositiveIntegerField(default=0)
    passed_over = models.PositiveIntegerField(default=0)
    reached = models.BigIntegerField(default=0)
    is_complete = models.BooleanField(default=False)
    created = models.DateTimeField()
    created_by = models.CharField(max_length=200)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} for {self.asked} hosts"


class SavedView(models.Model):
    """Filters of the Hosts page under a name.

    Attributes:
        owner: who saved it.
        name: what people call it; one of a kind for its owner.
        query: the filters, as the page's URL has them.
        is_shared: whether everybody sees it. It shows nobody a host that he may not see.
    """

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=64)
    query = models.CharField(max_length=2000)
    is_shared = models.BooleanField(default=False)
    created = models.DateTimeField()

    class Meta:
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="one_view_a_name")]

    def __str__(self) -> str:
        return self.name


class Directive(models.Model):
    """Something that a host is asked to do, once (core.inbox.Directive).

    Attributes:
        bulk: the act that it is a part of, or None.
        directive: its id, 16 hex digits; the event that answers names it.
        until: the end of a pause.
        expires: when it leaves the inbox undone.
        answered: when the host's answer was stored.
        answer: the host's words.
    """

    directive = models.CharField(max_length=32, unique=True)
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="directives")
    bulk = models.ForeignKey(
        BulkDirective,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="directives",
        db_index=False,
    )
    kind = models.CharField(max_length=16, choices=_choices(DirectiveKind))
    product = models.CharField(max_length=64, blank=True)
    until = models.DateTimeField(null=True)
    state = models.CharField(max_length=9, choices=_choices(DirectiveState))
    created = models.DateTimeField()
    created_by = models.CharField(max_length=200)
    expires = models.DateTimeField()
    answered = models.DateTimeField(null=True)
    answer = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["host", "-id"], name="directive_by_host"),
            models.Index(fields=["state", "expires"], name="directive_by_state"),
            models.Index(fields=["bulk", "state"], name="directive_by_bulk"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.host_id}"
