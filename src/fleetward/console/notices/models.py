"""Where notices go, the notices, and what became of each on each way."""

from enum import IntEnum, StrEnum, auto

from django.db import models


class Level(IntEnum):
    """How bad it is; a channel takes what is at least as bad as its own."""

    NOTE = 1
    WARNING = 2
    CRITICAL = 3


class Way(StrEnum):
    """How a channel tells."""

    WEBHOOK = auto()
    EMAIL = auto()
    SYSLOG = auto()


class State(StrEnum):
    """What became of a delivery."""

    QUEUED = auto()
    SENT = auto()
    GIVEN_UP = auto()


class Channel(models.Model):
    """Where notices go.

    Attributes:
        name: how people call it.
        way: a `Way`.
        target: a webhook's URL; an e-mail address; udp://, tcp:// or tls://HOST:PORT of a syslog.
        secret: the name that a webhook's secret is derived from (`webhook.secret_of`); the secret
            itself is in no row.
        least: the least `Level` that it takes.
        is_on: whether it takes any.
    """

    name = models.CharField(max_length=64, unique=True)
    way = models.CharField(max_length=10, choices=[(way.value, way.value) for way in Way])
    target = models.CharField(max_length=500)
    secret = models.CharField(max_length=64, blank=True)
    least = models.SmallIntegerField(
        default=Level.WARNING, choices=[(level.value, level.name.lower()) for level in Level]
    )
    is_on = models.BooleanField(default=True)
    created = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Notice(models.Model):
    """Something that people are told.

    Attributes:
        key: what it is about; the damper tells one key once in a while.
        level: a `Level`.
        title: one line.
        body: more, as text.
        link: a path of the console where one sees it; may be empty.
        at: when.
        repeats: how often the damper has kept the same key back since.
    """

    key = models.CharField(max_length=200, db_index=True)
    level = models.SmallIntegerField()
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    link = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField(db_index=True)
    repeats = models.IntegerField(default=0)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.title


class Delivery(models.Model):
    """A notice on its way to a channel.

    Attributes:
        state: a `State`.
        attempts: how often it was tried.
        due: when it is tried next.
        complaint: why the last attempt failed.
    """

    notice = models.ForeignKey(Notice, on_delete=models.CASCADE, related_name="deliveries")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=10, default=State.QUEUED)
    attempts = models.IntegerField(default=0)
    due = models.DateTimeField()
    complaint = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "due"], name="due_deliveries")]

    def __str__(self) -> str:
        return f"{self.notice_id} to {self.channel_id}: {self.state}"
