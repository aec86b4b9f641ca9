"""The story of the demo, act by act, and what each act proves.

A claim holds or does not by what the hosts themselves report and what the relay counted; its
evidence is a sentence with the figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from fleetward.core.digest import Sha256
from fleetward.core.install import State
from fleetward.demo.attacker import Attack
from fleetward.demo.console import ADMINISTRATOR
from fleetward.demo.content import ReleaseFolder
from fleetward.demo.reports import TREE_DIGITS, Runs
from fleetward.demo.stage import HostRun, Stage, Traffic
from fleetward.errors import DigestError, NetworkError, TrustError
from fleetward.origin.publish import Published


@dataclass(frozen=True, slots=True)
class Claim:
    """What the demo says, and whether it held."""

    id: str
    holds: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class Step:
    """A release that reached the hosts.

    Attributes:
        release: its name.
        tree: its tree's digest.
        pack_bytes: its pack's length.
        means: how the hosts had it: `pack`, or the delta's codec.
        blob_bytes: length of the blob that they used.
        traffic: what crossed the wires.
        last_host: how long until the last host was done.
        hosts: how many run it.
    """

    release: str
    tree: Sha256
    pack_bytes: int
    means: str
    blob_bytes: int
    traffic: Traffic
    last_host: timedelta
    hosts: int


@dataclass(frozen=True, slots=True)
class Login:
    """Where people open the console, and how they get in.

    Attributes:
        url: its address.
        name: of the administrator.
        password: for this run only.
    """

    url: str
    name: str
    password: str


class Audience(Protocol):
    """Who watches."""

    def opened(self, login: Login) -> None:
        """The console serves."""
        ...

    def act(self, title: str) -> None:
        """An act begins."""
        ...

    def host(self, run: HostRun) -> None:
        """A host is done with a run."""
        ...

    def step(self, step: Step) -> None:
        """A release has reached the hosts."""
        ...

    def claim(self, claim: Claim) -> None:
        """A claim was judged."""
        ...


@dataclass(slots=True)
class Play:
    """Plays the story on a stage before an audience.

    Attributes:
        stage: the running programs.
        series: the releases, oldest first, at least three.
        audience: who watches.
        claims: what was judged so far.
        steps: the releases that reached the hosts.
        login: the console's, once it serves; None where there is none.
    """

    stage: Stage
    series: Sequence[ReleaseFolder]
    audience: Audience
    claims: list[Claim] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    login: Login | None = None
    _under_attack: dict[str, Runs] = field(default_factory=dict)
    _problem: str = ""

    def play(self) -> None:
        """Play all acts."""
        names = list(self.stage.homes)
        *honest, last = self.series
        first, *others = honest
        self.audience.act(f"The origin publishes {first.name}; {len(names)} hosts begin")
        self.stage.make_hosts()
        self._release(first, names)
        self._claim_first(names)
        self._enrol(names)
        stale = self.stage.timestamp()
        for release in others:
            self.audience.act(f"The origin publishes {release.name}; hosts take the difference")
            self._release(release, names)
        self._tampered(names[0])
        self._replayed(stale, names)
        self._altered(last, stale, names)
        self._claim_steps(names)
        self._claim_console(names)

    # -- acts -----------------------------------------------------------------------------------

    def _release(self, release: ReleaseFolder, names: Sequence[str]) -> None:
        published = self.stage.publish(release)
        self._take_up(published, names)

    def _take_up(self, published: Published, names: Sequence[str]) -> None:
        before = self.stage.traffic()
        runs = self.stage.update(names, self.audience.host)
        manifest = published.manifest
        means = {tuple(p.means) for run in runs for p in run.report.products if p.means}
        self.steps.append(
            Step(
                release=manifest.release,
                tree=manifest.tree.sha256,
                pack_bytes=manifest.pack.length,
                means=", ".join(sorted("+".join(m) for m in means)) or "nothing",
                blob_bytes=max((p.blob_bytes for r in runs for p in r.report.products), default=0),
                traffic=self.stage.traffic().since(before),
                last_host=max(run.done_after for run in runs),
                hosts=sum(tree == manifest.tree.sha256 for tree in _trees(runs)),
            )
        )
        self.audience.step(self.steps[-1])

    def _enrol(self, names: Sequence[str]) -> None:
        console = self.stage.console
        if console is None:
            return
        self.audience.act(f"{len(names)} hosts enrol at the console")
        try:
            url = self.stage.enrol(console)
        except (NetworkError, TrustError) as error:
            self._problem = str(error)
            return
        self.login = Login(url, ADMINISTRATOR, console.password)
        self.audience.opened(self.login)

    def _shown(self) -> dict[str, Runs]:
        """Return what the console shows as the hosts say it; nothing where it has failed."""
        if self.stage.console is None or self._problem:
            return {}
        try:
            return self.stage.shown(self.stage.console)
        except NetworkError as error:
            self._problem = str(error)
            return {}

    def _tampered(self, name: str) -> None:
        self.audience.act(f"Somebody changes a file on {name}")
        path = self.stage.tamper(name)
        found = self.stage.verify(name)
        differences = [(d.path, d.kind) for d in found.differences]
        self._judge(
            "tampering-found",
            not found.intact and differences == [(path, "changed")],
            f"verify on {name} names {', '.join(p for p, _ in differences) or 'nothing'}; "
            f"{path} was changed",
        )
        self.stage.update([name], self.audience.host, repair=True)
        self._judge(
            "tampering-repaired",
            self.stage.verify(name).intact,
            f"`agent update --repair` on {name} put the signed tree back",
        )

    def _replayed(self, stale: bytes, names: Sequence[str]) -> None:
        held = self.steps[-1].tree
        self.audience.act("The relay falls into hostile hands and serves an old timestamp")
        with self.stage.attack(Attack.REPLAYS_TIMESTAMP, stale):
            runs = self.stage.update(names, self.audience.host)
        seen = [run for run in runs if _saw_replay(run)]
        reasons = [remark for run in seen for remark in _complaints(run)]
        self._judge(
            "old-timestamp-refused",
            len(seen) == len(names) and set(_trees(runs)) == {held},
            f"{len(seen)} of {len(names)} hosts refused to go back: "
            f"{reasons[0] if reasons else 'no host noticed'}",
        )

    def _altered(self, last: ReleaseFolder, stale: bytes, names: Sequence[str]) -> None:
        held = self.steps[-1].tree
        self.audience.act(f"The origin publishes {last.name}, and the relay alters its blobs")
        published = self.stage.publish(last)
        with self.stage.attack(Attack.ALTERS_BLOBS, stale):
            runs = self.stage.update(names, self.audience.host)
            self._under_attack = self._shown()
        refusals = [e for run in runs for e in _errors(run) if isinstance(e, DigestError)]
        self._judge(
            "altered-blob-refused",
            len(refusals) == len(names) and set(_trees(runs)) == {held},
            f"{len(refusals)} of {len(names)} hosts refused and kept the old release: "
            f"{refusals[0] if refusals else 'no refusal'}",
        )
        self.audience.act("The relay is honest again; the hosts go on")
        self.stage.start_relay()
        self._take_up(published, names)

    # -- claims -----------------------------------------------------------------------------------

    def _judge(self, claim: str, holds: bool, evidence: str) -> None:  # noqa: FBT001 (a verdict)
        self.claims.append(Claim(claim, holds, evidence))
        self.audience.claim(self.claims[-1])

    def _claim_first(self, names: Sequence[str]) -> None:
        first = self.steps[0]
        self._judge(
            "first-release-everywhere",
            first.hosts == len(names),
            f"{first.hosts} of {len(names)} hosts confirmed {first.release} with tree "
            f"{first.tree[:16]}…, the last after {first.last_host.total_seconds():.2f} s",
        )
        self._judge(
            "pack-crossed-once",
            first.traffic.wan_blobs == first.pack_bytes,
            f"{first.traffic.wan_blobs:,} bytes of blobs crossed the WAN for {len(names)} hosts; "
            f"the pack has {first.pack_bytes:,}",
        )

    def _claim_steps(self, names: Sequence[str]) -> None:
        later = self.steps[1:]
        self._judge(
            "one-delta-a-step",
            all(s.traffic.wan_blobs == s.blob_bytes and s.means != "pack" for s in later),
            "; ".join(
                f"{s.release}: {s.traffic.wan_blobs:,} bytes by {s.means} "
                f"({s.traffic.wan_blobs / s.pack_bytes:.2%} of its pack)"
                for s in later
            ),
        )
        last = later[-1]
        self._judge(
            "same-tree-everywhere",
            last.hosts == len(names),
            f"{last.hosts} of {len(names)} hosts run {last.release} with tree {last.tree}",
        )
        total = sum((step.traffic for step in self.steps), Traffic())
        direct = len(names) * sum(s.blob_bytes for s in self.steps)
        self._judge(
            "wan-carries-each-byte-once",
            total.wan_blobs == sum(s.blob_bytes for s in self.steps),
            f"{total.wan_blobs:,} bytes of blobs over the WAN; without a relay "
            f"{direct:,} for {len(names)} hosts; delivered on the site: {total.delivered:,}",
        )

    def _claim_console(self, names: Sequence[str]) -> None:
        if self.stage.console is None:
            return
        before, last = self.steps[-2:]
        now = _running(self._shown(), last)
        kept = _running(self._under_attack, before)
        self._judge(
            "console-shows-every-host",
            now == kept == len(names),
            self._problem
            or f"the console's API says of {now} of {len(names)} hosts what they run themselves: "
            f"{last.release} with tree {last.tree[:16]}…; and while the relay altered blobs it "
            f"said of {kept} that they kept {before.release}",
        )


def _running(shown: Mapping[str, Runs], step: Step) -> int:
    """Return how many hosts are shown with a step's release and tree."""
    wanted = (step.release, step.tree[:TREE_DIGITS])
    return sum(wanted == (runs.release, runs.tree) for runs in shown.values())


def _trees(runs: Sequence[HostRun]) -> Iterator[Sha256 | None]:
    for run in runs:
        record = run.report.products[0].record
        is_at_rest = record.state in {State.CONFIRMED, State.STAGING}
        yield record.current.tree if record.current and is_at_rest else None


def _errors(run: HostRun) -> Iterator[BaseException]:
    if run.report.error:
        yield run.report.error
    yield from (p.error for p in run.report.products if p.error)


def _complaints(run: HostRun) -> list[str]:
    return [*run.report.check.remarks, *(str(e) for e in _errors(run))]


def _saw_replay(run: HostRun) -> bool:
    refused = any(isinstance(error, TrustError) for error in _errors(run))
    return refused or any("older" in remark for remark in run.report.check.remarks)
