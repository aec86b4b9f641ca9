"""How people see the demo: a live table on a terminal, lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fleetward.demo.acts import Claim, Login, Step
from fleetward.demo.stage import HostRun

_COLOURS = {
    "installed": "green",
    "current": "green",
    "failed": "red",
    "trial": "yellow",
    "waiting": "yellow",
}
_ROWS = 16
"""Hosts that are shown one by one; of more, only how many did what."""


def step_line(step: Step) -> str:
    """Return a step as one line."""
    share = step.traffic.wan_blobs / step.pack_bytes if step.pack_bytes else 0
    return (
        f"{step.release}: {step.hosts} hosts by {step.means}, "
        f"WAN {step.traffic.wan:,} bytes ({step.traffic.wan_blobs:,} of blobs, {share:.1%} of the "
        f"pack), delivered {step.traffic.delivered:,}, last host after "
        f"{step.last_host.total_seconds():.2f} s"
    )


def claim_line(claim: Claim) -> str:
    """Return a claim as one line."""
    return f"{'holds' if claim.holds else 'DOES NOT HOLD'}  {claim.id}: {claim.evidence}"


def login_line(login: Login) -> str:
    """Return how people open the console, as one line."""
    return f"console: {login.url}   name: {login.name}   password: {login.password}"


class Lines:
    """An audience that prints lines, for logs and pipes."""

    def __init__(self, console: Console, *, is_for_people: bool = True) -> None:
        """Print to `console`; the console's password only where it `is_for_people`."""
        self._console = console
        self._is_for_people = is_for_people

    def opened(self, login: Login) -> None:
        """Print how to open the console."""
        self._print(f"   {login_line(login) if self._is_for_people else f'console: {login.url}'}")

    def act(self, title: str) -> None:
        """Print the act's title."""
        self._print(f"== {title}")

    def host(self, run: HostRun) -> None:
        """Print what went wrong on a host."""
        for product in run.report.products:
            if product.error:
                self._print(f"   {run.name}: {product.outcome.value}: {product.reason}")

    def step(self, step: Step) -> None:
        """Print a release's figures."""
        self._print(f"   {step_line(step)}")

    def claim(self, claim: Claim) -> None:
        """Print a verdict."""
        self._print(f"   {claim_line(claim)}")

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)


@dataclass(slots=True)
class Screen:
    """An audience that draws: hosts, releases and claims, as they change."""

    console: Console
    _title: str = ""
    _hosts: dict[str, HostRun] = field(default_factory=dict)
    _steps: list[Step] = field(default_factory=list)
    _claims: list[Claim] = field(default_factory=list)
    _login: str = ""
    _live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator["Screen"]:
        """Draw while the context lasts; the last picture stays."""
        with Live(console=self.console, refresh_per_second=8, get_renderable=self.picture) as live:
            self._live = live
            yield self

    def act(self, title: str) -> None:
        """Show the act's title."""
        self._title = title

    def host(self, run: HostRun) -> None:
        """Show a host's state."""
        self._hosts[run.name] = run

    def opened(self, login: Login) -> None:
        """Show how to open the console."""
        self._login = login_line(login)

    def step(self, step: Step) -> None:
        """Show a release's figures."""
        self._steps.append(step)

    def claim(self, claim: Claim) -> None:
        """Show a verdict."""
        self._claims.append(claim)

    def picture(self) -> RenderableType:
        """Return everything as it stands."""
        parts: list[RenderableType] = [Panel(Text(self._title, style="bold"), expand=True)]
        if self._login:
            parts.append(Text(self._login, "bold cyan"))
        if self._hosts:
            parts.append(self._host_table())
        if self._steps:
            parts.append(self._step_table())
        parts.extend(_claim_text(claim) for claim in self._claims)
        return Group(*parts)

    def _host_table(self) -> Table:
        table = Table(title="hosts", title_justify="left", expand=True)
        for column in ("host", "state", "release", "by", "seconds", "says"):
            table.add_column(column, no_wrap=column != "says", overflow="ellipsis")
        for name, run in sorted(self._hosts.items())[:_ROWS]:
            product = run.report.products[0]
            current = product.record.current
            says = product.reason or "; ".join(run.report.check.remarks)
            table.add_row(
                name,
                f"[{_COLOURS.get(product.outcome.value, 'white')}]{product.outcome.value}[/]",
                current.release if current else "",
                "+".join(product.means),
                f"{run.done_after.total_seconds():.2f}",
                escape(says[:160]),
            )
        if len(self._hosts) > _ROWS:
            table.add_row(f"… {len(self._hosts) - _ROWS} more", "", "", "", "", "")
        return table

    def _step_table(self) -> Table:
        table = Table(title="releases", title_justify="left", expand=True)
        for column in (
            "release",
            "hosts",
            "by",
            "pack",
            "WAN blobs",
            "of pack",
            "delivered",
            "last",
        ):
            table.add_column(column, justify="left" if column in {"release", "by"} else "right")
        for step in self._steps[-12:]:
            table.add_row(
                step.release,
                str(step.hosts),
                step.means,
                f"{step.pack_bytes:,}",
                f"{step.traffic.wan_blobs:,}",
                f"{step.traffic.wan_blobs / step.pack_bytes:.1%}",
                f"{step.traffic.delivered:,}",
                f"{step.last_host.total_seconds():.2f} s",
            )
        return table


def _claim_text(claim: Claim) -> Text:
    mark = Text("✔ ", "green") if claim.holds else Text("✘ ", "bold red")
    return mark + Text(f"{claim.id}: ", "bold") + Text(claim.evidence)
