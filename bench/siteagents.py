"""Some hosts of a site in one process: the agent's own loop, one thread for each.

    python -m bench.siteagents FOLDER ROOT RELAY FIRST COUNT RELEASE

Makes the hosts, installs what there is, then runs each agent's loop (long polls, checks, installs)
until all run RELEASE. Prints a line of JSON for each thing that happened: `ready` once all run the
first release, then per host `blob` (the last byte of a blob is there) and `confirmed`, with the
machine's monotonic clock.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.agent.home import Home
from fleetward.agent.running import run_loop
from fleetward.agent.updating import UpdateReport
from fleetward.agent.wiring import create_agent, open_agent
from fleetward.cli.agentd import listening
from fleetward.config.agent import AgentSettings, Subscription
from fleetward.core.names import ProductName

_SAYING = threading.Lock()


class Host:
    """One host."""

    def __init__(self, folder: Path, number: int, wanted: str) -> None:
        self.name = f"host-{number:03}"
        self.home = Home(SystemDisk(), folder / self.name / "home")
        self.folder = folder / self.name / "rules"
        self.wanted = wanted
        self.is_done = threading.Event()

    def make(self, relay: str, root: bytes) -> None:
        """Make the agent and install what there is."""
        subscription = Subscription(product=ProductName("rules"), folder=self.folder)
        settings = AgentSettings(
            sources=(relay,), subscriptions=(subscription,), poll=timedelta(minutes=10)
        )
        create_agent(self.home, settings, root, SystemEntropy())
        report = open_agent(self.home).update()
        assert report.exit_code == 0, report

    def run(self) -> None:
        """Run the agent's loop; it goes on in a daemon thread after the release is there."""
        run_loop(
            self._updates(),
            SystemClock(),
            SystemEntropy(),
            lambda _: None,
            wait=listening(self.home, lambda _: None),
        )

    def _updates(self) -> Callable[[], tuple[UpdateReport, timedelta]]:
        def update() -> tuple[UpdateReport, timedelta]:
            agent = open_agent(self.home, progress=self._progress)
            report = agent.update()
            record = report.products[0].record
            if record.current and record.current.release == self.wanted:
                say("confirmed", self.name)
                self.is_done.set()
            return report, agent.settings.poll

        return update

    def _progress(self, doing: str, done: int, total: int) -> None:
        if done == total:
            say("blob", self.name)


def say(event: str, host: str = "") -> None:
    """Print that something happened."""
    line = json.dumps({"event": event, "host": host, "at": time.monotonic()}) + "\n"
    with _SAYING:
        sys.stdout.write(line)
        sys.stdout.flush()


def main() -> None:
    """Run the hosts."""
    folder, root, relay, first, count, wanted = sys.argv[1:7]
    anchor = Path(root).read_bytes()
    hosts = [Host(Path(folder), int(first) + n, wanted) for n in range(int(count))]
    for host in hosts:
        host.make(relay, anchor)
    for host in hosts:
        threading.Thread(target=host.run, daemon=True).start()
    say("ready")
    for host in hosts:
        host.is_done.wait()


if __name__ == "__main__":
    main()
