"""`fleetward demo`: a whole fleet on this machine, in a few seconds."""

import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from fleetward.cli.output import people, print_json, remarks
from fleetward.demo.acts import Play
from fleetward.demo.console import is_installed
from fleetward.demo.content import sample_series, user_series
from fleetward.demo.screen import Lines, Screen, login_line
from fleetward.demo.stage import Stage

MAX_HOSTS = 500
"""Agents in one process; beyond it use `sim` on a machine made for it."""

REPORT_SECONDS = 10.0
"""How often hosts look and report while the demo stays, so that the console shows them alive."""

PER_HOST_SECONDS = 0.1
"""More hosts report less often: they share this machine."""

NO_CONSOLE = "no console: this installation has none; pip install 'fleetward[console]' brings it"


def demo(
    hosts: Annotated[
        int, typer.Option("--hosts", min=1, max=MAX_HOSTS, help="How many hosts.")
    ] = 8,
    content: Annotated[
        Path | None,
        typer.Option(
            "--content",
            metavar="DIR",
            help="Your own rules: every subfolder or archive is a release, by name.",
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="End after the last act, also on a terminal.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the main job on loopback: origin, relay, hosts and console; releases, an attack.

    Exits 1 where a claim does not hold. On a terminal all of it goes on until Ctrl-C, so that you
    can open the console: its address and password are shown.

    Examples: fleetward demo · fleetward demo --hosts 50 --once --json ·
    fleetward demo --content /srv/rules-by-day
    """
    has_console = is_installed()
    with _ended_in_order(), tempfile.TemporaryDirectory(prefix="fleetward-demo-") as folder:
        work = Path(folder)
        series = user_series(content, work) if content else sample_series(work)
        screen = None if json or not people.is_terminal else Screen(people)
        audience = screen or Lines(remarks if json else people, is_for_people=not json)
        if not has_console:
            remarks.print(NO_CONSOLE, soft_wrap=True, markup=False)
        with Stage(work, hosts, console=has_console) as stage:
            with screen.shown() if screen else nullcontext():
                play = Play(stage, series, audience)
                play.play()
            holds = all(claim.holds for claim in play.claims)
            if json:
                print_json("fleetward.demo/1", _document(play, hosts))
            if screen and not once and sys.stdin.isatty():
                _go_on(stage, play)
    raise typer.Exit(0 if holds else 1)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C while the context lasts, so that no console is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _document(play: Play, hosts: int) -> dict[str, Any]:
    return {
        "ok": all(claim.holds for claim in play.claims),
        "claims": [
            {"id": claim.id, "holds": claim.holds, "evidence": claim.evidence}
            for claim in play.claims
        ],
        "hosts": hosts,
        "console": {"url": play.login.url} if play.login else None,
        "steps": [
            {
                "release": step.release,
                "tree": step.tree,
                "hosts": step.hosts,
                "means": step.means,
                "pack_bytes": step.pack_bytes,
                "blob_bytes": step.blob_bytes,
                "wan_bytes": step.traffic.wan,
                "wan_blob_bytes": step.traffic.wan_blobs,
                "delivered_bytes": step.traffic.delivered,
                "last_host_seconds": round(step.last_host.total_seconds(), 3),
            }
            for step in play.steps
        ],
    }


def _go_on(stage: Stage, play: Play) -> None:
    home = next(iter(stage.homes.values())) / "agent"
    login = f"{login_line(play.login)}\n" if play.login else ""
    people.print(
        f"{login}The origin goes on at {stage.origin_url} and the relay at {stage.relay_url}.\n"
        f"Look around: curl {stage.relay_url}/v1/relay · fleetward agent status {home}\n"
        "Ctrl-C ends it and removes everything.",
        soft_wrap=True,
        markup=False,
    )
    pause = max(REPORT_SECONDS, len(stage.homes) * PER_HOST_SECONDS)
    try:
        while not threading.Event().wait(pause):
            stage.update(stage.homes, lambda _: None)
    except KeyboardInterrupt:
        people.print("ended")
