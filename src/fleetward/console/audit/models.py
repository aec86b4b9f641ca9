"""One row of the audit log.

Invariants: `seq` counts from 1 without a gap; `digest` covers every other column and `previous`,
which is the digest of the row before. The database itself refuses UPDATE and DELETE (migration
0002), for everybody who goes through it; who edits the file breaks the chain.

Deliberately not here: proof against cutting off the newest rows, which no chain gives by itself.
Keep what `fleetward console audit verify` prints elsewhere and give it back with `--head`.
"""

from django.db import models

FIRST_PREVIOUS = "0" * 64
"""What the first row names as the digest before it."""


class Entry(models.Model):
    """What somebody did.

    Attributes:
        seq: 1, 2, 3…
        at: when, by the console's clock.
        actor_kind: user, token, host or system.
        actor: its name.
        address: where the request came from; empty for the command line.
        action: as in `permissions.ACTIONS`, or session.begin and the like.
        subject: what was acted on, as kind:name.
        before: canonical JSON of what changed, as it was; empty for something new.
        after: the same, as it is now; empty for something removed.
        previous: digest of the row before.
        digest: sha256 of all this, in hex (audit.chain).
    """

    seq = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField(db_index=True)
    actor_kind = models.CharField(max_length=10)
    actor = models.CharField(max_length=200, db_index=True)
    address = models.CharField(max_length=64, blank=True)
    action = models.CharField(max_length=64, db_index=True)
    subject = models.CharField(max_length=300, db_index=True)
    before = models.TextField(blank=True)
    after = models.TextField(blank=True)
    previous = models.CharField(max_length=64)
    digest = models.CharField(max_length=64)

    class Meta:
        ordering = ["-seq"]

    def __str__(self) -> str:
        return f"{self.seq} {self.actor} {self.action} {self.subject}"
