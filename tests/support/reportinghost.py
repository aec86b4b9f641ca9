"""A host as a process of its own that may be killed at any instant: events, check-ins, for a while.

    python -m support.reportinghost HOME COUNT [RELAY]

HOME/token.json enrols it. For each event HOME/diary gets `intend N`, then `recorded N` once the
spool has it, and `acked EPOCH E` as the console's signature says. It ends once all is acknowledged.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.adapters.http import HttpSession
from fleetward.agent.checkins import Reporter, Seen
from fleetward.agent.enrolling import enrol, load_enrolled
from fleetward.agent.home import Home
from fleetward.agent.inbox import Tree
from fleetward.agent.noticing import happening
from fleetward.core.enrolment import HostFacts
from fleetward.core.names import ProductName
from fleetward.core.status import EventKind
from fleetward.errors import NetworkError, TrustError
from fleetward.wire.tokenfile import decode_token_file

AGAIN = 0.05
"""Seconds between attempts while nobody answers; every other turn waits for answers alone."""


class Idle:
    """Does nothing, whatever it is told."""

    def update_now(self, product: ProductName | None) -> str:
        return "idle"

    def verify_tree(self, product: ProductName | None) -> tuple[Tree, ...]:
        return ()

    def list_ports(self) -> str:
        return "idle"

    def roll_back(self, product: ProductName) -> str:
        return "idle"


def main(folder: Path, count: int, sources: list[str]) -> None:
    home = Home(SystemDisk(), folder)
    clock, entropy = SystemClock(), SystemEntropy()
    session, facts = HttpSession(clock), HostFacts(name=folder.name)
    while load_enrolled(home) is None:
        file = decode_token_file((folder / "token.json").read_bytes())
        try:
            enrol(home, file, sources, facts, session=session, clock=clock, entropy=entropy)
        except (NetworkError, TrustError):
            _pause(clock)
    reporter = Reporter(home, sources, facts, session, clock, entropy, Idle())
    with (folder / "diary").open("a+", buffering=1) as diary:
        diary.seek(0)
        intended = [int(line.split()[1]) for line in diary if line.startswith("intend ")]
        for number in range(max(intended, default=-1) + 1, count):
            diary.write(f"intend {number}\n")
            found = happening(
                clock.now(), EventKind.LISTENER_OPENED, detail=f"{folder.name} {number}"
            )
            assert reporter.record(found) is not None
            diary.write(f"recorded {number}\n")
            reporter.report(Seen())
            diary.write(_acknowledged(folder))
        while reporter.report(Seen()).pending:
            diary.write(_acknowledged(folder))
            _pause(clock)
        diary.write(_acknowledged(folder))


def _acknowledged(folder: Path) -> str:
    state = json.loads((folder / "reports/state.json").read_text())
    marks = state["acknowledged"]
    return f"acked {state['epoch']} {marks[-1]['e']}\n" if marks else ""


def _pause(clock: SystemClock) -> None:
    clock.sleep(timedelta(seconds=AGAIN))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
