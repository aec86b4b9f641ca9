"""What changed between two releases: fetched from a real origin, opened, read, kept."""

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from console.catalogue.repositories import Following, Origin, following
from fleetward.console.catalogue import comparing
from fleetward.console.catalogue.comparing import ask, ask_again, take_up, work_off_one
from fleetward.console.catalogue.models import Comparison, Release, Stage

pytestmark = pytest.mark.django_db

OLD = {
    "a.yar": b'rule kept { condition: true }\nrule changed { strings: $a = "x" condition: $a }\n',
    "gone.yar": b"rule gone { condition: false }\n",
    "et.rules": b'alert tcp any any -> any 2967 (msg:"Sagevo"; sid:2003250; rev:7;)\n',
    "bin/readme": b"words\n" * 40,
}
NEW = {
    "a.yar": b'rule kept { condition: true }\nrule changed { strings: $a = "y" condition: $a }\n',
    "new.yar": b"rule fresh : worm { condition: false }\n",
    "et.rules": b'#alert tcp any any -> any 2967 (msg:"Sagevo"; sid:2003250; rev:8;)\n',
    "bin/readme": b"words\n" * 41,
}


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Following]:
    with Origin(tmp_path / "origin") as origin, following(origin, tmp_path / "console") as made:
        origin.publish(files=OLD)
        origin.publish(files=NEW)
        made.round()
        yield made


def both() -> tuple[Release, Release]:
    old, new = Release.objects.order_by("seq")
    return old, new


def computed(console: Following) -> Comparison:
    old, new = both()
    row = ask(old, new, console.origin.clock.now())
    assert row.stage == Stage.QUEUED
    assert work_off_one(console.place)
    row.refresh_from_db()
    return row


def test_rules_and_files_of_two_releases(console: Following) -> None:
    row = computed(console)
    assert (row.stage, row.reason) == (Stage.DONE, "")
    result = row.result
    assert result is not None
    assert {key: result["counts"][key] for key in ("added", "removed", "changed")} == {
        "added": 1,
        "removed": 1,
        "changed": 3,
    }
    assert result["added"] == [{"path": "new.yar", "before": None, "after": 39}]
    suricata, yara = result["families"]
    assert suricata["name"] == "Suricata"
    assert suricata["counts"]["disabled"] == suricata["counts"]["changed"] == 1
    assert suricata["changed"][0]["what"] == ["rev: 7 → 8"]
    assert suricata["disabled"][0]["title"] == "Sagevo"
    assert [rule["key"] for rule in yara["added"]] == ["fresh"]
    assert [rule["key"] for rule in yara["removed"]] == ["gone"]
    assert [(rule["key"], rule["what"]) for rule in yara["changed"]] == [
        ("changed", ["what it detects"])
    ]


def test_the_new_tree_comes_by_the_delta_where_it_is_smaller(console: Following) -> None:
    before = len(console.origin.asked)
    assert computed(console).stage == Stage.DONE
    blobs = [path for path in console.origin.asked[before:] if path.startswith("/blobs/")]
    old, new = both()
    smallest = min(new.deltas.all(), key=lambda delta: delta.length)
    assert [path.rpartition("/")[2] for path in blobs] == [old.pack, smallest.sha256]


def test_a_delta_that_is_gone_is_no_end(console: Following) -> None:
    """The origin lost a delta, or it is spoilt: the pack serves as well."""
    _, new = both()
    new.deltas.update(codec="of a later version")
    assert computed(console).stage == Stage.DONE


def test_a_delta_that_the_repository_lost_is_no_end(console: Following) -> None:
    _, new = both()
    for delta in new.deltas.all():
        blobs = console.origin.repository / "blobs" / "sha256"
        (blobs / delta.sha256[:2] / delta.sha256).unlink()
    assert computed(console).stage == Stage.DONE


def test_a_fault_of_the_consoles_own_fails_one_comparison(
    console: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr(comparing, "compare", faulty)
    row = computed(console)
    assert row.stage == Stage.FAILED
    assert "its log" in row.reason


def test_nothing_is_left_on_the_disk(console: Following) -> None:
    computed(console)
    assert not (console.place.folder / comparing.TREES).exists()


def test_it_is_computed_once(console: Following) -> None:
    computed(console)
    old, new = both()
    assert ask(old, new, console.origin.clock.now()).stage == Stage.DONE
    assert not work_off_one(console.place)


def test_a_newer_reader_computes_anew(console: Following) -> None:
    row = computed(console)
    Comparison.objects.update(reader=comparing.READER - 1)
    again = ask(row.old, row.new, console.origin.clock.now())
    assert (again.stage, again.result) == (Stage.QUEUED, None)


def test_a_tree_over_the_limit_is_not_opened(console: Following) -> None:
    """A release of a terabyte must not fill the console's disk."""
    console.place = dataclasses.replace(console.place, max_tree=100)
    row = computed(console)
    assert row.stage == Stage.FAILED
    assert "max_tree" in row.reason
    assert console.origin.asked[-1].startswith("/metadata/") or not [
        path for path in console.origin.asked if path.startswith("/blobs/")
    ]


def test_a_spoilt_pack_is_refused_and_tried_again_when_asked(console: Following) -> None:
    """The web server is taken over: it sends another blob under the pack's digest."""
    old, _ = both()
    pack = console.origin.repository / "blobs" / "sha256" / old.pack[:2] / old.pack
    content = pack.read_bytes()
    pack.write_bytes(bytes(len(content)))
    row = computed(console)
    assert row.stage == Stage.FAILED
    assert "something else" in row.reason
    pack.write_bytes(content)
    ask_again(row, console.origin.clock.now())
    assert work_off_one(console.place)
    row.refresh_from_db()
    assert row.stage == Stage.DONE


def test_a_repository_that_is_away_fails_the_comparison_alone(console: Following) -> None:
    console.origin.serve(console.origin.folder / "nowhere")
    row = computed(console)
    assert row.stage == Stage.FAILED
    assert row.result is None


def test_two_processes_never_take_up_the_same(console: Following) -> None:
    old, new = both()
    now = console.origin.clock.now()
    ask(old, new, now)
    assert take_up(now) is not None
    assert take_up(now) is None
    assert take_up(now + timedelta(minutes=16)) is not None, "the first one's process died"


def test_backwards_too(console: Following) -> None:
    """A rollback: what would the older release lack?"""
    old, new = both()
    ask(new, old, console.origin.clock.now())
    assert work_off_one(console.place)
    result = Comparison.objects.get().result
    assert result is not None
    assert [change["path"] for change in result["added"]] == ["gone.yar"]


def test_old_ones_are_forgotten(console: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "KEPT", 1)
    first = computed(console)
    old, new = both()
    waiting = ask(old, old, console.origin.clock.now())
    ask(new, old, console.origin.clock.now())
    assert work_off_one(console.place)
    assert work_off_one(console.place)
    left = set(Comparison.objects.values_list("pk", flat=True))
    assert first.pk not in left
    assert waiting.pk not in left
    assert len(left) == 1
