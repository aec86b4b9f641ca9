"""Rows of listeners: one for each that a host told of, and the fleet counted.

Invariants: a listener is there once for each key (`one_listener_once`); rows of a key that a host
no longer reports with go (`counting`); what is closed stays for `counting.KEPT`, since an event
that comes late must find it.
"""

from django.db import models

from fleetward.console.fleet.models import Host, HostKey
from fleetward.console.organisation.models import Site


class Listener(models.Model):
    """A listener of a host by its identity, or a mark (`deciding.SUPERSEDED`, `deciding.LISTED`).

    Attributes:
        protocol: tcp or udp; empty for a list.
        port: the port; 0 for a list.
        reach: who can reach it (`core.listeners.Reach`).
        sha256: the first 32 digits of the executable's digest; empty for unknown.
        unit: systemd unit, or which mark this is.
        container: where it is in another network namespace, its first 40 characters.
        name: of the program; what it calls itself.
        path: of the executable or script, as far as it was told.
        verdict: what the host thinks of it.
        reasons: ids, with commas between.
        is_open: whether it listens, as far as is known.
        first_seen: the time of the earliest event about it, by the host's clock.
        at: the time of the newest event about it, by the host's clock.
        epoch: of that event; `e` its number there.
        stored: when this row was last written, by the console's clock.
    """

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="listeners")
    key = models.ForeignKey(HostKey, on_delete=models.CASCADE, related_name="listeners")
    protocol = models.CharField(max_length=3)
    port = models.IntegerField()
    reach = models.CharField(max_length=16)
    sha256 = models.CharField(max_length=32, blank=True)
    unit = models.CharField(max_length=64, blank=True)
    container = models.CharField(max_length=64, blank=True)
    name = models.CharField(max_length=200, blank=True)
    path = models.CharField(max_length=200, blank=True)
    verdict = models.CharField(max_length=10)
    reasons = models.CharField(max_length=200, blank=True)
    is_open = models.BooleanField()
    first_seen = models.DateTimeField()
    at = models.DateTimeField()
    epoch = models.CharField(max_length=16)
    e = models.BigIntegerField()
    stored = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["key", "port", "protocol", "reach", "sha256", "unit", "container"],
                name="one_listener_once",
            )
        ]
        indexes = [
            models.Index(fields=["host", "is_open"], name="listener_by_host"),
            models.Index(
                fields=["verdict", "port", "protocol", "sha256", "host"],
                condition=models.Q(is_open=True),
                name="listener_open",
            ),
            models.Index(fields=["stored"], name="listener_by_stored"),
        ]

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port} {self.name}".strip()

    @property
    def reason_ids(self) -> list[str]:
        """The ids of its reasons."""
        return [reason for reason in self.reasons.split(",") if reason]


class Group(models.Model):
    """Alike listeners of a site's active hosts, as last counted; one that nobody has is kept a while.

    Attributes:
        site: where; empty for hosts without a site.
        name: of the program on most hosts; `path` likewise.
        hosts: how many hosts have it now.
        first_seen: when any host of the site first told of it.
        counted: when a count last changed it.
    """

    site = models.ForeignKey(Site, null=True, on_delete=models.CASCADE, related_name="+")
    protocol = models.CharField(max_length=3)
    port = models.IntegerField()
    sha256 = models.CharField(max_length=32, blank=True)
    verdict = models.CharField(max_length=10)
    name = models.CharField(max_length=200, blank=True)
    path = models.CharField(max_length=200, blank=True)
    hosts = models.IntegerField()
    first_seen = models.DateTimeField()
    counted = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(
                fields=["port", "protocol", "sha256", "verdict", "site"],
                name="ports_group_by_place",
            )
        ]

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port} {self.name} {self.verdict}: {self.hosts}"


class Counted(models.Model):
    """When the groups were last counted; the row's key is 1.

    Attributes:
        at: when the count began.
        seconds: how long it took.
        stored: the newest `Listener.stored` that it knows.
    """

    at = models.DateTimeField()
    seconds = models.FloatField()
    stored = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"counted at {self.at}"
