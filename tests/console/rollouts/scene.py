"""A rollout by waves at a real origin, a real console that follows it, and hosts that report to it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from console.catalogue.repositories import ANCHOR, Origin
from console.programs import Console
from console.rollouts.filling import HOSTS
from fleetward.core.documents import Channel, Wave
from fleetward.core.names import ChannelName, ProductName
from fleetward.core.rollout import HostPlace
from fleetward.origin.finish import finish
from fleetward.origin.staging import Staging

YARA, STABLE = ProductName("yara"), ChannelName("stable")
WAVES = (Wave(rings=("canary",)), Wave(percent=20.0), Wave(percent=100.0))
TESTS = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Scene:
    """What runs.

    Attributes:
        origin: the repository.
        url: the console's.
        token_file: holds an API token of scope read.
        salt: of the channel.
    """

    origin: Origin
    url: str
    token_file: Path
    salt: str

    def sign(self, **changes: Any) -> Channel:  # noqa: ANN401 (fields of a channel)
        """Sign the channel's document with some fields changed, as the steward would."""
        return sign(self.origin, **changes)

    def records(self, low: float, high: float) -> list[str]:
        """Return the records of the hosts whose place in percent lies in [low, high)."""
        names = [f"{number:016x}" for number in range(HOSTS)]
        return [n for n in names if low <= HostPlace(n).fraction(self.salt) * 100 < high]


def sign(origin: Origin, **changes: Any) -> Channel:  # noqa: ANN401 (fields of a channel)
    shop = origin.again()
    with shop.alone():
        staging = Staging(shop)
        live = staging.live_channel(YARA, STABLE)
        assert live is not None
        changed = replace(live, **changes)
        staging.wish(changed)
        finish(staging)
    return changed


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Give a console that follows yara@stable: r2, with the ring and 20 % of the hosts open."""
    with Origin(folder / "origin") as origin:
        origin.publish("yara", {"a.yar": b"rule a { condition: true }\n"}, release="r1")
        sign(origin, plan="waves", waves=WAVES, open=3)
        origin.publish("yara", {"a.yar": b"rule a { condition: false }\n"}, release="r2")
        channel = sign(origin, open=2)
        state = folder / "console"
        state.mkdir()
        console = Console(state, f"sqlite:///{state}/console.db")
        _fill(console, channel.salt)
        console.create_admin()
        token = console.ask("token", "ada", "--name", "cli", "--scope", "read")
        assert token.returncode == 0, token.stderr
        file = folder / "token"
        file.touch(0o600)
        file.write_text(token.stdout)
        (state / "c.toml").write_text(
            f"[sign_in]\ntotp_for_administrators = false\n[repository]\nurl = '{origin.url}'\n"
            f"root = '{origin.repository / ANCHOR}'\npoll = 1\n"
        )
        with console.running("--config", "c.toml") as url:
            yield Scene(origin, url, file, channel.salt)


def _fill(console: Console, salt: str) -> None:
    words = [console.db, str(console.folder), salt]
    done = subprocess.run(
        [sys.executable, "-m", "console.rollouts.filling", *words],
        capture_output=True,
        text=True,
        cwd=TESTS,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
