"""How hosts become known: tokens that are never sent, and what people decide."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from console.hosts import add_host, bring, check_in
from fleetward.adapters.entropy import SystemEntropy
from fleetward.config.console import ConsoleFileSettings
from fleetward.console.audit.chain import Actor, verify_log
from fleetward.console.audit.models import Entry
from fleetward.console.fleet import enrolment, keys, tokens
from fleetward.console.fleet.models import EnrolmentToken, Host, HostKey
from fleetward.console.fleet.tokens import TokenWish
from fleetward.console.ingest.rows import Verdict
from fleetward.console.organisation.models import Site
from fleetward.console.wiring import rewired
from fleetward.core.enrolment import EnrolmentAnswer, Standing
from fleetward.errors import (
    ConfigurationError,
    DocumentError,
    ExpiredError,
    SignatureError,
    UsageError,
)
from fleetward.identity.enrolment import EnrolmentToken as Secret
from fleetward.identity.enrolment import request_enrolment, verify_answer
from fleetward.wire.tokenfile import decode_token_file
from support.fakes import START, FakeClock, SeededEntropy
from support.status import CONSOLE, FACTS, OTHER_CONSOLE, host_key

pytestmark = pytest.mark.django_db

ADA = Actor("user", "ada")


@pytest.fixture(autouse=True)
def _time() -> object:
    with rewired(clock=FakeClock()) as wiring:
        yield wiring


def made(**wish: object) -> EnrolmentToken:
    return tokens.make_token(ADA, TokenWish(**wish))  # type: ignore[arg-type]


def ask(token: EnrolmentToken | Secret, number: int = 0, now: datetime = START) -> EnrolmentAnswer:
    """Host `number` asks; return the answer as it verifies it."""
    secret = token if isinstance(token, Secret) else tokens.secret_of(token.token)
    key = host_key(number)
    asked = request_enrolment(key, CONSOLE.public, secret, FACTS, entropy=SystemEntropy(), now=now)
    content = enrolment.answer_request(asked.envelope, "10.0.0.7", (CONSOLE, OTHER_CONSOLE), now)
    return verify_answer(content, asked.request, [CONSOLE.public.signing])


def test_a_token_enrols_a_host_with_site_and_tags() -> None:
    site = Site.objects.create(name="north", created=START)
    answer = ask(made(site=site, tags=("Lab", "lab", "pc")))
    host = Host.objects.get()
    assert (answer.standing, answer.record) == (Standing.APPROVED, host.record)
    assert (host.name, host.os, host.agent, host.site) == (FACTS.name, FACTS.os, FACTS.agent, site)
    assert [tag.name for tag in host.tags.all()] == ["lab", "pc"]
    assert host.key is not None
    assert (host.key.key, host.key.peer) == (host_key().id, "10.0.0.7")
    assert bring(check_in()) == [Verdict.STORED]
    assert Entry.objects.filter(action="hosts.enrol", actor=host_key().id).exists()
    assert not verify_log().broken


def test_a_one_time_token_enrols_one_host() -> None:
    token = made()
    assert ask(token).standing is Standing.APPROVED
    refused = ask(token, 1)
    assert refused.standing is Standing.REFUSED
    assert "used up" in refused.reason
    assert Host.objects.count() == 1


def test_asking_again_is_safe_and_counts_once() -> None:
    """The answer was lost on its way; the host asks again with its key."""
    token = made(uses=2)
    first, again = ask(token), ask(token)
    assert first.record == again.record
    token.refresh_from_db()
    assert token.used == 1
    assert Host.objects.count() == 1


def test_a_counted_token_enrols_as_many_as_it_says() -> None:
    token = made(uses=3)
    standings = [ask(token, number).standing for number in range(5)]
    assert standings == [Standing.APPROVED] * 3 + [Standing.REFUSED] * 2


def test_a_token_expires() -> None:
    token = made(lifetime=timedelta(hours=1))
    assert ask(token, now=START + timedelta(minutes=61)).standing is Standing.REFUSED


def test_a_revoked_token_enrols_nobody_more() -> None:
    token = made(uses=2)
    ask(token)
    tokens.revoke_token(ADA, token)
    assert ask(token, 1).standing is Standing.REFUSED
    assert ask(token).standing is Standing.APPROVED, "who is enrolled stays"


def test_a_relay_that_carries_a_request_cannot_enrol_a_key_of_its_own() -> None:
    """It sees the token's name at most; without the secret its MAC is wrong."""
    token = made()
    forged = Secret(token.token, b"\x07" * 32)
    with pytest.raises(SignatureError):
        ask(forged)
    assert not Host.objects.exists()


def test_a_token_that_was_never_made_is_refused_even_with_its_right_secret() -> None:
    with pytest.raises(SignatureError):
        ask(tokens.secret_of("ab" * 8))


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(DocumentError):
        enrolment.answer_request(b"{}", "", (CONSOLE,), START)


def test_a_request_of_yesterday_is_refused() -> None:
    token = made()
    key = host_key()
    asked = request_enrolment(
        key,
        CONSOLE.public,
        tokens.secret_of(token.token),
        FACTS,
        entropy=SystemEntropy(),
        now=START,
    )
    with pytest.raises(ExpiredError):
        enrolment.answer_request(asked.envelope, "", (CONSOLE,), START + timedelta(hours=20))


# -- reinstalled hosts -------------------------------------------------------------------------------


def test_a_token_bound_to_a_record_brings_a_reinstalled_host_back_to_it() -> None:
    host = add_host()
    bring(check_in(0))
    answer = ask(made(host=host), 1)
    host.refresh_from_db()
    assert answer.record == host.record
    assert host.key == HostKey.objects.get(key=host_key(1).id)
    assert HostKey.objects.get(key=host_key(0).id).standing == "replaced"
    assert bring(check_in(1)) == [Verdict.STORED]


def test_a_bound_token_brings_a_revoked_host_back() -> None:
    host = add_host()
    enrolment.revoke(ADA, host)
    assert bring(check_in(0)) == [Verdict.REVOKED]
    ask(made(host=host), 1)
    assert bring(check_in(0), check_in(1)) == [Verdict.REVOKED, Verdict.STORED]


# -- approval ----------------------------------------------------------------------------------------


def test_a_person_decides_where_the_token_says_so() -> None:
    token = made(needs_approval=True)
    assert ask(token).standing is Standing.PENDING
    assert bring(check_in()) == [Verdict.PENDING]
    key = HostKey.objects.get()
    assert key.host.standing == "pending"
    enrolment.approve(ADA, key)
    answer = ask(token)
    assert (answer.standing, answer.record) == (Standing.APPROVED, Host.objects.get().record)
    assert bring(check_in()) == [Verdict.STORED]


def test_a_person_knows_the_reinstalled_host() -> None:
    old = add_host()
    ask(made(needs_approval=True), 1)
    enrolment.approve(ADA, HostKey.objects.get(key=host_key(1).id), joins=old)
    assert Host.objects.get() == old
    assert HostKey.objects.get(key=host_key(0).id).standing == "replaced"
    assert bring(check_in(1)) == [Verdict.STORED]


def test_a_person_refuses() -> None:
    token = made(needs_approval=True)
    ask(token)
    enrolment.refuse(ADA, HostKey.objects.get())
    answer = ask(token)
    assert (answer.standing, answer.reason) == (Standing.REFUSED, "this key was refused")
    assert bring(check_in()) == [Verdict.REVOKED]


# -- revoking, retiring, clones ------------------------------------------------------------------------


def test_a_revoked_host_is_heard_no_more_and_told_so() -> None:
    token = made()
    ask(token)
    enrolment.revoke(ADA, Host.objects.get())
    assert bring(check_in()) == [Verdict.REVOKED]
    assert ask(token).standing is Standing.REFUSED
    entry = Entry.objects.order_by("-seq").first()
    assert entry is not None
    assert (entry.action, entry.before, entry.after) == (
        "hosts.revoke",
        '{"standing":"active"}',
        '{"standing":"revoked"}',
    )


def test_a_retired_host_comes_back_by_itself() -> None:
    host = add_host()
    enrolment.retire(ADA, host)
    assert Host.objects.get().standing == "retired"
    assert bring(check_in()) == [Verdict.STORED]
    assert Host.objects.get().standing == "active"


def test_a_settled_clone_is_shown_again_with_the_next_sign() -> None:
    host = add_host()
    bring(check_in(n=1))
    bring(check_in(n=1, relay="twin"))
    host.refresh_from_db()
    assert host.clone_sign
    enrolment.settle_clone(ADA, host)
    assert not Host.objects.get().clone_sign
    bring(check_in(n=1, relay="twin"))
    assert Host.objects.get().clone_sign


# -- tokens and their file ---------------------------------------------------------------------------


def test_the_file_enrols_and_pins_the_console(tmp_path: Path) -> None:
    with rewired(settings=ConsoleFileSettings(state=tmp_path, url="https://console.example/")):
        token = made()
        console = keys.console_keys()[0]
        file = decode_token_file(tokens.token_file(ADA, token, console))
    assert file.pins.console == "https://console.example"
    assert file.pins.signing_keys() == (console.public.signing,)
    assert file.pins.sealing_key() == console.public.sealing
    assert Secret.parse(file.token).id == token.token


@pytest.mark.parametrize("listen", ["0.0.0.0:8443", "[::]:8443"])
def test_a_console_that_does_not_know_its_url_hands_no_file_out(
    tmp_path: Path, listen: str
) -> None:
    """Hosts would be told to report to 0.0.0.0; and the audit log must not say that they were."""
    token = made()
    before = Entry.objects.count()
    with (
        rewired(settings=ConsoleFileSettings(state=tmp_path, listen=listen)),
        pytest.raises(UsageError, match="--url"),
    ):
        tokens.token_file(ADA, token, keys.console_keys()[0])
    assert Entry.objects.count() == before


def test_a_token_that_is_used_up_has_no_file() -> None:
    token = made()
    ask(token)
    token.refresh_from_db()
    with pytest.raises(UsageError):
        tokens.token_file(ADA, token, CONSOLE)


def test_no_secret_is_in_the_database() -> None:
    token = made()
    secret = tokens.secret_of(token.token).text()
    everything = repr(list(EnrolmentToken.objects.values())) + repr(list(Entry.objects.values()))
    assert secret.rpartition(".")[2] not in everything


@pytest.mark.parametrize(
    "wish",
    [
        {"lifetime": timedelta()},
        {"lifetime": timedelta(days=91)},
        {"uses": 0},
        {"uses": 10**6},
        {"tags": ("no word",)},
        {"tags": tuple(f"t{n}" for n in range(21))},
    ],
)
def test_wishes_out_of_range_are_refused(wish: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        made(**wish)


def test_a_token_for_a_record_is_for_one() -> None:
    with pytest.raises(UsageError):
        made(host=add_host(), uses=2)


# -- the console's keys --------------------------------------------------------------------------------


def test_a_token_file_of_before_the_rotation_enrols_while_the_pair_before_still_opens() -> None:
    """A host waited for approval while the keys were switched; it believes both, as is signed."""
    secret, key = tokens.secret_of(made().token), host_key(1)
    entropy = SystemEntropy()
    asked = request_enrolment(key, OTHER_CONSOLE.public, secret, FACTS, entropy=entropy, now=START)
    content = enrolment.answer_request(asked.envelope, "", (CONSOLE, OTHER_CONSOLE), START)
    answer = verify_answer(content, asked.request, [CONSOLE.public.signing])
    assert answer.standing is Standing.APPROVED
    with pytest.raises(SignatureError):
        enrolment.answer_request(asked.envelope, "", (CONSOLE,), START)


def test_keys_are_made_once_and_the_previous_pair_still_opens(tmp_path: Path) -> None:
    with rewired(settings=ConsoleFileSettings(state=tmp_path), entropy=SeededEntropy(1)):
        first = keys.console_keys()
        assert [k.public for k in keys.console_keys()] == [k.public for k in first]
        (tmp_path / keys.KEY_FILE).rename(tmp_path / keys.PREVIOUS_FILE)
        now = keys.console_keys()
        assert len(now) == 2
        assert now[1].public == first[0].public != now[0].public


def test_keys_lie_beside_an_sqlite_database(tmp_path: Path) -> None:
    with rewired(settings=ConsoleFileSettings(db=f"sqlite:///{tmp_path}/console.db")):
        assert keys.key_paths() == (tmp_path / keys.KEY_FILE,)
        assert keys.pins(keys.console_keys()[0]).console == "http://127.0.0.1:8443"


def test_without_a_folder_there_are_no_keys() -> None:
    with rewired(settings=ConsoleFileSettings()), pytest.raises(ConfigurationError):
        keys.keys_folder()


# -- many at once -------------------------------------------------------------------------------------


def believed(token: EnrolmentToken | Secret, *numbers: int) -> list[enrolment.Asked]:
    """What hosts ask, verified, as if it came together."""
    secret = token if isinstance(token, Secret) else tokens.secret_of(token.token)
    asked = [
        request_enrolment(
            host_key(n), CONSOLE.public, secret, FACTS, entropy=SystemEntropy(), now=START
        )
        for n in numbers
    ]
    return [
        enrolment.Asked(enrolment.believe(a.envelope, (CONSOLE,), START), f"10.0.0.{n}")
        for a, n in zip(asked, numbers, strict=True)
    ]


def answered(group: list[enrolment.Asked]) -> list[EnrolmentAnswer | SignatureError]:
    found = enrolment.answer_all(group, CONSOLE, START)
    return [
        one
        if isinstance(one, SignatureError)
        else verify_answer(one, asked.verified.request, [CONSOLE.public.signing])
        for one, asked in zip(found, group, strict=True)
    ]


def standings(group: list[enrolment.Asked]) -> list[Standing | None]:
    return [None if isinstance(a, SignatureError) else a.standing for a in answered(group)]


def test_a_group_uses_a_token_exactly_as_often_as_it_may() -> None:
    token = made(uses=3)
    assert (
        standings(believed(token, 1, 2, 3, 4, 5))
        == [Standing.APPROVED] * 3 + [Standing.REFUSED] * 2
    )
    token.refresh_from_db()
    assert (token.used, Host.objects.count(), HostKey.objects.count()) == (3, 3, 3)
    assert standings(believed(token, 2, 6)) == [Standing.APPROVED, Standing.REFUSED]


def test_one_key_twice_in_a_group_counts_once() -> None:
    token = made(uses=2)
    group = believed(token, 1, 1, 2)
    assert standings(group) == [Standing.APPROVED] * 3
    token.refresh_from_db()
    assert token.used == 2
    first, again, other = answered(group)
    assert isinstance(first, EnrolmentAnswer)
    assert isinstance(again, EnrolmentAnswer)
    assert isinstance(other, EnrolmentAnswer)
    assert first.record == again.record != other.record


def test_a_group_may_have_several_tokens() -> None:
    """Each host gets what its own token says; one with a token of another console gets nothing."""
    north = Site.objects.create(name="north", created=START)
    to_north, to_ask = made(uses=9, site=north, tags=("lab", "pc")), made(needs_approval=True)
    record = add_host(7)
    to_old = made(host=record)
    foreign = tokens.secret_of("0" * 16)
    group = [
        *believed(to_north, 1),
        *believed(foreign, 2),
        *believed(to_ask, 3),
        *believed(to_old, 4),
        *believed(to_north, 5),
    ]
    assert standings(group) == [
        Standing.APPROVED,
        None,
        Standing.PENDING,
        Standing.APPROVED,
        Standing.APPROVED,
    ]
    for number in (1, 5):
        host = Host.objects.get(key__key=host_key(number).id)
        assert (host.site, host.standing, host.key.peer if host.key else "") == (
            north,
            "active",
            f"10.0.0.{number}",
        )
        assert [tag.name for tag in host.tags.all()] == ["lab", "pc"]
    waiting = HostKey.objects.get(key=host_key(3).id)
    assert (waiting.standing, waiting.host.standing, waiting.host.key) == (
        "pending", "pending", None,
    )  # fmt: skip
    assert not waiting.host.tags.exists()
    record.refresh_from_db()
    assert record.key is not None
    assert record.key.key == host_key(4).id
    assert HostKey.objects.get(key=host_key(7).id).standing == "replaced"
    assert bring(check_in(1), check_in(5)) == [Verdict.STORED] * 2


def test_a_group_is_in_the_log_host_by_host() -> None:
    assert standings(believed(made(uses=3), 1, 2, 3)) == [Standing.APPROVED] * 3
    rows = Entry.objects.filter(action="hosts.enrol", actor_kind="host").order_by("seq")
    assert [(row.actor, row.address) for row in rows] == [
        (host_key(n).id, f"10.0.0.{n}") for n in (1, 2, 3)
    ]
    assert [row.subject for row in rows] == [
        f"host:{key.host.record}" for key in HostKey.objects.order_by("pk")
    ]
    verdict = verify_log()
    assert (verdict.broken, verdict.entries) == ("", Entry.objects.count())


class Repeating(SystemEntropy):
    """Draws the same record's name twice, as no real one ever will."""

    def __init__(self) -> None:
        self.drawn = 0

    def token(self, count: int) -> bytes:
        self.drawn += 1
        return max(2, self.drawn).to_bytes(count, "big")


def test_what_the_database_refuses_of_a_group_is_asked_again_one_by_one() -> None:
    token = made(uses=2)
    with rewired(entropy=Repeating()):
        assert standings(believed(token, 1, 2)) == [Standing.APPROVED] * 2
    token.refresh_from_db()
    assert (token.used, Host.objects.count()) == (2, 2)
    assert not verify_log().broken
