"""Whom hosts believe as their console, from what consoles print to what is live."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward.adapters.disk import Disk
from fleetward.cli.origin import app
from fleetward.core.consoles import Approver, ConsolePair, Consoles, OfflineSite
from fleetward.core.fleet import Relays
from fleetward.errors import ConfigurationError, UsageError
from fleetward.origin.consoles import (
    WrittenConsoles,
    composed,
    live_consoles,
    read_consoles,
    read_pairs,
    set_consoles,
    standing_consoles,
)
from fleetward.origin.doctor import examine
from fleetward.origin.fleet import live_relays, set_relays
from fleetward.origin.holders import rotate, sign_pending
from fleetward.origin.reporting import pending_sentences, waiting_sentences
from fleetward.origin.steward import steward_once
from fleetward.origin.workshop import Silence
from fleetward.wire.consolekeys import ConsoleKeysFile, encode_console_keys
from fleetward.wire.documents import encode
from origin.rigging import KEYS, made, people_and_steward, require_whole, simdisk, workshop

MAIN = ConsolePair(name="main", signing="1a" * 32, sealing="1b" * 32, url="https://c.example")
NEXT = ConsolePair(name="main", signing="2a" * 32, sealing="2b" * 32, url="https://c.example")
SPARE = ConsolePair(name="spare", signing="3a" * 32, sealing="3b" * 32)
ADA = Approver(name="ada", key="4a" * 32)
SHIP = OfflineSite(site="ship-1", max_age=86_400)
SIGNED = Consoles(keys=(MAIN,), approvers=(ADA,), offline=(SHIP,))
TOML = f"""
[[keys]]
name = "main"
signing = "{MAIN.signing}"
sealing = "{MAIN.sealing}"
url = "https://c.example"

[[approvers]]
name = "ada"
key = "{ADA.key}"

[[offline]]
site = "ship-1"
max_age = 86400
"""


def write(disk: Disk, name: str, content: bytes) -> Path:
    path = Path("/srv", name)
    with disk.create(path) as file:
        file.write(content)
        file.sync()
    return path


# -- reading -----------------------------------------------------------------------------------------


def test_a_person_writes_toml_and_show_prints_json() -> None:
    disk = simdisk()
    wanted = WrittenConsoles(keys=(MAIN,), approvers=(ADA,), offline=(SHIP,))
    assert read_consoles(disk, write(disk, "c.toml", TOML.encode())) == wanted
    assert read_consoles(disk, write(disk, "c.json", encode(SIGNED))) == wanted


@pytest.mark.parametrize(
    ("name", "content", "because"),
    [
        ("c.toml", b"keys = 1", "c.toml"),
        ("c.toml", b"[[key]]", "did you mean 'keys'"),
        ("c.toml", b"\xff", "c.toml"),
        ("c.toml", TOML.replace(MAIN.signing, "aa").encode(), "64 hex digits"),
        ("c.toml", TOML.replace("86400", "0").encode(), "allowed"),
        ("c.json", b"{}", "schema"),
        ("c.json", encode(Relays()), "fleetward.console/1"),
    ],
)
def test_a_mistake_is_named_with_its_file(name: str, content: bytes, because: str) -> None:
    disk = simdisk()
    with pytest.raises(ConfigurationError, match=because):
        read_consoles(disk, write(disk, name, content))


def test_what_consoles_print_is_taken_in_order() -> None:
    disk = simdisk()
    paths = [
        write(disk, f"{n}.json", encode_console_keys(ConsoleKeysFile(keys=keys)))
        for n, keys in enumerate([(MAIN, NEXT), (SPARE,)])
    ]
    assert read_pairs(disk, paths) == (MAIN, NEXT, SPARE)
    assert read_pairs(disk, []) == ()
    with pytest.raises(ConfigurationError, match="there is no"):
        read_pairs(disk, [Path("/srv/absent.json")])
    with pytest.raises(ConfigurationError, match="fleetward console keys --json"):
        read_pairs(disk, [write(disk, "x.json", encode(SIGNED))])


def test_new_keys_leave_approvers_and_offline_sites_as_they_are_signed() -> None:
    assert composed(SIGNED, None, (NEXT, MAIN)) == replace(SIGNED, keys=(NEXT, MAIN))
    assert composed(None, None, (MAIN,)) == Consoles(keys=(MAIN,))


def test_what_is_written_is_the_whole_and_its_keys_may_come_from_consoles() -> None:
    written = WrittenConsoles(approvers=(ADA,))
    assert composed(SIGNED, written, (SPARE,)) == Consoles(keys=(SPARE,), approvers=(ADA,))
    with pytest.raises(ConfigurationError, match="pairs of keys"):
        composed(SIGNED, written, ())
    with pytest.raises(ConfigurationError, match="twice"):
        composed(None, None, (MAIN, MAIN))


# -- signing -----------------------------------------------------------------------------------------


def test_it_is_signed_and_live_beside_the_relays_and_the_same_again_changes_nothing() -> None:
    shop = made()
    listed = Relays(default=("http://r.example",))
    set_relays(shop, listed)
    assert live_consoles(shop) is None
    assert standing_consoles(shop) is None
    change = set_consoles(shop, SIGNED)
    assert change.changed
    assert change.outcome.became_live == ("fleet", "snapshot", "timestamp")
    assert (live_consoles(shop), live_relays(shop)) == (SIGNED, listed)
    assert not set_consoles(shop, SIGNED).changed
    rotated = replace(SIGNED, keys=(NEXT,))
    assert set_consoles(shop, rotated).changed
    assert live_consoles(shop) == rotated
    require_whole(shop.disk)
    found = examine(shop.repository, shop.keyring, shop.clock, Silence())
    assert not [finding for finding in found if finding.severity == "critical"]


def test_two_of_three_people_sign_and_the_steward_finishes() -> None:
    """The fleet keys lie with three people, and the online key with the steward."""
    first, second, steward = people_and_steward(made().disk)

    outcome = set_consoles(first, SIGNED).outcome
    assert outcome.became_live == ()
    assert "fleet waits for 1 more signature(s)" in waiting_sentences(outcome.waiting)[0]
    assert any("adds or changes fleet/console.json" in line for line in pending_sentences(first))
    assert standing_consoles(first) == SIGNED, "the next change goes on from what waits"
    assert sign_pending(second).became_live == ()
    assert live_consoles(first) is None
    assert "fleet" in steward_once(steward).outcome.became_live
    assert live_consoles(first) == SIGNED


def test_whoever_holds_the_online_keys_alone_changes_nothing() -> None:
    """The online key is stolen: the thief writes a document, and nothing of it becomes live."""
    shop = made()
    set_consoles(shop, SIGNED)
    disk = shop.disk
    thief = workshop(disk, keys=Path("/srv/thief"))
    disk.make_folder(Path("/srv/thief"))
    disk.replace(KEYS / "online", Path("/srv/thief/online"))
    outcome = set_consoles(thief, Consoles(keys=(SPARE,))).outcome
    assert outcome.became_live == ()
    assert "fleet" not in steward_once(thief).outcome.became_live
    assert live_consoles(thief) == SIGNED


def test_new_fleet_keys_keep_the_document() -> None:
    shop = made()
    set_consoles(shop, SIGNED)
    rotate(shop, "fleet", 3)
    assert live_consoles(shop) == SIGNED


# -- the command -------------------------------------------------------------------------------------


def run(*words: object) -> None:
    app([str(word) for word in words], prog_name="origin", standalone_mode=False)


def test_the_command_signs_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo, keys, file = tmp_path / "repo", tmp_path / "keys", tmp_path / "console.toml"
    file.write_text(TOML)
    pins = [tmp_path / "main.json", tmp_path / "spare.json"]
    for path, pair in zip(pins, (NEXT, SPARE), strict=True):
        path.write_bytes(encode_console_keys(ConsoleKeysFile(keys=(pair,))))
    run("init", repo, "--keys", keys, "--plain-keys")
    run("console", repo, "--show")
    run("console", repo, file, "--keys", keys)
    run("console", repo, file, "--keys", keys)
    run("console", repo, "--pins", pins[0], "--pins", pins[1], "--keys", keys)
    run("console", repo, "--show")
    spoken = capsys.readouterr().out
    for words in (
        "no console is signed",
        "hosts are to believe 1 console key\n",
        "hosts are to believe 1 console key already",
        "hosts are to believe 2 console keys",
        f"main: {NEXT.id} at https://c.example",
        f"spare: {SPARE.id} at the URL of each token file",
        "approvers: ada",
        "offline site ship-1: a timestamp may be 86,400 s old",
    ):
        assert words in spoken, words


def test_the_command_speaks_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo, keys, file = tmp_path / "repo", tmp_path / "keys", tmp_path / "console.toml"
    file.write_text(TOML)
    run("init", repo, "--keys", keys, "--plain-keys")
    capsys.readouterr()
    run("console", repo, "--show", "--json")
    assert json.loads(capsys.readouterr().out)["keys"] == []
    run("console", repo, file, "--keys", keys, "--json")
    assert json.loads(capsys.readouterr().out)["changed"] is True
    run("console", repo, "--show", "--json")
    shown = capsys.readouterr().out
    again = tmp_path / "again.json"
    again.write_text(shown)
    run("console", repo, again, "--keys", keys, "--json")
    assert json.loads(capsys.readouterr().out)["changed"] is False


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    repo, keys = tmp_path / "repo", tmp_path / "keys"
    run("init", repo, "--keys", keys, "--plain-keys")
    with pytest.raises(UsageError, match="--pins"):
        run("console", repo, "--keys", keys)
    with pytest.raises(UsageError, match="--show"):
        run("console", repo)
