"""Which hosts a filter finds: the same whether few or many run what it names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from console.cast import add_site
from console.hosts import MINUTE, add_host, bring, check_in
from fleetward.console.access import EVERY_SITE, Reach
from fleetward.console.fleet import queries
from fleetward.console.fleet.models import Host, HostKey
from fleetward.console.fleet.queries import HostFilter, hosts
from support.fakes import START
from support.status import host_key, product

pytestmark = pytest.mark.django_db


def found(wanted: HostFilter, reach: Reach = EVERY_SITE) -> list[str]:
    """Return the names of hosts, each as often as it is listed."""
    rows = hosts(reach, wanted, START + MINUTE)
    return sorted(rows.values_list("name", flat=True))


def three_hosts() -> None:
    """pc-000 and pc-001 run r2 and r1 of yara, pc-002 has reported nothing."""
    for number in range(3):
        add_host(number)
    bring(check_in(0, products=(product("yara", "r2"), product("files", "r1"))))
    bring(check_in(1, products=(product("yara", "r1"),)))


@pytest.fixture(params=[0, 500], ids=["many", "few"])
def _few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "FEW", request.param)


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (HostFilter(product="yara"), ["pc-000", "pc-001"]),
        (HostFilter(product="files"), ["pc-000"]),
        (HostFilter(product="yara", release="r1"), ["pc-001"]),
        (HostFilter(release="r1"), ["pc-000", "pc-001"]),
        (HostFilter(product="files", release="r2"), []),
        (HostFilter(state="confirmed"), ["pc-000", "pc-001"]),
        (HostFilter(product="nothing"), []),
    ],
)
def test_hosts_by_what_they_run(wanted: HostFilter, names: list[str]) -> None:
    """The release and the state are the named product's own, and no host comes twice."""
    three_hosts()
    assert found(wanted) == names


@pytest.mark.usefixtures("_few")
def test_sites_narrow_what_runs_where() -> None:
    south = add_site("south")
    three_hosts()
    Host.objects.filter(name="pc-001").update(site=south)
    assert found(HostFilter(product="yara"), Reach(every=False, sites=frozenset({south.pk}))) == [
        "pc-001"
    ]


def test_a_key_that_was_replaced_finds_its_host_once() -> None:
    host = add_host(0)
    add_host(1)
    old = host_key(7)
    HostKey.objects.create(
        key=old.id, public=old.public, host=host, standing="replaced", enrolled=START
    )
    for key in (old.id, old.id[:8], host_key(0).id, host_key(0).id[:12]):
        assert found(HostFilter(search=key)) == ["pc-000"]
    assert found(HostFilter(search=host.record)) == ["pc-000"]


class Searching(TestCase):
    """Ids are compared as ranges; each beginning must find what `startswith` would."""

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.text("0123456789abcdef", min_size=16, max_size=16), unique=True, max_size=5),
        st.text("0189af", min_size=8, max_size=16),
    )
    def test_a_beginning_finds_what_begins_so(self, records: list[str], asked: str) -> None:
        records = sorted({*records, asked.ljust(16, "f"), asked.ljust(16, "0")})
        for record in records:
            Host.objects.create(
                record=record, name=record, standing="active", created=START,
                standing_since=START,
            )  # fmt: skip
        rows = hosts(EVERY_SITE, HostFilter(search=asked), START)
        wanted = [record for record in records if asked in record]
        assert sorted(rows.values_list("record", flat=True)) == wanted
