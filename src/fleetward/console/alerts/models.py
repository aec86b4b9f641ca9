"""Rows of alerts and of their lives.

Invariants: of one kind and subject at most one alert is open; a step is written once and never
changed; an alert is removed only by age, once it is resolved.
"""

from django.db import models

from fleetward.console.alerts.kinds import STEP, TITLE, Kind, Severity
from fleetward.console.organisation.models import Site


class Alert(models.Model):
    """Something that is or was wrong.

    Attributes:
        kind: what (`kinds.Kind`).
        subject: with what.
        site: where; empty for what concerns the whole organisation.
        severity: how bad (`kinds.Severity`).
        title: one line.
        detail: more.
        link: a path of the console where one sees more.
        hosts: how many hosts it concerns; `most_hosts` at its worst.
        is_open: or resolved.
        opened: when it was first seen.
        last_seen: when its fact was last there.
        away: since when it is not, while the alert settles.
        resolved: when it was.
        returns: how often it came back after it was resolved.
        acknowledged: when somebody took it on; `acknowledged_by` says who, `note` what they said.
        told: when people were last told, of `told_hosts` hosts.
    """

    kind = models.CharField(max_length=32, choices=[(kind.value, TITLE[kind]) for kind in Kind])
    subject = models.CharField(max_length=200)
    site = models.ForeignKey(Site, null=True, on_delete=models.CASCADE, related_name="alerts")
    severity = models.SmallIntegerField()
    title = models.CharField(max_length=300)
    detail = models.TextField(blank=True)
    link = models.CharField(max_length=300, blank=True)
    hosts = models.BigIntegerField(default=0)
    most_hosts = models.BigIntegerField(default=0)
    is_open = models.BooleanField(default=True)
    opened = models.DateTimeField()
    last_seen = models.DateTimeField()
    away = models.DateTimeField(null=True)
    resolved = models.DateTimeField(null=True)
    returns = models.BigIntegerField(default=0)
    acknowledged = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=200, blank=True)
    note = models.CharField(max_length=300, blank=True)
    told = models.DateTimeField(null=True)
    told_hosts = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["-severity", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"],
                condition=models.Q(is_open=True),
                name="one_open_alert_each",
            )
        ]
        indexes = [
            models.Index(fields=["is_open", "-severity", "-id"], name="alert_by_severity"),
            models.Index(fields=["kind", "subject", "-id"], name="alert_by_subject"),
            models.Index(fields=["resolved"], name="alert_by_resolved"),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def step(self) -> str:
        """What to do next."""
        return STEP[Kind(self.kind)]

    @property
    def severity_word(self) -> str:
        """How bad, for people."""
        return Severity(self.severity).name.lower()

    @property
    def tone(self) -> str:
        """The class of its badge."""
        return {Severity.CRITICAL: "bad", Severity.WARNING: "warn"}.get(Severity(self.severity), "")


class Step(models.Model):
    """Something in the life of an alert.

    Attributes:
        what: opened, grew, reopened, acknowledged, handed back, resolved, told.
        by: who; empty for the console.
        words: more.
    """

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="steps")
    at = models.DateTimeField()
    what = models.CharField(max_length=16)
    by = models.CharField(max_length=200, blank=True)
    words = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.what} {self.alert_id}"
