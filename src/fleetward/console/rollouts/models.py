"""What was counted of the rollouts.

Invariants: everything here can be counted anew from the catalogue's and the fleet's rows. `Member`
changes only where a host's wave or standing does, so that a quiet fleet writes nothing.
"""

from django.db import models

from fleetward.console.catalogue.models import Channel
from fleetward.console.fleet.models import Host
from fleetward.console.organisation.models import Site

_WORD = 10
"""Characters of a standing."""


class Counted(models.Model):
    """When a channel's hosts were last counted, and what the channel said then.

    Attributes:
        at: when the count began.
        seconds: how long it took.
        release: what the channel pointed at.
        state: of the rollout.
        open: how many waves were open.
    """

    channel = models.OneToOneField(
        Channel, primary_key=True, on_delete=models.CASCADE, related_name="counted"
    )
    at = models.DateTimeField()
    seconds = models.FloatField()
    release = models.CharField(max_length=64)
    state = models.CharField(max_length=16)
    open = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.channel_id} at {self.at}"


class Member(models.Model):
    """A host that follows a channel.

    Attributes:
        wave: the first that holds it, from 0; None where none does.
        standing: a `deciding.Standing`.
    """

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="members")
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="rollouts")
    wave = models.BigIntegerField(null=True)
    standing = models.CharField(max_length=_WORD)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["channel", "host"], name="one_membership_each")
        ]
        indexes = [
            models.Index(fields=["channel", "standing", "id"], name="member_by_standing"),
            models.Index(fields=["channel", "wave", "standing", "id"], name="member_by_wave"),
        ]

    def __str__(self) -> str:
        return f"{self.host_id} {self.standing}"


class Tally(models.Model):
    """The hosts of a site in one wave of a channel that stand alike; `wave` as in `Member`."""

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="tallies")
    site = models.ForeignKey(Site, null=True, on_delete=models.CASCADE, related_name="+")
    wave = models.BigIntegerField(null=True)
    standing = models.CharField(max_length=_WORD)
    hosts = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["channel", "site"], name="rollout_tally_by_site")]

    def __str__(self) -> str:
        return f"{self.hosts} {self.standing} in wave {self.wave}"
