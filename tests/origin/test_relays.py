"""The signed list of relays, from a person's file to what is live."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward.adapters.disk import Disk
from fleetward.cli.origin import app
from fleetward.core.fleet import Relays, Site
from fleetward.errors import ConfigurationError, UsageError
from fleetward.origin.doctor import examine
from fleetward.origin.fleet import live_relays, read_relays, set_relays
from fleetward.origin.holders import rotate, sign_pending
from fleetward.origin.reporting import pending_sentences, waiting_sentences
from fleetward.origin.steward import steward_once
from fleetward.origin.workshop import Silence
from fleetward.wire.documents import encode
from origin.rigging import made, people_and_steward, require_whole, simdisk

LYON = Site(name="lyon", subnets=("10.2.0.0/16",), relays=("http://relay.lyon.example:2967",))
FLEET = Relays(origins=("https://o.example",), sites=(LYON,))
TOML = """
origins = ["https://o.example/"]

[[sites]]
name = "lyon"
subnets = ["10.2.0.0/16"]
relays = ["http://relay.lyon.example:2967/"]
"""


def write(disk: Disk, name: str, content: bytes) -> Path:
    path = Path("/srv", name)
    with disk.create(path) as file:
        file.write(content)
        file.sync()
    return path


def test_what_a_person_writes_becomes_canonical() -> None:
    disk = simdisk()
    assert read_relays(disk, write(disk, "r.toml", TOML.encode())) == FLEET
    assert read_relays(disk, write(disk, "r.json", encode(FLEET))) == FLEET
    spelled = TOML.replace("10.2.0.0/16", "2001:DB8:0::/48").encode()
    (site,) = read_relays(disk, write(disk, "r.toml", spelled)).sites
    assert site.subnets == ("2001:db8::/48",)


@pytest.mark.parametrize(
    ("name", "content", "because"),
    [
        ("r.toml", b"sites = 1", "r.toml"),
        ("r.toml", b"[[site]]", "did you mean 'sites'"),
        ("r.toml", b"\xff", "r.toml"),
        ("r.toml", TOML.replace("10.2.0.0/16", "10.2.0.1/16").encode(), "host bits"),
        ("r.toml", TOML.replace("https://o", "ftp://o").encode(), "no URL"),
        ("r.json", b"{}", "schema"),
    ],
)
def test_a_mistake_is_named_with_its_file(name: str, content: bytes, because: str) -> None:
    disk = simdisk()
    with pytest.raises(ConfigurationError, match=because):
        read_relays(disk, write(disk, name, content))
    with pytest.raises(ConfigurationError, match="there is no"):
        read_relays(disk, Path("/srv/absent.toml"))


def test_a_list_is_signed_and_live_and_the_same_again_changes_nothing() -> None:
    shop = made()
    assert live_relays(shop) is None
    change = set_relays(shop, FLEET)
    assert change.changed
    assert change.outcome.became_live == ("fleet", "snapshot", "timestamp")
    assert live_relays(shop) == FLEET
    assert not set_relays(shop, FLEET).changed
    other = replace(FLEET, default=("http://d.example",))
    assert set_relays(shop, other).changed
    assert live_relays(shop) == other
    require_whole(shop.disk)
    found = examine(shop.repository, shop.keyring, shop.clock, Silence())
    assert not [finding for finding in found if finding.severity == "critical"]


def test_two_of_three_people_sign_and_the_steward_finishes() -> None:
    """The fleet keys lie with three people, and the online key with the steward."""
    first, second, steward = people_and_steward(made().disk)

    outcome = set_relays(first, FLEET).outcome
    assert outcome.became_live == ()
    assert "fleet waits for 1 more signature(s)" in waiting_sentences(outcome.waiting)[0]
    assert any("adds or changes fleet/relays.json" in line for line in pending_sentences(first))
    assert sign_pending(second).became_live == ()
    assert live_relays(first) is None
    assert "fleet" in steward_once(steward).outcome.became_live
    assert live_relays(first) == FLEET


def test_new_fleet_keys_keep_the_list() -> None:
    shop = made()
    set_relays(shop, FLEET)
    rotate(shop, "fleet", 3)
    assert live_relays(shop) == FLEET


def test_a_list_longer_than_hosts_take_is_refused() -> None:
    relays = tuple(f"http://{'r' * 60}{n}.example" for n in range(16))
    sites = tuple(
        Site(name=f"s{n}", subnets=(f"10.0.{n}.0/24",), relays=relays) for n in range(250)
    )
    with pytest.raises(ConfigurationError, match="hosts take 65,536"):
        set_relays(made(), Relays(sites=sites))


# -- the command -------------------------------------------------------------------------------


def run(*words: object) -> None:
    app([str(word) for word in words], prog_name="origin", standalone_mode=False)


def test_the_command_signs_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo, keys, file = tmp_path / "repo", tmp_path / "keys", tmp_path / "relays.toml"
    file.write_text(TOML)
    run("init", repo, "--keys", keys, "--plain-keys")
    run("relays", repo, "--show")
    run("relays", repo, file, "--keys", keys)
    run("relays", repo, file, "--keys", keys)
    run("relays", repo, "--show")
    spoken = capsys.readouterr().out
    for words in (
        "no list of relays is signed",
        "the list of relays has 1 sites\n",
        "has 1 sites already",
        "lyon: 10.2.0.0/16 -> http://relay.lyon.example:2967",
        "elsewhere -> no relay",
        "origins: https://o.example",
    ):
        assert words in spoken, words


def test_json_goes_out_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo, keys, file = tmp_path / "repo", tmp_path / "keys", tmp_path / "relays.toml"
    file.write_text(TOML)
    run("init", repo, "--keys", keys, "--plain-keys", "--json")
    run("relays", repo, file, "--keys", keys, "--json")
    capsys.readouterr()
    run("relays", repo, "--show", "--json")
    shown = capsys.readouterr().out
    assert json.loads(shown)["schema"] == "fleetward.relays/1"
    again = tmp_path / "again.json"
    again.write_text(shown)
    run("relays", repo, again, "--keys", keys, "--json")
    assert json.loads(capsys.readouterr().out)["changed"] is False


def test_the_command_needs_a_file_and_keys(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give FILE and --keys"):
        run("relays", tmp_path)
