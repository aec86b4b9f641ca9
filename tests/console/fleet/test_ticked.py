"""Hosts that were ticked: asked all together or not at all, and not many for what takes protection."""

import pytest

from console.cast import add_person, signed_in
from console.hosts import add_host
from fleetward.console.fleet import bulk
from fleetward.console.fleet.models import BulkDirective, Directive
from fleetward.console.permissions import Role

pytestmark = pytest.mark.django_db


def ticked(count: int) -> list[str]:
    return [add_host(number).record for number in range(count)]


@pytest.mark.parametrize("kind", ["pause", "roll-back"])
@pytest.mark.parametrize(("count", "asked"), [(20, 20), (21, 0)])
def test_many_are_not_ticked_for_what_takes_protection(kind: str, count: int, asked: int) -> None:
    olga = signed_in(add_person("olga", Role.OPERATOR))
    olga.post(
        "/hosts/ask/",
        {"kind": kind, "product": "yara", "record": ticked(count), "nonce": "ab" * 16},
    )
    assert Directive.objects.count() == asked


def test_an_act_on_ticked_hosts_that_fails_leaves_nothing_to_go_on_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An act that was cut off goes on by its filter, and ticked hosts have none: it would ask others."""

    def power_fails(*_: object) -> None:
        raise KeyboardInterrupt

    olga = signed_in(add_person("olga", Role.OPERATOR))
    records = ticked(3)
    monkeypatch.setattr(bulk, "renumber", power_fails)
    with pytest.raises(KeyboardInterrupt):
        olga.post("/hosts/ask/", {"kind": "update-now", "record": records[:2], "nonce": "ab" * 16})
    assert not BulkDirective.objects.exists()
    assert not Directive.objects.exists()
