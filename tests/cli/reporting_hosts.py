"""Some hosts in one process, made to be killed: each reports by the agent's own code, without a pause.

    python -m cli.reporting_hosts FOLDER TOKEN_FILE RELAY FIRST COUNT CHECK_INS SEED

Of three hosts one reaches the console by the relay alone, one by the relay or directly, one directly.
Each host is enrolled, then records events and reports (agent.checkins, in the loop of agent.regular)
until it has drawn CHECK_INS numbers and none of its events waits; then the process ends with 0.

    FOLDER/host-N/           the agent's own folder
    FOLDER/host-N/ledger     a line for each event that was recorded, and for each acknowledgement, written
                             once the agent knew it; a killed process leaves whole lines, or none
"""

import json
import os
import random
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.agent.acting import AgentActs
from fleetward.agent.checkins import Reporter, Seen
from fleetward.agent.enrolling import enrol, load_enrolled, read_token_file
from fleetward.agent.home import Home
from fleetward.agent.noticing import happening
from fleetward.agent.records import Installed, Record
from fleetward.agent.regular import RegularReports
from fleetward.agent.wiring import http_session
from fleetward.config.agent import NetworkSettings
from fleetward.core.digest import sha256_of
from fleetward.core.enrolment import HostFacts, Standing
from fleetward.core.install import State
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.core.status import EventKind

CLOCK, ENTROPY = SystemClock(), SystemEntropy()
PAUSE = timedelta(milliseconds=20)
MOST_EVENTS = 3
"""Of one report."""

MOST_PENDING = 20
"""Events that wait for an acknowledgement before no more happen."""

WAIT = timedelta(milliseconds=500)
"""Before a report that only asks again; a host that repeats all that waits would fill the relay."""


class Host:
    """One host."""

    def __init__(self, folder: Path, number: int, token_file: bytes, relay: str) -> None:
        self.number = number
        self.home = Home(SystemDisk(), folder / f"host-{number:03}")
        self.home.disk.make_folder(self.home.path)
        only_relay, self.sources = number % 3 == 0, () if number % 3 == 2 else (relay,)
        self.token = read_token_file(token_file, relay if only_relay else None)
        self.session = http_session(NetworkSettings(), CLOCK)
        self.facts = HostFacts(name=f"host-{number:03}")
        self.ledger = os.open(self.home.path / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.acknowledged = ("", 0)
        self.pending = 0
        self.is_done = threading.Event()

    def report(self, check_ins: int, seed: str) -> str | None:
        """Report once, with what happened since; what `RegularReports` calls."""
        if self.is_done.is_set():
            return None
        enrolled = load_enrolled(self.home)
        if enrolled is None or enrolled.standing is not Standing.APPROVED:
            self._enrol()
        _, n = self._place()
        reporter = Reporter(
            self.home, self.sources, self.facts, self.session, CLOCK, ENTROPY, AgentActs(self.home)
        )
        if n < check_ins and self.pending <= MOST_PENDING:
            self._live(reporter, random.Random(f"{seed}/{self.number}/{n}"))
        else:
            CLOCK.sleep(WAIT)  # for what the console has yet to acknowledge
        outcome = reporter.report(Seen(records=(_record(min(n, check_ins) // 10),)))
        self.pending = outcome.pending
        self._note_acknowledged()
        if self._place()[1] >= check_ins and not outcome.pending:
            self.is_done.set()
        return outcome.error

    def _enrol(self) -> None:
        enrol(
            self.home,
            self.token,
            self.sources,
            self.facts,
            session=self.session,
            clock=CLOCK,
            entropy=ENTROPY,
        )

    def _live(self, reporter: Reporter, chance: random.Random) -> None:
        for _ in range(chance.randint(0, MOST_EVENTS)):
            subject = f"{chance.getrandbits(64):016x}"
            e = reporter.record(
                happening(
                    CLOCK.now(), EventKind.LISTENER_OPENED, subject=subject, detail="2967/tcp"
                )
            )
            self._write(f"recorded {self._place()[0]} {e} {subject}")

    def _note_acknowledged(self) -> None:
        state = self._state()
        marks = state["acknowledged"]
        place = (state["epoch"], marks[-1]["e"] if marks else 0)
        if place != self.acknowledged:
            self.acknowledged = place
            self._write(f"acknowledged {place[0]} {place[1]}")

    def _place(self) -> tuple[str, int]:
        state = self._state()
        return state["epoch"], state["n"]

    def _state(self) -> dict[str, Any]:
        try:
            content = (self.home.path / "reports/state.json").read_bytes()
            found: dict[str, Any] = json.loads(content)
        except FileNotFoundError:
            return {"epoch": "", "n": 0, "acknowledged": []}
        return found

    def _write(self, line: str) -> None:
        os.write(self.ledger, f"{line}\n".encode())


def _record(number: int) -> Record:
    """The only product, which takes a new release with every tenth check-in."""
    release = ReleaseName(f"r{number}")
    current = Installed(
        release=release,
        seq=number,
        tree=sha256_of(release.encode()),
        length=1,
        engine="files",
        slot=release,
    )
    return Record(
        product=ProductName("rules"),
        channel=ChannelName("stable"),
        state=State.CONFIRMED,
        current=current,
    )


def main() -> None:
    """Run the hosts until all are done."""
    folder, token_file, relay, first, count, check_ins, seed = sys.argv[1:]
    token = Path(token_file).read_bytes()
    hosts = [Host(Path(folder), int(first) + n, token, relay) for n in range(int(count))]
    for host in hosts:
        reports = RegularReports(
            lambda host=host: host.report(int(check_ins), seed),  # type: ignore[misc]
            ENTROPY,
            lambda _line: None,
            PAUSE,
        )
        reports.start()
    sys.stderr.write("reporting\n")
    for host in hosts:
        host.is_done.wait()


if __name__ == "__main__":
    main()
