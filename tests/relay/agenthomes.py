"""A HOME and a subscription's folder as an agent leaves them, on the real disk.

Written with the agent's own code for records, and with the layout of its slots, so that what the
relay reads is what an agent writes; no engine runs.
"""

import os
import shutil
from pathlib import Path

from fleetward.adapters.disk import SystemDisk
from fleetward.agent.home import Home, create_home
from fleetward.agent.records import HeldBack, Installed, Record, Records
from fleetward.agent.slots import Slots
from fleetward.config.agent import AgentSettings, Subscription
from fleetward.config.relay import MirrorSettings
from fleetward.core.digest import sha256_of
from fleetward.core.install import State
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from support.fakes import SeededEntropy

Files = dict[str, bytes]


class AgentHome:
    """One agent with one product; `put` gives it releases."""

    def __init__(self, root: Path, product: str = "clamav") -> None:
        self.product = ProductName(product)
        self.folder = root / "content"
        self.home = Home(SystemDisk(), root / "home")
        subscription = Subscription(product=self.product, folder=self.folder)
        settings = AgentSettings(sources=("http://127.0.0.1:9",), subscriptions=(subscription,))
        create_home(self.home, settings, SeededEntropy())
        self.slots = Slots(self.home.disk, self.folder)
        self.record = Record(product=self.product, channel=ChannelName("stable"))

    def settings(self) -> MirrorSettings:
        return MirrorSettings(product=self.product, home=self.home.path)

    def stage(self, release: str, files: Files) -> Installed:
        """Write a tree into a slot."""
        seq = self.record.greatest_seq + 1
        tree = sha256_of(repr((release, sorted(files.items()))).encode())
        installed = Installed(
            release=ReleaseName(release),
            seq=seq,
            tree=tree,
            length=1,
            engine="files",
            slot=tree[:16],
        )
        for path, content in files.items():
            file = self.slots.path(installed.slot) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        self.slots.path(installed.slot).mkdir(parents=True, exist_ok=True)
        return installed

    def save(self, **changes: object) -> Record:
        self.record = Records(self.home).save(self.record.having(**changes))
        return self.record

    def begin_trial(self, release: str, files: Files) -> Installed:
        installed = self.stage(release, files)
        self.save(state=State.ACTIVATING, current=installed, previous=self.record.current)
        self.slots.switch(installed.slot)
        self.save(state=State.TRIAL)
        return installed

    def confirm(self) -> None:
        assert self.record.current
        self.save(state=State.CONFIRMED, greatest_seq=self.record.current.seq, held_back=None)

    def put(self, release: str, files: Files) -> Installed:
        """Install and confirm a release, and prune what an agent prunes."""
        installed = self.begin_trial(release, files)
        self.confirm()
        kept = [one for one in (self.record.current, self.record.previous) if one]
        self.slots.prune(one.slot for one in kept)
        return installed

    def roll_back(self) -> None:
        failed, previous = self.record.current, self.record.previous
        assert failed
        assert previous
        held = HeldBack(
            release=failed.release, tree=failed.tree, state=State.ROLLED_BACK, reason="broken"
        )
        self.save(state=State.ROLLING_BACK, held_back=held)
        self.slots.switch(previous.slot)
        self.save(state=State.ROLLED_BACK, current=previous, previous=None)

    def remove_slot(self, installed: Installed) -> None:
        shutil.rmtree(self.slots.path(installed.slot))

    def age(self, seconds: int) -> None:
        """Let the record and the link look as if written `seconds` ago."""
        for path in (self.home.products / f"{self.product}.json", self.folder / "current"):
            when = path.lstat().st_mtime - seconds
            os.utime(path, (when, when), follow_symlinks=False)
