"""Rows of relays, what they did, and whose turn background work is.

Invariants: a relay is one row per base URL, kept when nobody lists it any more, as its history is;
a sample counts what happened in its span alone, so that samples of many relays can be added.
"""

from enum import StrEnum

from django.db import models

from fleetward.console.organisation.models import Site

MINUTE = 60
HOUR = 3_600
"""Seconds of a sample's span: minutes are kept for a day, hours for 90 days."""


class Listed(StrEnum):
    """Who names a relay."""

    SIGNED = "signed"
    SETTINGS = "settings"
    NOBODY = "nobody"


class Turn(models.Model):
    """Which process does a piece of background work now; the others leave it alone.

    Attributes:
        work: its name.
        holder: a process's own name.
        until: when another one may take over.
    """

    work = models.CharField(max_length=32, primary_key=True)
    holder = models.CharField(max_length=32)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return self.work


class Relay(models.Model):
    """A relay.

    Attributes:
        url: its base URL.
        name: host and port, as hosts name it in their check-ins.
        site: the site that it serves, where the console has one of that name.
        listed: who names it.
        added: when it was first named.
        polled: when it was last asked.
        answered: when it last answered.
        problem: why it did not, or what is wrong with its answer; empty: nothing.
        problem_since: when that began.
        version: of the timestamp that it serves; 0 where that is not known.
        version_since: when that version was first seen there.
        counters: what it had counted when it last answered (`reading.Counters`).
        said: the rest of its answer (`reading.Said`).
        hosts: how many hosts it served last, as their check-ins say.
        hosts_behind: those of them whose own timestamp is overdue.
    """

    url = models.CharField(max_length=500, unique=True)
    name = models.CharField(max_length=300, db_index=True)
    site = models.ForeignKey(Site, null=True, on_delete=models.SET_NULL, related_name="relays")
    listed = models.CharField(max_length=8, choices=[(word.value, word.value) for word in Listed])
    added = models.DateTimeField()
    polled = models.DateTimeField(null=True)
    answered = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)
    problem_since = models.DateTimeField(null=True)
    version = models.BigIntegerField(default=0)
    version_since = models.DateTimeField(null=True)
    counters = models.JSONField(default=dict)
    said = models.JSONField(default=dict)
    hosts = models.BigIntegerField(default=0)
    hosts_behind = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Sample(models.Model):
    """What a relay did in one span of time.

    Attributes:
        at: the span's begin.
        span: its length in seconds.
        asked: how often it was asked; `answered` says how often it answered.
        hits: requests answered from its cache.
        misses: requests that waited for an upstream.
        upstream_bytes: what came over the WAN.
        delivered_bytes: what its clients got.
        overloaded: requests that it refused for want of room.
        spool_bytes: the most that waited in its spool.
        lag: the most versions that its timestamp stood behind the newest known.
    """

    relay = models.ForeignKey(Relay, on_delete=models.CASCADE, related_name="samples")
    at = models.DateTimeField()
    span = models.BigIntegerField()
    asked = models.BigIntegerField(default=0)
    answered = models.BigIntegerField(default=0)
    hits = models.BigIntegerField(default=0)
    misses = models.BigIntegerField(default=0)
    upstream_bytes = models.BigIntegerField(default=0)
    delivered_bytes = models.BigIntegerField(default=0)
    overloaded = models.BigIntegerField(default=0)
    spool_bytes = models.BigIntegerField(default=0)
    lag = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["relay", "span", "at"], name="one_sample_each")
        ]
        indexes = [models.Index(fields=["span", "at"], name="sample_by_time")]

    def __str__(self) -> str:
        return f"{self.relay_id} at {self.at}"
