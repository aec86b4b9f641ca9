"""The signed word on the console: what it may say, and what it answers."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.consoles import CONSOLES, Approver, ConsolePair, Consoles, OfflineSite
from fleetward.errors import DocumentError
from support.fakes import START
from support.status import CONSOLE

KEYS = st.binary(min_size=32, max_size=32).map(bytes.hex)


def pair(number: int = 1, **more: str) -> ConsolePair:
    fields = {"name": "main", "signing": f"{number:064x}", "sealing": f"{number + 1000:064x}"}
    return ConsolePair(**{**fields, **more})


def test_a_pair_has_the_id_of_its_signing_key() -> None:
    public = CONSOLE.public
    assert pair(signing=public.signing.hex()).id == public.id


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Main"},
        {"name": ""},
        {"signing": "ab"},
        {"signing": "AB" * 32},
        {"sealing": "zz" * 32},
        {"url": "https://console.example/"},
        {"url": "ftp://console.example"},
    ],
)
def test_what_is_no_pair_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(DocumentError):
        pair(1, **wrong)


def test_there_is_at_least_one_pair_and_room_for_four() -> None:
    for count in (0, CONSOLES.keys + 1):
        with pytest.raises(DocumentError, match="pairs of keys"):
            Consoles(keys=tuple(pair(n) for n in range(count)))
    assert len(Consoles(keys=tuple(pair(n) for n in range(CONSOLES.keys))).keys) == 4


@pytest.mark.parametrize(
    ("more", "because"),
    [
        ({"keys": (pair(1), pair(2, signing=f"{1:064x}"))}, "signing key"),
        ({"keys": (pair(1), pair(2, sealing=f"{1001:064x}"))}, "sealing key"),
        ({"approvers": (Approver(name="ada", key=f"{1:064x}"),)}, "signing key"),
        (
            {"approvers": tuple(Approver(name="ada", key=k * 64) for k in "ab")},
            "approver ada",
        ),
        ({"offline": (OfflineSite(site="x", max_age=1), OfflineSite(site="x", max_age=2))}, "site"),
    ],
)
def test_nothing_is_there_twice(more: dict[str, object], because: str) -> None:
    """An approver's key that also signs for the console would let one person do both."""
    with pytest.raises(DocumentError, match=because):
        Consoles(**{"keys": (pair(),), **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Ada", "", "a b", "x" * 100])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(DocumentError):
        Approver(name=name, key="a" * 64)
    with pytest.raises(DocumentError):
        OfflineSite(site=name, max_age=1)


@pytest.mark.parametrize("age", [0, -1, 366 * 86_400])
def test_ages_are_positive_and_a_year_at_most(age: int) -> None:
    with pytest.raises(DocumentError, match="allowed"):
        OfflineSite(site="ship-1", max_age=age)


@given(KEYS, KEYS, KEYS, KEYS)
def test_only_the_two_keys_of_one_pair_are_named(a: str, b: str, c: str, d: str) -> None:
    """The signing key of one pair with the sealing key of another is nobody's (mix-and-match)."""
    if len({a, b, c, d}) < 4:
        return
    named = Consoles(keys=(pair(signing=a, sealing=b), pair(signing=c, sealing=d)))
    assert named.names(a, b)
    assert named.names(c, d)
    assert not named.names(a, d)
    assert not named.names(c, b)
    assert not named.names(b, a)


@given(st.integers(min_value=1, max_value=10**6), st.integers(min_value=0, max_value=2 * 10**6))
def test_an_offline_site_has_its_own_age(age: int, old: int) -> None:
    named = Consoles(keys=(pair(),), offline=(OfflineSite(site="ship-1", max_age=age),))
    now = START + timedelta(seconds=old)
    assert named.allows("ship-1", START, now) is (old <= age)
    assert not named.allows("lyon", START, now)
    assert not named.allows(None, START, now)
