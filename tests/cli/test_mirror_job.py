"""Hosts without an agent, by the commands that people type: origin, relay, agent, freshclam."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleetward.cli.main import run
from httpd.rawhttp import get
from support.programs import serving

EICAR = "X5O!P%@AP[4" + "\\PZX54(P^)7CC)7}$EICAR-" + "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"

SETTINGS = """
upstreams = ["{origin}"]
cache = "{folder}/cache"
listen = "127.0.0.1:0"

[push]
udp = false

[[mirror]]
product = "clamav"
home = "{folder}/agent"
stay = 0

[[passthrough]]
name = "repository"
upstream = "{origin}"
paths = ["/metadata/"]
allow_private = true
"""


@dataclass(frozen=True)
class Site:
    folder: Path
    origin: str
    relay: str

    def publish(self, release: str, name: str) -> None:
        """Publish a database of one signature, which calls EICAR by `name`."""
        tree = self.folder / "tree"
        tree.mkdir(exist_ok=True)
        md5 = hashlib.md5(EICAR.encode(), usedforsecurity=False).hexdigest()
        (tree / "own.hdb").write_text(f"{md5}:{len(EICAR)}:{name}\n")
        repo, keys = str(self.folder / "repo"), str(self.folder / "keys")
        publish = ["origin", "publish", repo, "clamav", str(tree), "--keys", keys]
        assert run([*publish, "--release", release]) == 0

    def update(self) -> None:
        assert run(["agent", "update", str(self.folder / "agent")]) == 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    repo, keys = str(tmp_path / "repo"), str(tmp_path / "keys")
    assert run(["origin", "init", repo, "--keys", keys, "--plain-keys"]) == 0
    with serving("origin", "serve", repo, "--listen", "127.0.0.1:0") as origin:
        settings = tmp_path / "relay.toml"
        settings.write_text(SETTINGS.format(origin=origin, folder=tmp_path))
        with serving("relay", "run", "--config", str(settings)) as relay:
            yield Site(tmp_path, origin, relay)


def init_agent(site: Site) -> None:
    root = f"{site.folder}/repo/metadata/1.root.json"
    follows = ["--source", site.origin, "--subscribe", f"clamav={site.folder / 'content'}"]
    assert run(["agent", "init", str(site.folder / "agent"), "--root", root, *follows]) == 0


def test_a_relay_mirrors_what_its_agent_confirms(site: Site) -> None:
    """The relay runs before its agent is made: 503 until there is a confirmed release."""
    path = "/mirror/clamav/own.hdb"
    site.publish("r1", "Own.First")
    assert get(site.relay, path).status == 503
    init_agent(site)
    assert get(site.relay, path).status == 503
    site.update()
    answer = get(site.relay, path)
    assert answer.body.endswith(b"Own.First\n")
    assert answer.headers["x-fleetward-release"] == "r1"
    site.publish("r2", "Own.Second")
    assert get(site.relay, path).body.endswith(b"Own.First\n")
    site.update()
    assert get(site.relay, path).body.endswith(b"Own.Second\n")
    assert get(site.relay, path.replace("clamav", "clamav@r1")).body.endswith(b"Own.First\n")
    assert run(["agent", "rollback", str(site.folder / "agent"), "clamav"]) == 0
    assert get(site.relay, path).body.endswith(b"Own.First\n")
    status = json.loads(get(site.relay, "/v1/relay").body)
    assert status["mirrors"][0]["release"] == "r1"
    passed = get(site.relay, "/passthrough/repository/metadata/1.root.json")
    assert passed.status == 200
    assert passed.headers["x-fleetward-verified"] == "no"


@pytest.mark.clamav
@pytest.mark.skipif(
    shutil.which("freshclam") is None or shutil.which("clamscan") is None,
    reason="no freshclam or clamscan: apt-get install clamav clamav-freshclam",
)
def test_freshclam_on_a_host_without_an_agent(site: Site) -> None:
    """What the origin signed and the relay's agent verified finds EICAR on a third host."""
    site.publish("r1", "Own.Signed")
    init_agent(site)
    site.update()
    host = site.folder / "host"
    (host / "databases").mkdir(parents=True)
    (host / "freshclam.conf").write_text(
        f"DatabaseDirectory {host / 'databases'}\n"
        f"DatabaseOwner {host.owner()}\n"
        f"PrivateMirror {site.relay}/mirror/clamav\n"
        f"DatabaseCustomURL {site.relay}/mirror/clamav/own.hdb\n"
        "DNSDatabaseInfo no\n"
    )
    (host / "sample").write_text(EICAR)
    commands = (
        ["freshclam", f"--config-file={host}/freshclam.conf", "--update-db=custom"],
        ["clamscan", "-d", f"{host}/databases", "--no-summary", f"{host}/sample"],
    )
    plain = {"PATH": os.environ["PATH"], "HOME": str(host), "LC_ALL": "C.UTF-8"}
    update, scan = (
        subprocess.run(one, capture_output=True, text=True, timeout=100, check=False, env=plain)
        for one in commands
    )
    assert update.returncode == 0, update.stdout + update.stderr
    assert scan.stdout.endswith("Own.Signed.UNOFFICIAL FOUND\n")
