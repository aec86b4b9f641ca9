"""The console follows a repository: what is verified becomes rows, what fails becomes a problem."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.core.serializers import serialize

from console.catalogue.repositories import Following, Origin, following
from fleetward.console.catalogue.models import (
    Channel,
    Delta,
    Kind,
    Move,
    MoveKind,
    Product,
    Release,
    Repository,
    Role,
)
from fleetward.core.documents import Policy, RampStep
from fleetward.core.names import ProductName, ReleaseName
from fleetward.origin.products import revoke, set_floor, set_policy

pytestmark = pytest.mark.django_db

YARA = ProductName("yara")
HOUR = timedelta(hours=1)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    with Origin(tmp_path / "origin") as made:
        yield made


@pytest.fixture
def console(origin: Origin, tmp_path: Path) -> Iterator[Following]:
    with following(origin, tmp_path / "console") as made:
        yield made


def everything() -> str:
    """Return all rows that hold what was verified."""
    kinds = (Product, Release, Delta, Channel, Move, Role)
    return "".join(serialize("json", kind.objects.order_by("pk")) for kind in kinds)


def test_releases_become_rows(origin: Origin, console: Following) -> None:
    first = origin.publish(files={"a.yar": b"rule a { condition: true }\n" * 50})
    row = console.round()
    assert (row.problem, row.problem_kind, row.frozen) == ("", "", False)
    assert row.refreshed == row.checked == origin.clock.now()
    assert row.timestamp > 1
    release = Release.objects.get()
    assert (release.product.name, release.name, release.seq) == ("yara", first.release, 1)
    assert (release.tree, release.files) == (first.tree.sha256, 1)
    assert (release.pack, release.pack_length) == (first.pack.sha256, first.pack.length)
    channel = Channel.objects.get()
    assert (channel.name, channel.release, channel.previous) == ("stable", release, None)


def test_a_second_release_is_a_move_and_has_deltas(origin: Origin, console: Following) -> None:
    first = origin.publish(files={"a.yar": b"rule a { condition: true }\n" * 50})
    console.round()
    origin.clock.advance(HOUR)
    second = origin.publish(files={"a.yar": b"rule a { condition: true }\n" * 51})
    console.round()
    channel = Channel.objects.get()
    assert channel.release is not None
    assert channel.previous is not None
    assert (channel.release.name, channel.previous.name) == (second.release, first.release)
    assert channel.since == origin.clock.now()
    assert [(m.kind, m.release, m.previous) for m in Move.objects.order_by("id")] == [
        (MoveKind.FIRST, first.release, ""),
        (MoveKind.RELEASE, second.release, first.release),
    ]
    deltas = Delta.objects.filter(release=channel.release)
    assert {delta.base for delta in deltas} == {first.release}
    assert [delta.sha256 for delta in deltas] == sorted(
        (d.sha256 for d in second.deltas),
        key=lambda s: next(d.length for d in second.deltas if d.sha256 == s),
    )


def test_the_auditor_asks_which_release_when(origin: Origin, console: Following) -> None:
    """Rows of releases may go; the history keeps names, sequence numbers and times."""
    times: list[datetime] = []
    for _ in range(3):
        origin.publish(files={"a": str(len(times)).encode()})
        console.round()
        times.append(origin.clock.now())
        origin.clock.advance(HOUR)
    Release.objects.all().delete()
    moves = list(Move.objects.order_by("id"))
    assert [move.at for move in moves] == times
    assert [move.seq for move in moves] == [1, 2, 3]
    assert all(move.issued <= move.at for move in moves)


def test_an_idle_round_asks_little_and_writes_no_row(origin: Origin, console: Following) -> None:
    origin.publish()
    console.round()
    rows, asked = everything(), len(origin.asked)
    console.round()
    assert everything() == rows
    # The next root, and the timestamp with its ETag, which the server may repeat by itself.
    assert {path.rpartition("/")[2] for path in origin.asked[asked:]} <= {
        *("2.root.json", "timestamp.json")
    }


def test_floor_revocation_and_ramp(origin: Origin, console: Following) -> None:
    first = origin.publish(files={"a": b"1"})
    origin.publish(files={"a": b"2"})
    origin.publish(files={"a": b"3"})
    console.round()
    set_policy(origin.again(), Policy(product=YARA, ramp=(RampStep(age=0, percent=5.0),)))
    set_floor(origin.again(), YARA, 2)
    revoke(origin.again(), YARA, ReleaseName(first.release), "breaks the engine")
    console.round()
    product = Product.objects.get()
    assert product.floor == 2
    assert product.ramp == [{"age": 0, "percent": 5.0}]
    assert list(Release.objects.filter(revoked=True).values_list("name", "reason")) == [
        (first.release, "breaks the engine")
    ]


def test_every_role_has_its_keys_and_its_expiry(origin: Origin, console: Following) -> None:
    origin.publish()
    console.round()
    roles = {role.role: role for role in Role.objects.all()}
    assert set(roles) == {
        *("root", "timestamp", "snapshot", "targets", "fleet", "channels", "releases-yara")
    }
    assert (len(roles["root"].keyids), roles["root"].threshold) == (3, 2)
    assert (len(roles["releases-yara"].keyids), roles["releases-yara"].threshold) == (1, 1)
    assert all(role.expires is not None for role in roles.values())
    assert [role.role for role in Role.objects.all()][:4] == [
        *("root", "timestamp", "snapshot", "targets")
    ]


def test_a_frozen_repository_is_said_and_keeps_its_rows(origin: Origin, console: Following) -> None:
    """Nobody renews the timestamp for an hour: a mirror that is held back looks just so."""
    origin.publish()
    console.round()
    rows = everything()
    row = console.later(HOUR)
    assert row.frozen
    assert row.problem == ""
    assert everything() == rows
    origin.renew()
    assert not console.round().frozen


def test_an_expired_role_stops_nothing_but_the_following(
    origin: Origin, console: Following
) -> None:
    """Everybody goes on holiday: online roles expire after a week; the pages keep what they had."""
    origin.publish()
    console.round()
    rows = everything()
    row = console.later(timedelta(days=8))
    assert row.problem_kind == Kind.TRUST
    assert "expired" in row.problem
    assert row.problem_since == origin.clock.now()
    assert row.frozen
    assert everything() == rows
    since = row.problem_since
    assert console.later(HOUR).problem_since == since, "it is the same problem still"


def test_an_expired_product_leaves_the_others_alone(origin: Origin, console: Following) -> None:
    """A product's team forgets to sign for a month; the other product goes on."""
    origin.publish("yara", {"a": b"1"})
    origin.clock.advance(timedelta(days=20))
    origin.publish("sigma", {"a": b"1"})
    console.round()
    origin.clock.advance(timedelta(days=11))
    origin.publish("sigma", {"a": b"2"})
    row = console.round()
    assert row.problem_kind == Kind.TRUST
    assert "releases-yara expired" in row.problem
    assert Release.objects.filter(product__name="sigma").count() == 2
    yara = Product.objects.get(name="yara")
    assert yara.listed
    assert yara.problem
    assert yara.releases.get().listed
    role = Role.objects.get(role="releases-yara")
    assert role.expires is not None
    assert role.expires < origin.clock.now()
    assert console.later(HOUR).problem, "it is read again in every round, until it is renewed"


def test_a_forged_repository_changes_no_row(
    origin: Origin, console: Following, tmp_path: Path
) -> None:
    """The attacker takes over the web server and serves a repository signed with his own keys."""
    origin.publish()
    console.round()
    rows = everything()
    forged = Origin(tmp_path / "forged", origin.clock, seed=666)
    forged.publish("yara", {"evil.yar": b"rule nothing { condition: false }"})
    for _ in range(3):
        forged.renew()
    origin.serve(forged.repository)
    row = console.round()
    assert row.problem_kind == Kind.TRUST
    assert everything() == rows
    origin.serve()
    row = console.round()
    assert (row.problem, row.problem_since) == ("", None)


def test_a_console_that_begins_with_a_forged_repository_shows_nothing_of_it(
    origin: Origin, console: Following, tmp_path: Path
) -> None:
    forged = Origin(tmp_path / "forged", origin.clock, seed=666)
    forged.publish()
    origin.serve(forged.repository)
    assert console.round().problem_kind == Kind.TRUST
    assert everything() == "[]" * 6


def test_a_replay_is_refused_also_by_a_process_that_knows_less(
    origin: Origin, console: Following, tmp_path: Path
) -> None:
    """The process that follows dies; another, whose trust state is new, is shown the past."""
    origin.publish(files={"a": b"1"})
    past = origin.copied()
    origin.publish(files={"a": b"2"})
    console.round()
    console.follower.leave()
    rows = everything()
    origin.serve(past)
    with following(origin, tmp_path / "other") as other:
        row = other.round()
    assert row.problem_kind == Kind.TRUST
    assert "replays" in row.problem
    assert everything() == rows


def test_a_repository_that_is_away(origin: Origin, console: Following, tmp_path: Path) -> None:
    origin.publish()
    console.round()
    rows = everything()
    empty = tmp_path / "empty"
    (empty / "metadata").mkdir(parents=True)
    origin.serve(empty)
    row = console.round()
    assert row.problem_kind == Kind.NETWORK
    assert everything() == rows


def test_a_missing_anchor_is_the_operators_to_solve(origin: Origin, tmp_path: Path) -> None:
    with following(origin, tmp_path / "console") as console:
        (origin.repository / "metadata" / "1.root.json").rename(tmp_path / "1.root.json")
        row = console.round()
        assert row.problem_kind == Kind.CONFIGURATION
        assert "repository.root" in row.problem
        (tmp_path / "1.root.json").rename(origin.repository / "metadata" / "1.root.json")
        assert console.round().problem == ""


def test_one_process_follows(origin: Origin, console: Following, tmp_path: Path) -> None:
    origin.publish()
    assert console.follower.round()
    with following(origin, tmp_path / "other") as other:
        assert not other.follower.round()
        origin.clock.advance(timedelta(minutes=6))
        assert other.follower.round(), "the lease of the first has ended"
        assert not console.follower.round()
        other.follower.leave()
        assert console.follower.round(), "the other gave it up"


def test_a_process_that_starts_again_goes_on_where_it_was(
    origin: Origin, console: Following
) -> None:
    origin.publish()
    console.round()
    console.follower.leave()
    rows = everything()
    console.restart()
    assert console.round().problem == ""
    assert everything() == rows


def test_a_product_that_is_gone_stays_as_history(origin: Origin, console: Following) -> None:
    origin.publish()
    console.round()
    Product.objects.create(name="gone", seen=origin.clock.now())
    origin.renew()
    console.round()
    assert list(Product.objects.filter(listed=False).values_list("name", flat=True)) == ["gone"]


def test_only_the_row_of_the_repository_is_written_by_a_failure(
    origin: Origin, console: Following
) -> None:
    assert not Repository.objects.exists()
    origin.serve(origin.folder)
    console.round()
    assert Repository.objects.get().refreshed is None
    assert everything() == "[]" * 6
