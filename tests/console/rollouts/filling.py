"""Hosts of a rollout in a console's own database, as a process of its own.

    python -m console.rollouts.filling DB STATE SALT

Of the hosts whose place is under 20 %: one went back, one fell silent on trial, one is behind, the
others confirmed r2. The rest run r1.
"""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleetward.adapters.disk import SystemDisk
from fleetward.config.console import ConsoleFileSettings
from fleetward.console.starting import start_django
from fleetward.console.wiring import Wiring

HOSTS = 60
REASON = "sig 2003250: unknown keyword <b>"


def main(db: str, state: Path, salt: str) -> None:
    start_django(SystemDisk(), Wiring(settings=ConsoleFileSettings(db=db, state=state)))
    from console.cast import add_site  # noqa: PLC0415 (Django is set up only now)
    from console.rollouts.plans import add_follower, numbers, tell  # noqa: PLC0415 (see above)

    now = datetime.now(UTC)
    sites = [add_site("berlin"), add_site("porto")]
    early = [number for number in numbers(0, 20, salt) if number < HOSTS]
    back, gone, late = early[:3]
    for number in range(HOSTS):
        site = sites[number % 2]
        if number == back:
            host = add_follower(number, state="rolled-back", since=now, seen=now, site=site)
            tell(host, detail=REASON)
        elif number == gone:
            hour = now - timedelta(hours=1)
            add_follower(number, "r2", "trial", since=hour, seen=hour, site=site)
        elif number in early and number != late:
            add_follower(number, "r2", since=now - timedelta(minutes=20), seen=now, site=site)
        else:
            add_follower(number, seen=now, site=site)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
