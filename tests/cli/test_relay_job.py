"""A relay as its administrator sets it up: a file, flags that win, https that renews itself."""

import json
import ssl
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetward.cli.main import run
from httpd.certificates import make_certificate
from support.programs import serving

RELAY = ("relay", "run")
CONFIG = """
upstreams = ["{origin}"]
cache = "{folder}/cache"
listen = "127.0.0.1:0"

[storage]
quota = 50_000_000

[[bandwidth.schedule]]
rate = 200_000
days = ["mon", "tue", "wed", "thu", "fri"]
start = "08:00"
end = "18:00"

[clients]
max_connections = 500
"""


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    repo = str(tmp_path / "repo")
    assert run(["origin", "init", repo, "--keys", str(tmp_path / "keys"), "--plain-keys"]) == 0
    with serving("origin", "serve", repo, "--listen", "127.0.0.1:0") as url:
        yield url


def config(folder: Path, origin: str, more: str = "") -> str:
    file = folder / "relay.toml"
    file.write_text(CONFIG.format(origin=origin, folder=folder) + more)
    return str(file)


def get(url: str, tls: ssl.SSLContext | None = None) -> bytes:
    with urllib.request.urlopen(url, timeout=10, context=tls) as answer:  # noqa: S310 (ours)
        content: bytes = answer.read()
    return content


def test_a_file_says_all_and_flags_win(
    tmp_path: Path, origin: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = config(tmp_path, origin)
    with serving(*RELAY, "--config", file) as url:
        assert b'"timestamp"' in get(f"{url}/metadata/timestamp.json")
        told = json.loads(get(f"{url}/v1/relay"))
        assert told["schema"] == "fleetward.relay/1"
        assert told["limits"]["storage"]["quota"] == 50_000_000
        assert b"# TYPE fleetward_relay_cache_hits_total counter" in get(f"{url}/metrics")
    with serving(*RELAY, "--config", file, "--cache", str(tmp_path / "other")):
        assert (tmp_path / "other/.lock").exists()
    assert run(["relay", "settings", "--config", file]) == 0
    printed = tomllib.loads(capfd.readouterr().out)
    assert printed["storage"]["quota"] == 50_000_000
    assert printed["bandwidth"]["schedule"][0]["rate"] == 200_000


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ("[storag]\n", 12, "did you mean 'storage'"),
        ("[push]\nttl = 'far'\n", 12, "ttl"),
        ("[tls]\ncertificate = '/none.pem'\nkey = '/none.pem'\n", 12, "/none.pem"),
        ("[[mirror]]\nproduct = 'rules'\n", 12, "home"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], more: str, code: int, says: str
) -> None:
    file = config(tmp_path, "http://127.0.0.1:1", more)
    assert run([*RELAY, "--config", file]) == code
    assert says in capfd.readouterr().err.replace("\n", "")


def test_what_is_missing_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*RELAY, "--cache", str(tmp_path)]) == 2
    assert "--upstream" in capfd.readouterr().err
    where = ["--upstream", "http://127.0.0.1:1", "--cache", str(tmp_path)]
    assert run([*RELAY, *where, "--tls-cert", "/x.pem"]) == 2
    assert "give both" in capfd.readouterr().err
    assert run([*RELAY, *where, "--config", str(tmp_path / "none.toml")]) == 12


def test_a_relay_serves_https_and_takes_up_a_renewed_certificate(
    tmp_path: Path, origin: str
) -> None:
    """The certificate is replaced under the relay's feet; new clients get the new one."""
    pem = make_certificate(tmp_path)
    old = ssl.create_default_context(cafile=str(pem))
    flags = ("--tls-cert", str(pem), "--tls-key", str(pem))
    with serving(*RELAY, "--config", config(tmp_path, origin), *flags) as url:
        assert url.startswith("https://")
        assert b'"timestamp"' in get(f"{url}/metadata/timestamp.json", old)
        make_certificate(tmp_path)
        new = ssl.create_default_context(cafile=str(pem))
        assert b'"timestamp"' in _once_renewed(f"{url}/metadata/timestamp.json", new)


def _once_renewed(url: str, tls: ssl.SSLContext) -> bytes:
    """Ask until the certificate verifies: the relay looks at its files every few seconds."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return get(url, tls)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
