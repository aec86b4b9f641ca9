"""What a signed repository may say that is wrong, and channels whose rollouts move."""

from dataclasses import replace
from datetime import timedelta

import pytest

from console.cast import add_person, signed_in
from fleetward.console.catalogue.models import (
    Channel,
    Comparison,
    Delta,
    Move,
    MoveKind,
    Product,
    Release,
    Role,
    Stage,
)
from fleetward.console.catalogue.taking import known_manifests, take_view
from fleetward.console.catalogue.viewing import ProductReading, Reader
from fleetward.console.permissions import Role as Role_
from fleetward.core import documents
from fleetward.core.documents import Engine, Manifest, Pack, ReleaseRef, TreeIdentity, Wave
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.wire import layout
from support.fakes import FakeClock
from support.sourceserver import SourceServer
from support.trustfixtures import client, clock, origin, source
from support.trusthost import Host
from support.tufsim import SimFleet

pytestmark = pytest.mark.django_db

__all__ = ["client", "clock", "origin", "source"]

YARA = ProductName("yara")
STABLE = ChannelName("stable")


class Watcher:
    """A console's reading and writing, of whatever the source serves."""

    def __init__(self, host: Host, url: str) -> None:
        self.host = host
        self.url = url
        self.unreadable: list[str] = []

    def look(self) -> dict[ProductName, ProductReading | None]:
        view = self.host.refresh(self.url)
        reader = Reader(view, known_manifests())
        read = {name: reader.product(name) for name in view.products()}
        reader.relays()
        take_view(view, read, self.host.clock.now())
        self.unreadable = reader.unreadable
        return read


@pytest.fixture
def watcher(client: Host, source: SourceServer) -> Watcher:
    return Watcher(client, source.url)


def manifest(seq: int, name: str, tree: str = "a", product: ProductName = YARA) -> Manifest:
    return Manifest(
        product=product,
        release=ReleaseName(name),
        seq=seq,
        created=FakeClock().now(),
        engine=Engine(name="files", min="1", max="2"),
        tree=TreeIdentity(sha256=tree * 64, length=10, files=1),  # type: ignore[arg-type]
        pack=Pack(codec="zstd", sha256="b" * 64, length=1),  # type: ignore[arg-type]
    )


def channel(ref: ReleaseRef, **fields: object) -> documents.Channel:
    made = documents.Channel(product=YARA, channel=STABLE, release=ref, salt="s")
    return replace(made, **fields)  # type: ignore[arg-type]


def sign(fleet: SimFleet, document: documents.Channel) -> None:
    fleet.add_document("channels", layout.channel_target(YARA, STABLE), document)
    fleet.publish("channels")


def test_a_manifest_of_another_release_is_refused_alone(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    """The product's keys sign, by mistake, the manifest of r2 under the name r3."""
    origin.release(1)
    name = layout.manifest_target(YARA, ReleaseName("r3"))
    origin.add_document("releases-yara", name, manifest(2, "r2"))
    origin.publish("releases-yara")
    watcher.look()
    assert list(Release.objects.values_list("name", flat=True)) == ["r1"]
    assert "another release's manifest" in watcher.unreadable[0]
    assert "r3" in Product.objects.get().problem


def test_a_manifest_without_its_form_is_refused_alone(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    origin.release(1)
    origin.add_target("releases-yara", "releases/yara/r9.json", b'{"schema": "of the future"}')
    origin.publish("releases-yara")
    watcher.look()
    assert list(Release.objects.values_list("name", flat=True)) == ["r1"]
    assert "yara r9" in watcher.unreadable[0]


def test_channels_that_cannot_be_read_stay_as_they_were(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    origin.release(1)
    watcher.look()
    origin.add_target("channels", "channels/yara/stable.json", b"[]")
    origin.publish("channels")
    read = watcher.look()[YARA]
    assert read is not None
    assert read.channels is None
    assert Channel.objects.get().listed
    assert Channel.objects.get().points_at == "r1"
    assert "channels of yara" in Product.objects.get().problem


def test_a_floor_without_its_form_leaves_the_product_as_it_was(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    origin.release(1)
    origin.set_floor(1)
    origin.publish("releases-yara")
    watcher.look()
    origin.add_target("releases-yara", "releases/yara/floor.json", b"{}")
    origin.publish("releases-yara")
    assert watcher.look() == {YARA: None}
    assert Product.objects.get().floor == 1
    assert Release.objects.get().listed


def test_a_list_of_relays_without_its_form_is_said(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    origin.add_target("fleet", "fleet/relays.json", b"{}")
    origin.publish("fleet")
    watcher.look()
    assert watcher.unreadable[0].startswith("fleet: ")
    assert Role.objects.get(role="fleet").expires is not None


def test_a_name_that_was_signed_anew_forgets_what_was_computed(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    """Whoever holds the product's keys replaces r2: the old comparison would tell a lie."""
    origin.release(1)
    origin.release(2)
    watcher.look()
    old, new = Release.objects.order_by("seq")
    now = watcher.host.clock.now()
    for pair in ((old, new), (new, old)):
        Comparison.objects.create(
            old=pair[0], new=pair[1], stage=Stage.DONE, reader=1, result={}, asked=now
        )
    name = layout.manifest_target(YARA, ReleaseName("r2"))
    origin.add_document("releases-yara", name, manifest(2, "r2", tree="c"))
    origin.publish("releases-yara")
    watcher.look()
    new.refresh_from_db()
    assert new.tree == "c" * 64
    assert (new.engine_min, new.engine_max) == ("1", "2")
    assert not Comparison.objects.exists()
    assert not Delta.objects.exists()
    assert Channel.objects.get().release is None, "the channel points at the other bytes"


def test_a_release_that_left_the_metadata_stays_as_history(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    origin.release(1)
    origin.release(2)
    watcher.look()
    content = origin.targets("releases-yara").targets.pop("releases/yara/r1.json")
    origin.publish("releases-yara")
    watcher.look()
    assert not Release.objects.get(name="r1").listed
    origin.targets("releases-yara").targets["releases/yara/r1.json"] = content
    origin.publish("releases-yara")
    watcher.look()
    assert Release.objects.get(name="r1").listed, "it came back"


def test_a_channel_that_left_stays_as_history(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    origin.release(1)
    watcher.look()
    origin.targets("channels").targets.clear()
    origin.publish("channels")
    watcher.look()
    assert not Channel.objects.get().listed
    assert Move.objects.count() == 1


def test_the_life_of_a_rollout(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    """Waves open, it halts, it turns back: each is a move that the auditor finds."""
    first = origin.release(1)
    watcher.look()
    second = origin.add_release(2)
    origin.publish("releases-yara")
    waves = (Wave(rings=("canary",)), Wave(percent=10.0), Wave(percent=100.0))
    steps: list[dict[str, object]] = [
        {"open": 1, "state": "running"},
        {"open": 2, "state": "running"},
        {"open": 2, "state": "halted"},
        {"open": 2, "state": "reverting"},
        {"open": 2, "state": "reverting", "salt": "another"},
    ]
    for step in steps:
        watcher.host.clock.advance(timedelta(seconds=1))
        sign(origin, channel(second, previous=first, plan="waves", waves=waves, **step))
        watcher.look()
    salt = Channel.objects.get().salt
    assert salt is not None
    assert bytes(salt) == b"another", "a host's place is computed with it"
    watcher.host.clock.advance(timedelta(seconds=1))
    sign(origin, channel(first))
    watcher.look()
    moves = [(m.kind, m.release, m.open, m.state) for m in Move.objects.order_by("id")]
    assert moves == [
        (MoveKind.FIRST, "r1", 0, "complete"),
        (MoveKind.RELEASE, "r2", 1, "running"),
        (MoveKind.WAVES, "r2", 2, "running"),
        (MoveKind.STATE, "r2", 2, "halted"),
        (MoveKind.STATE, "r2", 2, "reverting"),
        (MoveKind.RELEASE, "r1", 0, "complete"),
    ]
    assert [str(move) for move in Move.objects.order_by("id")][:2] == [
        "first to r1",
        "release to r2",
    ]
    row = Channel.objects.get()
    assert row.release is not None
    assert (row.release.name, row.previous, row.waves) == ("r1", None, [])


def test_a_channel_that_only_online_keys_vouch_for(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    """The steward's key is stolen: the thief points the channel at bytes of his own."""
    origin.release(1)
    watcher.look()
    evil = ReleaseRef(release=ReleaseName("evil"), seq=9, manifest="e" * 64)  # type: ignore[arg-type]
    sign(origin, channel(evil))
    watcher.look()
    row = Channel.objects.get()
    assert (row.release, row.points_at) == (None, "evil")
    assert Move.objects.first().release == "evil", "the attempt is in the history"  # type: ignore[union-attr]
    assert not Release.objects.filter(name="evil").exists()


def test_signed_is_not_sane(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    """A product's signer writes what no column holds; the other products are followed on."""
    origin.add_product("sigma")
    origin.publish("targets", "releases-sigma")
    huge = 2**70
    wild = replace(
        manifest(huge, "r1"),
        engine=Engine(name="e\0" * 5_000, min="\0", max=None),
        tree=TreeIdentity(sha256="a" * 64, length=huge, files=huge),  # type: ignore[arg-type]
        pack=Pack(codec="c\0" * 50, sha256="b" * 64, length=huge),  # type: ignore[arg-type]
    )
    ref = origin.add_document("releases-yara", layout.manifest_target(YARA, wild.release), wild)
    assert ref is not None
    revoked = documents.Revoked(release=wild.release, tree=wild.tree.sha256, reason="\0why")
    floor = documents.Floor(product=YARA, seq=huge, revoked=(revoked,))
    origin.add_document("releases-yara", layout.floor_target(YARA), floor)
    steps = (documents.RampStep(age=huge, percent=5),)
    origin.set_policy(documents.Policy(product=YARA, ramp=steps))
    origin.add_target("releases-yara", "releases/yara/UPPER \0.json", b"{}")
    origin.publish("releases-yara")
    sign(origin, channel(ref, waves=(Wave(rings=("\0" * 500,)),), salt="\0s"))
    origin.release(1, "sigma")
    watcher.look()
    row = Release.objects.get(product__name="yara")
    assert row.seq == row.tree_length == 2**53 - 1
    assert (row.revoked, "\0" in row.reason, len(row.engine)) == (True, False, 200)
    pointer = Channel.objects.get(product__name="yara")
    assert (pointer.release, bytes(pointer.salt or b"")) == (row, b"\0s")
    assert Release.objects.filter(product__name="sigma").count() == 1
    viewer = signed_in(add_person("vera", Role_.VIEWER))
    for url in ("/products/", "/products/yara/", "/products/yara/r1/", "/trust/"):
        assert viewer.get(url).status_code == 200
    watcher.look()
    assert Move.objects.filter(channel__product__name="yara").count() == 1


def test_rows_say_what_they_are(
    origin: SimFleet,
    watcher: Watcher,
) -> None:
    origin.release(1)
    watcher.look()
    release = Release.objects.get()
    assert str(Product.objects.get()) == "yara"
    assert str(release).endswith("r1")
    assert str(Channel.objects.get()) == "stable"
    assert str(Role.objects.first()) == "root"
    delta = Delta(release=release, base="r0", codec="changed-set")
    assert str(delta) == "changed-set from r0"
    assert "to" in str(Comparison(old=release, new=release))
