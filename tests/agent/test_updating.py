"""One run of the agent, story by story: install, follow, refuse, go back."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward.adapters.processes import Finished
from fleetward.agent.following import Outcome, ProductReport
from fleetward.agent.home import Home
from fleetward.agent.records import Records
from fleetward.agent.slots import Slots
from fleetward.agent.updating import SourceTrouble, Trouble, load_last_check
from fleetward.agent.verifying import verify_product
from fleetward.config.agent import EngineSettings
from fleetward.core.documents import Channel, Floor, Manifest, Policy, RampStep, Wave
from fleetward.core.install import State
from fleetward.core.names import ProductName
from fleetward.core.rollout import HostPlace
from fleetward.errors import (
    BusyError,
    ConfigurationError,
    DigestError,
    DiskError,
    MetadataError,
    NetworkError,
    RejectedError,
    RollbackError,
    RolledBackError,
    TrustError,
)
from fleetward.wire.layout import blob_path
from support.samples import digest_of
from support.simdisk import SimDisk
from support.world import (
    FOLDER,
    HOME,
    PRODUCT,
    SOURCE,
    STABLE,
    V1,
    V2,
    V3,
    World,
    fresh_disk,
    record_on,
    running,
)

YARA = EngineSettings(name="custom", preflight=("check", "{tree}"))


def updated(world: World, disk: SimDisk, **options: object) -> ProductReport:
    return world.agent(disk, **options).update().products[0]  # type: ignore[arg-type]


def test_a_first_release_comes_as_a_pack_and_is_confirmed() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    report = updated(world, disk)
    assert (report.outcome, report.means) == (Outcome.INSTALLED, ("pack",))
    assert running(disk) == V1
    assert record_on(disk).state is State.CONFIRMED


def test_the_next_release_comes_as_a_delta_and_the_previous_stays() -> None:
    world, disk = World(), fresh_disk()
    first = world.publish(V1)
    updated(world, disk)
    second = world.publish(V2)
    report = updated(world, disk)
    assert report.outcome is Outcome.INSTALLED
    assert report.means != ("pack",)
    assert report.blob_bytes == second.deltas[0].length
    assert running(disk) == V2
    previous = record_on(disk).previous
    assert previous
    assert previous.release == first.release
    assert len(disk.listing(FOLDER / "slots")) == 2


def test_nothing_new_fetches_nothing() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    updated(world, disk)
    asked = len(world.fetcher.asked)
    assert updated(world, disk).outcome is Outcome.CURRENT
    assert len(world.fetcher.asked) == asked
    assert disk.listing(HOME / "partial") == []


def test_older_slots_and_file_lists_are_removed() -> None:
    world, disk = World(), fresh_disk()
    for files in (V1, V2, V3):
        world.publish(files)
        updated(world, disk)
    assert len(disk.listing(FOLDER / "slots")) == 2
    assert len(disk.listing(HOME / "products" / "rules.files")) == 2


def test_a_source_that_cannot_be_reached_leaves_everything() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    updated(world, disk)
    world.trust.error = NetworkError("no route to host; try again")
    report = world.agent(disk).update()
    assert report.exit_code == 11
    assert report.products[0].outcome is Outcome.CURRENT
    assert running(disk) == V1
    check = load_last_check(world.agent(disk).home)
    assert check
    assert check.error == "no route to host; try again"


def test_refused_metadata_is_a_trust_error() -> None:
    world, disk = World(), fresh_disk()
    world.trust.error = RollbackError("older than what this host has seen")
    assert world.agent(disk).update().exit_code == 10


def test_an_altered_blob_is_refused_and_the_source_is_put_aside() -> None:
    world, disk = World(), fresh_disk()
    manifest = world.publish(V1)
    path = blob_path(manifest.pack.sha256)
    world.fetcher.lies[SOURCE, path] = bytes(manifest.pack.length)
    report = world.agent(disk).update()
    assert report.exit_code == 10
    assert isinstance(report.products[0].error, DigestError)
    assert running(disk) is None
    assert disk.listing(HOME / "partial") == []


def test_an_honest_source_serves_where_another_lies() -> None:
    world, disk = World(), fresh_disk()
    manifest = world.publish(V1)
    path = blob_path(manifest.pack.sha256)
    world.fetcher.lies[SOURCE, path] = b"short"
    other = "http://origin.test"
    report = updated(world, disk, sources=(SOURCE, other))
    assert report.outcome is Outcome.INSTALLED
    assert [url.rpartition("/blobs")[0] for url, _ in world.fetcher.asked] == [SOURCE, other]


def test_a_delta_that_no_source_has_falls_back_to_the_pack_and_says_so() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    updated(world, disk)
    second = world.publish(V2)
    for delta in second.deltas:
        del world.fetcher.blobs[blob_path(delta.sha256)]
    report = updated(world, disk)
    assert (report.outcome, report.means) == (Outcome.INSTALLED, ("pack",))
    assert "the pack was fetched" in (report.reason or "")
    assert running(disk) == V2


class TestAHostThatWasAway:
    """The origin keeps deltas from the last two releases; the host has an older one."""

    def away(self) -> tuple[World, SimDisk]:
        world, disk = World(), fresh_disk()
        chance = random.Random(5)
        files = {f"{n}.yar": chance.randbytes(2000) for n in range(12)}
        for number in range(4):
            world.publish({**files, "version": b"%d" % number}, bases=2)
            if number == 0:
                updated(world, disk)
        return world, disk

    def test_comes_back_over_a_chain_of_deltas(self) -> None:
        world, disk = self.away()
        report = updated(world, disk)
        assert (report.outcome, len(report.means)) == (Outcome.INSTALLED, 2)
        assert "pack" not in report.means
        assert report.blob_bytes < 3000
        files = running(disk)
        assert files
        assert files["version"] == b"3"

    def test_takes_the_pack_where_the_chain_cannot_be_looked_up(self) -> None:
        world, disk = self.away()
        world.documents.release_error = NetworkError("gone")
        assert updated(world, disk).means == ("pack",)

    def test_takes_the_pack_where_the_chain_makes_something_else(self) -> None:
        world, disk = self.away()
        wrong = digest_of("another tree")
        manifests = world.documents.manifests
        for key, manifest in list(manifests.items()):
            deltas = tuple(replace(delta, base_tree=wrong) for delta in manifest.deltas)
            if manifest.release == "r4":
                manifests[key] = replace(manifest, deltas=deltas)
            elif manifest.release in {"r2", "r3"}:
                manifests[key] = replace(manifest, tree=replace(manifest.tree, sha256=wrong))
        report = updated(world, disk)
        assert report.means == ("pack",)
        assert "did not make the signed tree" in (report.reason or "")


def test_a_drifted_base_falls_back_to_the_pack() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    updated(world, disk)
    with disk.create(FOLDER / "current" / "a.yar") as file:
        file.write(b"tampered")
    world.publish(V2)
    report = updated(world, disk)
    assert report.means == ("pack",)
    assert "drifted" in (report.reason or "")
    assert running(disk) == V2


def test_a_link_in_the_installed_tree_is_drift_too() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    updated(world, disk)
    disk.link("/etc/passwd", FOLDER / "current" / "evil")
    world.publish(V2)
    assert updated(world, disk).means == ("pack",)


def test_the_ramp_makes_a_host_wait_and_then_take_it() -> None:
    world, disk = World(), fresh_disk()
    world.documents.policies = Policy(product=PRODUCT, ramp=(RampStep(age=3600, percent=100),))
    world.publish(V1)
    report = updated(world, disk)
    assert report.outcome is Outcome.WAITING
    assert "ramp" in (report.reason or "")
    world.clock.advance(timedelta(hours=1))
    assert updated(world, disk).outcome is Outcome.INSTALLED


def test_a_host_that_waits_for_the_new_release_takes_the_previous_one_meanwhile() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    world.clock.advance(timedelta(hours=2))
    world.documents.policies = Policy(product=PRODUCT, ramp=(RampStep(age=3600, percent=100),))
    world.publish(V2)
    report = updated(world, disk)
    assert (report.outcome, running(disk)) == (Outcome.INSTALLED, V1)
    assert updated(world, disk).outcome is Outcome.WAITING


def test_a_channel_that_goes_back_is_followed_without_a_fetch_and_reported() -> None:
    world, disk = World(), fresh_disk()
    first = world.publish(V1)
    updated(world, disk)
    world.publish(V2)
    updated(world, disk)
    world.point(first)
    asked = len(world.fetcher.asked)
    assert updated(world, disk).outcome is Outcome.INSTALLED
    assert running(disk) == V1
    assert len(world.fetcher.asked) == asked
    assert record_on(disk).greatest_seq == 2


def test_a_floor_that_goes_down_is_refused() -> None:
    world, disk = World(), fresh_disk()
    world.documents.floors = Floor(product=PRODUCT, seq=1)
    world.publish(V1)
    updated(world, disk)
    world.documents.floors = Floor(product=PRODUCT, seq=0)
    report = updated(world, disk)
    assert isinstance(report.error, RollbackError)
    assert running(disk) == V1


def test_a_channel_that_is_not_there_says_so() -> None:
    world, disk = World(), fresh_disk()
    report = world.agent(disk).update()
    assert report.exit_code == 11
    assert "no channel" in (report.products[0].reason or "")


class TestStolenChannelsKey:
    """The attacker signs channel documents; the release keys are safe."""

    def test_it_cannot_introduce_bytes(self) -> None:
        world, disk = World(), fresh_disk()
        first = world.publish(V1)
        updated(world, disk)
        evil = World().publish({"evil": b"payload"})
        world.point(replace(evil, seq=9))
        world.documents.manifests = {
            k: v for k, v in world.documents.manifests.items() if v.seq == first.seq
        }
        report = updated(world, disk)
        assert isinstance(report.error, TrustError)
        assert "channels key may be stolen" in str(report.error)
        assert running(disk) == V1

    def test_it_cannot_go_under_the_floor(self) -> None:
        world, disk = World(), fresh_disk()
        first = world.publish(V1)
        world.publish(V2)
        updated(world, disk)
        world.documents.floors = Floor(product=PRODUCT, seq=2)
        world.point(first)
        report = updated(world, disk)
        assert "under-floor" in str(report.error)
        assert running(disk) == V2

    def test_it_cannot_bring_back_what_was_revoked(self) -> None:
        world, disk = World(), fresh_disk()
        first = world.publish(V1)
        second = world.publish(V2)
        updated(world, disk)
        world.revoke(first)
        world.point(first)
        report = updated(world, disk)
        assert (report.outcome, report.reason) == (Outcome.WAITING, "r1: was revoked")
        assert running(disk) == V2
        assert second.seq == 2

    def test_it_cannot_open_faster_than_the_ramp(self) -> None:
        world, disk = World(), fresh_disk()
        world.documents.policies = Policy(product=PRODUCT, ramp=(RampStep(age=0, percent=0),))
        world.publish(V1)
        channel = world.documents.channels
        for salt in range(50):
            channel.update({k: replace(c, salt=str(salt)) for k, c in channel.items()})
            assert updated(world, disk).outcome is Outcome.WAITING


class TestRevoked:
    def test_a_host_leaves_a_revoked_release_for_the_channels_previous_one(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1)
        updated(world, disk)
        second = world.publish(V2)
        updated(world, disk)
        world.revoke(second)
        assert updated(world, disk).outcome is Outcome.INSTALLED
        assert running(disk) == V1

    def test_with_nothing_left_it_keeps_the_failed_one_and_says_unprotected(self) -> None:
        world, disk = World(), fresh_disk()
        world.revoke(first := world.publish(V1))
        world.documents.floors = Floor(product=PRODUCT, seq=0)
        updated(world, disk)
        world.revoke(first)
        report = updated(world, disk)
        assert report.outcome is Outcome.UNPROTECTED
        assert "was revoked: broke hosts" in (report.reason or "")
        assert running(disk) == V1
        assert updated(world, disk).outcome is Outcome.UNPROTECTED

    def test_with_nothing_left_it_keeps_none_where_the_policy_says_so(self) -> None:
        world, disk = World(), fresh_disk()
        world.documents.policies = Policy(product=PRODUCT, when_nothing_is_allowed="none")
        first = world.publish(V1)
        updated(world, disk)
        world.revoke(first)
        assert updated(world, disk).outcome is Outcome.UNPROTECTED
        assert running(disk) is None

    def test_a_new_release_protects_again(self) -> None:
        world, disk = World(), fresh_disk()
        first = world.publish(V1)
        updated(world, disk)
        world.revoke(first)
        updated(world, disk)
        world.publish(V2)
        assert updated(world, disk).outcome is Outcome.INSTALLED
        assert record_on(disk).state is State.CONFIRMED


class TestPaused:
    """The console asked to leave products as they are, for a day at most."""

    def test_a_paused_product_waits_and_says_why(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1)
        updated(world, disk)
        world.publish(V2)
        agent = world.agent(disk)
        agent.is_paused = lambda product, now: product == PRODUCT and now == world.clock.now()
        report = agent.update().products[0]
        assert (report.outcome, running(disk)) == (Outcome.WAITING, V1)
        assert "paused by a directive" in (report.reason or "")
        assert updated(world, disk).outcome is Outcome.INSTALLED

    def test_a_pause_keeps_nobody_on_a_revoked_release(self) -> None:
        """Whoever holds the console's key must not be able to keep a bad release running."""
        world, disk = World(), fresh_disk()
        first = world.publish(V1)
        updated(world, disk)
        world.revoke(first)
        agent = world.agent(disk)
        agent.is_paused = lambda product, now: True  # noqa: ARG005 (always)
        assert agent.update().products[0].outcome is Outcome.UNPROTECTED


def test_waves_go_by_the_consoles_record_where_there_is_one() -> None:
    """Half of the hosts may take it; two records of one machine lie in different halves."""
    world = World()
    world.documents.policies = Policy(product=PRODUCT, ramp=(RampStep(age=0, percent=50),))
    first = world.publish(V1)
    outcomes = set()
    for number in range(20):
        agent = world.agent(fresh_disk())
        agent.record = f"{number:064}"
        outcomes.add(agent.update().products[0].outcome)
    assert outcomes == {Outcome.INSTALLED, Outcome.WAITING}, first


class TestWave:
    def test_a_host_notes_in_which_wave_of_the_plan_it_is(self) -> None:
        world, disk = World(), fresh_disk()
        manifest = world.publish(V1)
        updated(world, disk)
        assert record_on(disk).wave is None, "there is no plan"
        waves = (Wave(rings=("canary",)), Wave(percent=0), Wave(percent=100))
        plan = planned(world, manifest, waves=waves)
        updated(world, disk)
        assert record_on(disk).wave == 2
        agent = world.agent(disk)
        agent.settings = agent.settings.having(rings=("canary",))
        agent.update()
        assert record_on(disk).wave == 0
        world.documents.channels[plan.channel] = replace(plan, waves=waves[:2], open=2)
        updated(world, disk)
        assert record_on(disk).wave is None, "no wave holds it"

    def test_it_goes_by_the_consoles_record(self) -> None:
        world = World()
        manifest = world.publish(V1)
        plan = planned(world, manifest, waves=(Wave(percent=50), Wave(percent=100)))
        seen = set()
        for number in range(20):
            disk = fresh_disk()
            agent = world.agent(disk)
            agent.record = f"{number:016x}"
            agent.update()
            place = HostPlace(agent.record)
            assert record_on(disk).wave == (0 if place.is_within(50, plan.salt) else 1)
            seen.add(record_on(disk).wave)
        assert seen == {0, 1}


def planned(world: World, manifest: Manifest, waves: tuple[Wave, ...]) -> Channel:
    """Point the channel at `manifest` by a plan of waves, all of them open."""
    plan = Channel(
        product=PRODUCT,
        channel=STABLE,
        release=world.ref(manifest),
        salt="s1",
        plan="waves",
        waves=waves,
        open=len(waves),
        state="running",
    )
    world.documents.channels[STABLE] = plan
    return plan


class TestEngines:
    def test_what_the_engine_refuses_is_never_activated(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1, "custom")
        updated(world, disk, engines=(YARA,))
        world.publish(V2, "custom")
        world.engine_says = lambda _: Finished(2, "line 3: syntax error")
        report = updated(world, disk, engines=(YARA,))
        assert report.outcome is Outcome.REJECTED
        assert isinstance(report.error, RejectedError)
        assert "syntax error" in (report.reason or "")
        assert running(disk) == V1
        again = updated(world, disk, engines=(YARA,))
        assert (again.outcome, type(again.error)) == (Outcome.HELD_BACK, RejectedError)

    def test_the_next_release_is_tried_after_a_rejected_one(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1, "custom")
        world.engine_says = lambda _: Finished(2, "")
        assert updated(world, disk, engines=(YARA,)).outcome is Outcome.REJECTED
        world.engine_says = lambda _: Finished(0, "")
        world.publish(V2, "custom")
        assert updated(world, disk, engines=(YARA,)).outcome is Outcome.INSTALLED
        assert record_on(disk).held_back is None

    def test_a_channel_that_returns_to_what_runs_ends_the_rejection(self) -> None:
        world, disk = World(), fresh_disk()
        first = world.publish(V1, "custom")
        updated(world, disk, engines=(YARA,))
        world.publish(V2, "custom")
        world.engine_says = lambda _: Finished(2, "")
        updated(world, disk, engines=(YARA,))
        world.engine_says = lambda _: Finished(0, "")
        world.point(first)
        updated(world, disk, engines=(YARA,))
        assert record_on(disk).state is State.CONFIRMED

    def test_an_engine_that_this_host_does_not_know_confirms_nothing(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1, "custom")
        report = updated(world, disk)
        assert isinstance(report.error, ConfigurationError)
        assert "no profile" in str(report.error)
        assert running(disk) is None

    def test_a_check_that_does_not_end_is_a_rejection(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1, "custom")
        world.engine_says = lambda _: Finished(None, "")
        assert "did not end" in (updated(world, disk, engines=(YARA,)).reason or "")


class TestTrial:
    BAKES = (replace(YARA, bake=timedelta(hours=1)),)

    def into_trial(self) -> tuple[World, SimDisk]:
        world, disk = World(), fresh_disk()
        world.publish(V1, "custom")
        updated(world, disk, engines=(YARA,))
        world.publish(V2, "custom")
        report = world.agent(disk, engines=self.BAKES).update()
        assert report.products[0].outcome is Outcome.TRIAL
        assert report.exit_code == 0
        return world, disk

    def test_the_next_run_after_the_bake_time_confirms(self) -> None:
        world, disk = self.into_trial()
        assert updated(world, disk, engines=self.BAKES).outcome is Outcome.TRIAL
        world.clock.advance(timedelta(hours=1))
        updated(world, disk, engines=self.BAKES)
        assert record_on(disk).state is State.CONFIRMED
        assert running(disk) == V2

    def test_a_failing_engine_rolls_back_without_the_network(self) -> None:
        world, disk = self.into_trial()
        world.clock.advance(timedelta(hours=1))
        world.engine_says = lambda _: Finished(1, "scanner crashed")
        world.trust.error = NetworkError("no route")
        report = world.agent(disk, engines=self.BAKES).update()
        assert report.exit_code == 15
        assert running(disk) == V1
        assert report.products[0].outcome is Outcome.ROLLED_BACK
        world.trust.error = None
        again = world.agent(disk, engines=self.BAKES).update().products[0]
        assert (again.outcome, type(again.error)) == (Outcome.HELD_BACK, RolledBackError)
        assert running(disk) == V1

    def test_a_host_that_restarts_too_often_rolls_back_by_itself(self) -> None:
        world, disk = self.into_trial()
        for boot in ("boot-2", "boot-3"):
            assert updated(world, disk, engines=self.BAKES, boot=boot).outcome is Outcome.TRIAL
        report = updated(world, disk, engines=self.BAKES, boot="boot-4")
        assert "restarted 3 times" in (report.reason or "")
        assert running(disk) == V1

    def test_a_clock_that_is_set_back_begins_the_trial_again(self) -> None:
        world, disk = self.into_trial()
        world.clock.set_wall(world.clock.now() - timedelta(days=3))
        assert updated(world, disk, engines=self.BAKES).outcome is Outcome.TRIAL
        world.clock.advance(timedelta(minutes=59))
        assert updated(world, disk, engines=self.BAKES).outcome is Outcome.TRIAL
        world.clock.advance(timedelta(minutes=1))
        updated(world, disk, engines=self.BAKES)
        assert record_on(disk).state is State.CONFIRMED

    def test_a_new_release_waits_for_the_trial_to_end(self) -> None:
        world, disk = self.into_trial()
        world.publish(V3, "custom")
        assert updated(world, disk, engines=self.BAKES).outcome is Outcome.TRIAL
        assert running(disk) == V2

    def test_a_first_release_that_fails_its_trial_leaves_nothing_to_return_to(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1, "custom")
        updated(world, disk, engines=self.BAKES)
        world.clock.advance(timedelta(hours=1))
        world.engine_says = lambda _: Finished(1, "")
        report = world.agent(disk, engines=self.BAKES).update()
        assert report.products[0].outcome is Outcome.UNPROTECTED
        assert report.exit_code == 15

    def test_a_revoked_previous_release_is_not_returned_to(self) -> None:
        world, disk = World(), fresh_disk()
        first = world.publish(V1, "custom")
        updated(world, disk, engines=(YARA,))
        world.revoke(first)
        world.publish(V2, "custom")
        updated(world, disk, engines=self.BAKES)
        world.clock.advance(timedelta(hours=1))
        world.engine_says = lambda _: Finished(1, "")
        assert updated(world, disk, engines=self.BAKES).outcome is Outcome.UNPROTECTED
        assert running(disk) == V2


class TestOperatorsRollback:
    def test_it_returns_to_the_previous_release_and_stays_there(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1)
        updated(world, disk)
        world.publish(V2)
        updated(world, disk)
        record = world.agent(disk).roll_back(PRODUCT)
        assert record.state is State.ROLLED_BACK
        assert running(disk) == V1
        report = world.agent(disk).update()
        assert report.exit_code == 0
        assert report.products[0].outcome is Outcome.HELD_BACK
        assert running(disk) == V1
        world.publish(V3)
        assert updated(world, disk).outcome is Outcome.INSTALLED

    def test_it_never_returns_to_what_was_revoked(self) -> None:
        world, disk = World(), fresh_disk()
        first = world.publish(V1)
        updated(world, disk)
        world.publish(V2)
        world.revoke(first)
        updated(world, disk)
        with pytest.raises(ConfigurationError, match="r1 of rules was revoked"):
            world.agent(disk).roll_back(PRODUCT)
        assert running(disk) == V2

    def test_it_needs_a_previous_release_and_a_subscription(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1)
        updated(world, disk)
        with pytest.raises(ConfigurationError, match="no previous release"):
            world.agent(disk).roll_back(PRODUCT)
        with pytest.raises(ConfigurationError, match="does not subscribe to other; it has: rules"):
            world.agent(disk).roll_back(ProductName("other"))


class TestVerifyAndRepair:
    def installed(self) -> tuple[World, SimDisk]:
        world, disk = World(), fresh_disk()
        world.publish(V1)
        updated(world, disk)
        return world, disk

    def verified(self, disk: SimDisk) -> object:
        world = World()
        home = world.agent(disk).home
        return verify_product(home, Slots(disk, FOLDER), record_on(disk))

    def test_drift_is_named_path_by_path(self) -> None:
        _, disk = self.installed()
        with disk.create(FOLDER / "current" / "a.yar") as file:
            file.write(b"x" * len(V1["a.yar"]))
        with disk.create(FOLDER / "current" / "added") as file:
            file.write(b"")
        disk.link("a.yar", FOLDER / "current" / "sub" / "linked")
        disk.remove(FOLDER / "current" / "tool")
        found = self.verified(disk)
        assert [(d.path, d.kind) for d in found.differences] == [  # type: ignore[attr-defined]
            ("a.yar", "changed"),
            ("added", "added"),
            ("sub/linked", "added"),
            ("tool", "removed"),
        ]

    def test_what_is_intact_is_intact(self) -> None:
        _, disk = self.installed()
        assert self.verified(disk).intact  # type: ignore[attr-defined]
        assert self.verified(fresh_disk()).intact  # type: ignore[attr-defined]

    def test_a_link_that_points_elsewhere_and_a_slot_that_is_gone(self) -> None:
        _, disk = self.installed()
        slot = Slots(disk, FOLDER).current()
        disk.remove_tree(FOLDER / "slots" / str(slot))
        assert "is gone" in self.verified(disk).reason  # type: ignore[attr-defined]
        Slots(disk, FOLDER).switch("elsewhere")
        assert "does not point" in self.verified(disk).reason  # type: ignore[attr-defined]

    def test_without_the_file_list_drift_is_still_found(self) -> None:
        _, disk = self.installed()
        disk.remove_tree(HOME / "products" / "rules.files")
        with disk.create(FOLDER / "current" / "a.yar") as file:
            file.write(b"x")
        found = self.verified(disk)
        assert not found.intact  # type: ignore[attr-defined]

    def test_repair_installs_the_signed_tree_in_another_slot(self) -> None:
        world, disk = self.installed()
        before = Slots(disk, FOLDER).current()
        with disk.create(FOLDER / "current" / "a.yar") as file:
            file.write(b"x")
        assert updated(world, disk).outcome is Outcome.CURRENT
        report = world.agent(disk).update(repair=True).products[0]
        assert report.outcome is Outcome.INSTALLED
        assert running(disk) == V1
        assert Slots(disk, FOLDER).current() != before
        assert record_on(disk).previous is None

    def test_repair_of_what_is_intact_does_nothing(self) -> None:
        world, disk = self.installed()
        assert world.agent(disk).update(repair=True).products[0].outcome is Outcome.CURRENT


def test_a_full_disk_is_a_disk_error_and_the_old_release_stays() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    updated(world, disk)
    world.publish({**V2, "large": bytes(range(256)) * 400})
    disk.capacity = 5_000
    report = updated_on_full_disk(world, disk)
    assert isinstance(report.error, DiskError)
    disk.capacity = None
    assert running(disk) == V1
    assert updated(world, disk).outcome is Outcome.INSTALLED


def updated_on_full_disk(world: World, disk: SimDisk) -> ProductReport:
    report = world.agent(disk).update()
    assert report.exit_code == 13
    return report.products[0]


def test_one_process_at_a_time() -> None:
    world, disk = World(), fresh_disk()
    agent = world.agent(disk)
    with agent.home.lock(), pytest.raises(BusyError):
        agent.update()


def test_a_damaged_record_says_what_to_do() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    updated(world, disk)
    with disk.create(HOME / "products" / "rules.json") as file:
        file.write(b"{")
    with pytest.raises(ConfigurationError, match="remove it"):
        world.agent(disk).update()


def test_a_record_that_contradicts_itself_says_what_to_do() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    updated(world, disk)
    Records(Home(disk, HOME)).save(record_on(disk).having(state=State.ACTIVATING, current=None))
    report = updated(world, disk)
    assert "remove the record" in (report.reason or "")


class TestFoldersThatPeopleTouch:
    def test_a_folder_that_was_emptied_is_filled_again(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1)
        updated(world, disk)
        disk.remove_tree(FOLDER)
        report = updated(world, disk)
        assert (report.outcome, report.means) == (Outcome.INSTALLED, ("pack",))
        assert running(disk) == V1

    def test_a_link_that_was_removed_comes_back_without_a_fetch(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1)
        updated(world, disk)
        disk.remove(FOLDER / "current")
        asked = len(world.fetcher.asked)
        updated(world, disk)
        assert running(disk) == V1
        assert len(world.fetcher.asked) == asked

    def test_a_base_that_is_gone_leads_to_the_pack(self) -> None:
        world, disk = World(), fresh_disk()
        world.publish(V1)
        updated(world, disk)
        disk.remove_tree(FOLDER)
        world.publish(V2)
        report = updated(world, disk)
        assert report.means == ("pack",)
        assert "is gone from" in (report.reason or "")
        assert running(disk) == V2

    def test_a_folder_named_current_is_not_written_over(self) -> None:
        world, disk = World(), fresh_disk()
        disk.make_folder(FOLDER / "current" / "precious")
        world.publish(V1)
        report = updated(world, disk)
        assert isinstance(report.error, ConfigurationError)
        assert "move it away" in str(report.error)
        assert disk.listing(FOLDER / "current") == ["precious"]

    def test_a_damaged_last_check_is_as_if_there_was_none(self) -> None:
        world, disk = World(), fresh_disk()
        with disk.create(HOME / "last-check.json") as file:
            file.write(b"{")
        assert load_last_check(world.agent(disk).home) is None


def test_a_slot_that_somebody_removed_before_activation_is_staged_again() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    world.engine_says = lambda _: (_ for _ in ()).throw(ConfigurationError("no engine yet"))
    world.publish(V2, "custom")
    assert updated(world, disk, engines=(YARA,)).outcome is Outcome.FAILED
    assert record_on(disk).state is State.PREFLIGHT
    disk.remove_tree(FOLDER / "slots")
    world.engine_says = lambda _: Finished(0, "")
    assert updated(world, disk, engines=(YARA,)).outcome is Outcome.INSTALLED
    assert running(disk) == V2


def test_a_source_that_lies_about_a_blob_is_told_although_another_one_had_it() -> None:
    world, disk = World(), fresh_disk()
    manifest = world.publish(V1)
    path = blob_path(manifest.pack.sha256)
    liar, good = "http://liar.test", "http://good.test"
    world.fetcher.lies[liar, path] = b"x" * len(world.fetcher.blobs[path])
    told = SourceTrouble("http://old.test", Trouble.OLD, "its timestamp is old")
    world.trust.sources_did = (told,)
    report = world.agent(disk, sources=(liar, good)).update()
    assert report.exit_code == 0
    why = "it gave other bytes of a blob than were signed"
    assert report.check.troubles == (told, SourceTrouble(liar, Trouble.REFUSED, why))
    assert load_last_check(Home(disk, HOME)) == report.check


def test_what_sources_did_is_kept_also_where_none_served() -> None:
    world, disk = World(), fresh_disk()
    told = SourceTrouble("http://evil.test", Trouble.REFUSED, "a signature is wrong")
    world.trust.error, world.trust.sources_did = MetadataError("all were refused"), (told,)
    assert world.agent(disk).update().exit_code == 10
    check = load_last_check(Home(disk, HOME))
    assert check is not None
    assert check.troubles == (told,)
