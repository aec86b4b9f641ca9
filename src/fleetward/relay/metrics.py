"""`GET /metrics`: what the relay and its parts count, in Prometheus' text format 0.0.4.

Each metric is told once with its HELP and TYPE, followed by all of its samples. Names, labels and
values come from the relay itself; label values may hold anything and are escaped.

Also what `GET /v1/relay` says under `limits`: every limit in force, so that an administrator sees
what was configured and what was left at its default.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from fleetward.httpd.counters import ServerCounters
from fleetward.httpd.message import Request, Response
from fleetward.relay.counters import RelayCounters
from fleetward.relay.part import Kind, Metric, Part, Route
from fleetward.relay.settings import RelaySettings
from fleetward.relay.sources import Sources

METRICS_PATH: Final = "/metrics"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "fleetward_relay_"
_STATES: Final = ("ready", "paused", "false")
_SERVER_GAUGES: Final = frozenset({"connections", "bodies_bytes"})


def render(metrics: Iterable[Metric], prefix: str = PREFIX) -> bytes:
    """Return metrics in the text format; samples of one name stand together.

    Args:
        metrics: in any order; the first of a name gives its help and type.
        prefix: before each name.
    """
    families: dict[str, list[Metric]] = {}
    for metric in metrics:
        families.setdefault(prefix + metric.name, []).append(metric)
    lines: list[str] = []
    for name, family in families.items():
        lines.append(f"# HELP {name} {_escaped(family[0].help)}")
        lines.append(f"# TYPE {name} {family[0].kind.value}")
        lines += [f"{name}{_labels(one.labels)} {_value(one.value)}" for one in family]
    return ("\n".join(lines) + "\n").encode() if lines else b""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    quoted = (
        f'{name}="{_escaped(value).replace(chr(34), chr(92) + chr(34))}"' for name, value in labels
    )
    return "{" + ",".join(quoted) + "}"


def _value(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)


class MetricsPart:
    """Answers `/metrics`, and tells the limits; a part of the relay."""

    def __init__(
        self,
        settings: RelaySettings,
        sources: Sources,
        counters: RelayCounters,
        served: ServerCounters,
    ) -> None:
        self._limits = limits_in_force(settings)
        self._sources = sources
        self._counters = counters
        self._served = served
        self._parts: tuple[Part, ...] = ()

    def tell_of(self, parts: Iterable[Part]) -> None:
        """Also tell what these parts count (this one may be among them)."""
        self._parts = tuple(part for part in parts if part is not self)

    def routes(self) -> tuple[Route, ...]:
        """Answer `GET /metrics`."""
        return (Route(METRICS_PATH, self._answer),)

    def _answer(self, request: Request) -> Response:
        headers = (("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store"))
        return Response(200, headers, render(self.every()))

    async def run(self) -> None:
        """Do nothing."""

    def status(self) -> Mapping[str, object]:
        """Tell the limits in force."""
        return {"limits": self._limits}

    def every(self) -> Iterable[Metric]:
        """Yield the relay's own metrics, then those of its parts."""
        yield from self.metrics()
        for part in self._parts:
            yield from part.metrics()

    def metrics(self) -> Iterable[Metric]:
        """Yield what cache, server and upstreams count."""
        yield from counted(self._counters, "cache_")
        yield from counted(self._served, "server_", gauges=_SERVER_GAUGES)
        for source in self._sources:
            labels = (("upstream", source.name),)
            traffic = source.client.traffic
            yield Metric(
                "upstream_received_bytes_total",
                traffic.received_bytes,
                "Bytes of responses that the upstream sent, heads included.",
                labels=labels,
            )
            yield Metric(
                "upstream_sent_bytes_total",
                traffic.sent_bytes,
                "Bytes of requests that the upstream got.",
                labels=labels,
            )
            yield Metric(
                "upstream_requests_total",
                traffic.requests,
                "Requests that the upstream got.",
                labels=labels,
            )
        for row in self._sources.states():
            for state in _STATES:
                yield Metric(
                    "upstream_state",
                    int(row["state"] == state),
                    "1 for the state that the upstream is in: ready, paused (it failed), or false "
                    "(it sent a wrong digest).",
                    Kind.GAUGE,
                    (("upstream", row["url"]), ("state", state)),
                )


def counted(
    counters: Any,  # noqa: ANN401 (any dataclass of numbers)
    prefix: str,
    gauges: frozenset[str] = frozenset(),
) -> Iterable[Metric]:
    """Yield a dataclass of numbers as metrics; their help is its docstring's `Attributes`.

    Args:
        counters: each field is counted up, but for `gauges`.
        prefix: before each name.
        gauges: fields that go down too.
    """
    helps = _attributes(type(counters).__doc__ or "")
    for row in dataclasses.fields(counters):
        is_gauge = row.name in gauges
        yield Metric(
            prefix + row.name + ("" if is_gauge else "_total"),
            getattr(counters, row.name),
            helps.get(row.name, row.name),
            Kind.GAUGE if is_gauge else Kind.COUNTER,
        )


def _attributes(docstring: str) -> dict[str, str]:
    """Return the sentences under `Attributes:` by name."""
    found: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Attributes:")[2].splitlines():
        indent = len(line) - len(line.lstrip())
        if indent == 8 and ": " in line:
            name, _, text = line.strip().partition(": ")
            found[name] = text
        elif line.strip() and name:
            found[name] += " " + line.strip()
    return {name: text[:1].upper() + text[1:] for name, text in found.items()}


def limits_in_force(settings: RelaySettings) -> dict[str, object]:
    """Return every limit as JSON values: sizes in bytes, durations in seconds.

    Args:
        settings: of the relay; what names files, hosts and secrets is left out.
    """
    return {
        "storage": _plain(settings.storage),
        "bandwidth": _plain(settings.bandwidth),
        "clients": _plain(settings.clients),
        "cache": _plain(settings.limits),
        "server": _plain(settings.server_limits),
        "upstream": _plain(settings.client_limits),
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 (any dataclass)
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
