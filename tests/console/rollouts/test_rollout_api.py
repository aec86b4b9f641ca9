"""The API of rollouts, as a program uses it."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from console.cast import SetClock, add_person, add_site, bearing, token_of
from console.rollouts.plans import (
    HOUR,
    MINUTE,
    add_channel,
    add_follower,
    add_release,
    numbers,
    tell,
)
from fleetward.console.catalogue.models import Channel, Product, Release
from fleetward.console.fleet.models import Host
from fleetward.console.permissions import Role, Scope
from fleetward.console.rollouts.counting import count_when_due
from fleetward.console.wiring import rewired
from support.fakes import START

pytestmark = pytest.mark.django_db

EARLY, LATE = numbers(0, 20), numbers(20, 100)
ROLLOUT = "/api/v1/rollouts/yara/stable"


@pytest.fixture(autouse=True)
def _now() -> Iterator[None]:
    with rewired(clock=SetClock(START)):
        yield


@pytest.fixture
def program() -> Client:
    return bearing(token_of(add_person("vera", Role.VIEWER), Scope.READ))


def ask(program: Client, path: str, status: int = 200, **query: str | int) -> Any:  # noqa: ANN401 (JSON)
    answer = program.get(path, query)
    assert answer.status_code == status, answer.content
    return answer.json()


def explained(program: Client, host: Host | str) -> dict[str, Any]:
    text = host if isinstance(host, str) else host.record
    found: dict[str, Any] = ask(program, f"{ROLLOUT}/explain", host=text)
    return found


def steps(told: dict[str, Any]) -> dict[str, bool | None]:
    return {step["id"]: step["holds"] for step in told["steps"]}


class TestRollouts:
    def test_a_rollout_in_figures(self, program: Client) -> None:
        add_channel()
        add_follower(EARLY[0], "r2", since=START - HOUR / 2)
        tell(add_follower(EARLY[1], state="rejected", since=START), "rejected", "no rules left")
        add_follower(LATE[0])
        count_when_due(START)
        found = ask(program, ROLLOUT)
        assert (found["product"], found["channel"], found["release"]) == ("yara", "stable", "r2")
        assert (found["seq"], found["previous"], found["state"]) == (2, "r1", "running")
        assert (found["plan"], found["open"], found["counted"]) == (
            "waves",
            2,
            START.isoformat().replace("+00:00", "Z"),
        )
        assert [wave["number"] for wave in found["waves"]] == [1, 2, 3]
        second = found["waves"][1]
        assert (second["rings"], second["percent"]) == ([], 20.0)
        assert second["evidence"] == {
            "hosts": 2,
            "took": 2,
            "confirmed": 1,
            "trying": 0,
            "failed": 1,
            "silent": 0,
            "vanished": 0,
            "behind": 0,
            "away": 0,
            "waiting": 0,
        }
        assert found["waves"][2]["opened"] is None
        assert found["evidence"]["hosts"] == 3
        assert found["reasons"] == [{"kind": "rejected", "words": "no rules left", "hosts": 1}]
        assert "It failed on 1 host: 1 refused it (no rules left)." in found["sentences"]

    def test_the_list_pages_and_filters(self, program: Client) -> None:
        for number in range(5):
            add_channel(f"p{number}", state="complete" if number % 2 else "running")
        page = ask(program, "/api/v1/rollouts", limit=2)
        names = [item["product"] for item in page["items"]]
        while page["next"]:
            page = ask(program, "/api/v1/rollouts", limit=2, cursor=page["next"])
            names += [item["product"] for item in page["items"]]
        assert names == ["p0", "p1", "p2", "p3", "p4"]
        items = ask(program, "/api/v1/rollouts", state="open")["items"]
        assert [item["product"] for item in items] == ["p0", "p2", "p4"]
        assert ask(program, "/api/v1/rollouts", search="p3")["items"][0]["counted"] is None
        assert ask(program, "/api/v1/rollouts", 422, state="odd")["status"] == 422

    def test_hosts_page_and_filter(self, program: Client) -> None:
        add_channel()
        hosts = [add_follower(number) for number in EARLY[:3]]
        failed = add_follower(EARLY[3], state="rolled-back", since=START)
        tell(failed, detail="sig 12")
        late = add_follower(LATE[0])
        count_when_due(START)
        page = ask(program, f"{ROLLOUT}/hosts", standing="behind", limit=2)
        found = (
            page["items"]
            + ask(program, f"{ROLLOUT}/hosts", standing="behind", limit=2, cursor=page["next"])[
                "items"
            ]
        )
        assert {item["record"] for item in found} == {host.record for host in hosts}
        (item,) = ask(program, f"{ROLLOUT}/hosts", standing="failed")["items"]
        assert (item["record"], item["wave"]) == (failed.record, 2)
        assert item["reason"] == "rolled-back: sig 12"
        (item,) = ask(program, f"{ROLLOUT}/hosts", wave=3)["items"]
        assert (item["record"], item["standing"]) == (late.record, "waiting")
        ask(program, f"{ROLLOUT}/hosts", 422, wave=0)

    def test_an_unchanged_rollout_costs_no_body(self, program: Client) -> None:
        add_channel()
        first = program.get(ROLLOUT)
        again = program.get(ROLLOUT, headers={"If-None-Match": first["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        Channel.objects.update(open=3)
        assert program.get(ROLLOUT, headers={"If-None-Match": first["ETag"]}).status_code == 200

    def test_what_is_not_there_is_a_problem(self, program: Client) -> None:
        answer = program.get("/api/v1/rollouts/none/stable")
        assert answer.status_code == 404
        assert answer["Content-Type"] == "application/problem+json"
        for path in ("hosts", "explain?host=x"):
            assert program.get(f"/api/v1/rollouts/none/stable/{path}").status_code == 404

    def test_who_may_not_read_is_told(self) -> None:
        add_channel()
        assert Client().get(ROLLOUT).status_code == 401
        wrong = bearing(token_of(add_person("vera", Role.VIEWER), Scope.AUDIT))
        assert ask(wrong, ROLLOUT, 403)["status"] == 403

    def test_a_token_of_one_site_counts_its_hosts_alone(self) -> None:
        add_channel()
        berlin = add_site("berlin")
        here, there = add_follower(EARLY[0], site=berlin), add_follower(EARLY[1])
        tell(there, detail="elsewhere")
        count_when_due(START)
        olga = add_person("olga", Role.OPERATOR, sites=(berlin,))
        program = bearing(token_of(olga, Scope.READ))
        assert ask(program, ROLLOUT)["evidence"]["hosts"] == 1
        (item,) = ask(program, f"{ROLLOUT}/hosts")["items"]
        assert item["record"] == here.record
        ask(program, f"{ROLLOUT}/explain", 404, host=there.record)
        assert "elsewhere" not in program.get(ROLLOUT).content.decode()


class TestExplain:
    def test_a_host_is_named_by_record_key_or_name(self, program: Client) -> None:
        add_channel()
        host, other = add_follower(EARLY[0]), add_follower(EARLY[1])
        assert host.key is not None
        for text in (host.record, host.key.key, host.name, host.name.upper()):
            assert explained(program, text)["record"] == host.record
        assert (
            "no host 'nobody'" in ask(program, f"{ROLLOUT}/explain", 404, host="nobody")["detail"]
        )
        Host.objects.filter(pk=other.pk).update(name=host.name)
        told = ask(program, f"{ROLLOUT}/explain", 409, host=host.name)
        assert "give a record's id" in told["detail"]
        ask(program, f"{ROLLOUT}/explain", 422)
        ask(program, f"{ROLLOUT}/explain", 422, host="\0")

    def test_it_runs_it(self, program: Client) -> None:
        add_channel()
        told = explained(program, add_follower(EARLY[0], "r2", since=START - HOUR / 2))
        assert (told["has_it"], told["standing"], told["wave"]) == (True, "confirmed", 2)
        assert 0 <= told["place"] < 20
        assert set(steps(told).values()) <= {True, None}
        assert list(steps(told)) == [
            "channel",
            "signed",
            "not-revoked",
            "floor",
            "wave",
            "ring",
            "ramp",
            "heard",
            "state",
        ]

    def test_its_wave_is_not_open(self, program: Client) -> None:
        add_channel()
        told = explained(program, add_follower(LATE[0]))
        assert (told["has_it"], told["standing"], told["wave"]) == (False, "waiting", 3)
        assert steps(told)["wave"] is False
        assert told["conclusion"].endswith("since the host's wave is not open.")

    def test_its_ring_lets_it_in_early(self, program: Client) -> None:
        add_channel(open=1)
        told = explained(program, add_follower(LATE[0], wave=0))
        assert (told["standing"], told["wave"], steps(told)["wave"]) == ("behind", 1, True)
        assert "The host says that it is in wave 1." in [s["words"] for s in told["steps"]]
        assert told["conclusion"].endswith("it does so at its next check.")

    def test_the_floor_revocation_and_missing_signature_are_named(self, program: Client) -> None:
        add_channel()
        host = add_follower(EARLY[0])
        Product.objects.update(floor=3)
        Release.objects.filter(name="r2").update(revoked=True, reason="stops the engine")
        told = explained(program, host)
        assert (steps(told)["floor"], steps(told)["not-revoked"]) == (False, False)
        assert "it is revoked and it lies under the floor" in told["conclusion"]
        assert "It is revoked: stops the engine." in [step["words"] for step in told["steps"]]
        Channel.objects.update(release=None, points_at="evil")
        told = explained(program, host)
        assert steps(told)["signed"] is False
        assert "floor" not in steps(told)
        assert "the release keys do not vouch for it" in told["conclusion"]

    def test_the_ramp_says_when_it_admits_the_host(self, program: Client) -> None:
        add_channel()
        host = add_follower(EARLY[0])
        ramp = [{"age": 0, "percent": 0.0}, {"age": 7_200, "percent": 100.0}]
        Product.objects.update(ramp=ramp)
        told = explained(program, host)
        assert steps(told)["ramp"] is False
        (words,) = [step["words"] for step in told["steps"] if step["id"] == "ramp"]
        assert words.endswith("at 2026-11-24 03:00 UTC.")
        with rewired(clock=SetClock(START + HOUR)):
            assert steps(explained(program, host))["ramp"] is True
        Product.objects.update(ramp=[{"age": 0, "percent": 0.0}])
        assert "ramp ends before its place" in str(explained(program, host)["steps"])
        Release.objects.filter(name="r2").update(urgent=True)
        assert steps(explained(program, host))["ramp"] is True

    def test_it_failed_there(self, program: Client) -> None:
        add_channel()
        host = add_follower(EARLY[0], state="rolled-back", since=START - MINUTE)
        tell(host, detail="sig 12: syntax error")
        told = explained(program, host)
        assert (told["standing"], told["reason"]) == ("failed", "sig 12: syntax error")
        assert told["conclusion"].endswith("tried r2 and does not run it: sig 12: syntax error.")

    def test_it_is_silent_or_away(self, program: Client) -> None:
        add_channel()
        took = add_follower(EARLY[0], "r2", "trial", since=START - HOUR, seen=START - HOUR)
        assert "took r2, and was not heard from since" in explained(program, took)["conclusion"]
        away = add_follower(EARLY[1], seen=START - 9 * HOUR)
        told = explained(program, away)
        assert (told["standing"], steps(told)["heard"]) == ("away", False)
        never = explained(program, add_follower(EARLY[2], seen=None))
        assert "is not heard from" in never["conclusion"]

    def test_it_is_on_the_way(self, program: Client) -> None:
        add_channel()
        fetching = explained(program, add_follower(EARLY[0], state="staging"))
        assert fetching["conclusion"].endswith("is taking r2 up.")
        trial = explained(program, add_follower(EARLY[1], "r2", "trial", since=START))
        assert trial["conclusion"].endswith("is trying r2.")

    def test_it_follows_another_channel_or_none(self, program: Client) -> None:
        add_channel()
        told = explained(program, add_follower(EARLY[0], channel="canary"))
        assert (told["standing"], steps(told)["channel"]) == (None, False)
        assert "follows yara@canary, not @stable" in told["conclusion"]
        told = explained(program, add_follower(EARLY[1], product="sigma"))
        assert "has not reported yara" in told["conclusion"]

    def test_in_no_wave_and_without_a_plan(self, program: Client) -> None:
        row = add_channel(waves=[{"rings": [], "percent": 20}], open=1)
        host = add_follower(LATE[0])
        told = explained(program, host)
        assert (told["wave"], steps(told)["wave"]) == (None, False)
        assert "ring" not in steps(told)
        Channel.objects.filter(pk=row.pk).update(plan="now", waves=[], open=0)
        told = explained(program, host)
        assert (told["wave"], told["place"], steps(told)["wave"]) == (1, None, True)

    def test_it_says_of_the_release_what_the_channel_points_at_now(self, program: Client) -> None:
        row = add_channel()
        host = add_follower(EARLY[0], "r2", since=START - HOUR / 2)
        third = add_release(Product.objects.get(), 3)
        Channel.objects.filter(pk=row.pk).update(release=third, points_at="r3", since=START)
        told = explained(program, host)
        assert (told["release"], told["has_it"]) == ("r3", False)
