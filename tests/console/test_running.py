"""`fleetward console` as operators run it: commands, server, signals."""

import asyncio
import json
import re
import sqlite3
import ssl
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from console.cast import SetClock
from console.conftest import DATABASE
from console.programs import PASSWORD, Console, fetch
from fleetward.console.asgi import Application
from fleetward.console.serving import Server
from fleetward.httpd.tls import TlsFiles


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    """A console on a database of its own: SQLite, or PostgreSQL where the suite runs on it."""
    if not DATABASE:
        yield Console(tmp_path, f"sqlite:///{tmp_path}/console.db")
        return
    name = f"console_{uuid4().hex}"
    with psycopg.connect(DATABASE, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        yield Console(tmp_path, re.sub(r"/[^/?]*(\?|$)", rf"/{name}\1", DATABASE, count=1))
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_from_nothing_to_a_page_and_an_answer_of_the_api(console: Console) -> None:
    console.create_admin("Ada")
    token = console.ask("token", "ada", "--name", "t", "--scope", "audit").stdout.strip()
    with console.running() as url:
        status, headers, page = fetch(f"{url}/login/")
        assert status == 200
        style = re.search(rb'href="(/static/console\.[0-9a-f]{12}\.css)"', page)
        assert style, "static files have their digest in their name"
        status, headers, _ = fetch(url + style[1].decode(), {"Accept-Encoding": "gzip"})
        assert status == 200
        assert "immutable" in headers["cache-control"]
        assert headers["content-encoding"] == "gzip"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        status, _, body = fetch(f"{url}/api/v1/audit", {"Authorization": f"Bearer {token}"})
        assert status == 200
        subjects = [entry["subject"] for entry in json.loads(body)["items"]]
        assert subjects[-1] == "user:ada"
        assert fetch(f"{url}/healthz")[0] == 200
        assert fetch(f"{url}/login/", {"Host": "evil.example"})[0] == 400


def test_whoever_starts_first_is_told_what_to_do(console: Console) -> None:
    with console.running() as url:
        assert fetch(f"{url}/login/")[0] == 200


def test_two_consoles_start_at_once_on_a_new_database(console: Console) -> None:
    with console.running() as one, console.running() as other:
        assert fetch(f"{one}/healthz")[0] == fetch(f"{other}/healthz")[0] == 200


def test_acts_at_the_same_moment_make_one_chain(console: Console) -> None:
    """Six processes write to the log at once; each entry continues the one before."""
    console.ask("migrate")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(console.create_admin, [f"ada{number}" for number in range(6)]))
    verdict = json.loads(console.ask("audit", "verify", "--json").stdout)
    assert verdict["ok"]
    assert verdict["entries"] == 6


def test_only_a_trusted_proxy_says_where_a_request_comes_from(console: Console) -> None:
    """The attacker writes X-Forwarded-For himself, to have another address in the log."""
    console.create_admin()
    token = console.ask(
        "token", "ada", "--name", "t", "--scope", "administer", "--scope", "audit"
    ).stdout.strip()
    (console.folder / "c.toml").write_text('proxies = ["127.0.0.1"]\n')
    for name, flags in (("forged", ()), ("proxied", ("--config", "c.toml"))):
        with console.running(*flags) as url:
            body = json.dumps({"name": name}).encode()
            headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "203.0.113.9"}
            status, _, _ = fetch(f"{url}/api/v1/sites", headers, body)
            assert status == 200
            found = fetch(f"{url}/api/v1/audit?subject=site:{name}", headers)[2]
            expected = "127.0.0.1" if name == "forged" else "203.0.113.9"
            assert json.loads(found)["items"][0]["address"] == expected


def test_a_body_without_end_is_not_taken(console: Console) -> None:
    with console.running() as url:
        assert fetch(f"{url}/login/", body=b"x" * (3 << 20))[0] == 413
        assert fetch(f"{url}/healthz")[0] == 200


def test_passwords_come_from_a_file_or_standard_input_alone(console: Console) -> None:
    asked = console.ask("createadmin", "ada")
    assert asked.returncode == 2
    assert "--password-file" in asked.stderr
    assert console.ask("createadmin", "ada", "--password-file", "none").returncode == 12
    weak = console.ask("createadmin", "ada", "--password-file", "-", typed="short\n")
    assert weak.returncode == 2
    assert "too short" in weak.stderr
    bad = console.ask("createadmin", "A b", "--password-file", "-", typed=PASSWORD)
    assert bad.returncode == 2
    assert "small letters" in bad.stderr


def test_an_administrator_who_forgot_the_password_gets_another(console: Console) -> None:
    console.create_admin()
    console.create_admin()
    verified = console.ask("audit", "verify", "--json")
    assert json.loads(verified.stdout)["entries"] == 2


def test_a_token_is_for_somebody_with_scopes_that_exist(console: Console) -> None:
    console.create_admin()
    for owner, scope in (("nobody", "read"), ("ada", "everything")):
        asked = console.ask("token", owner, "--name", "t", "--scope", scope)
        assert asked.returncode == 2, asked
    made = console.ask("token", "ada", "--name", "t", "--scope", "read", "--days", "7")
    assert re.fullmatch(r"fw_[a-z2-7]{8}_[a-z2-7]{32}\n", made.stdout)


def test_audit_verify_says_where_the_chain_breaks(tmp_path: Path) -> None:
    """The attacker opens the file past the console, and takes the triggers away first."""
    console = Console(tmp_path, f"sqlite:///{tmp_path}/console.db")
    for name in ("ada", "bob", "eve"):
        console.create_admin(name)
    fine = console.ask("audit", "verify")
    assert fine.returncode == 0
    head = fine.stdout.split()[-1]
    with sqlite3.connect(tmp_path / "console.db") as file:
        file.execute("DROP TRIGGER audit_entry_no_update")
        file.execute("UPDATE audit_entry SET subject = 'user:mallory' WHERE seq = 2")
    file.close()
    broken = console.ask("audit", "verify")
    assert broken.returncode == 1
    assert "entry 2 was altered" in broken.stdout
    with sqlite3.connect(tmp_path / "console.db") as file:
        file.execute("DROP TRIGGER audit_entry_no_delete")
        file.execute("DELETE FROM audit_entry WHERE seq >= 2")
    file.close()
    assert console.ask("audit", "verify").returncode == 0
    cut = console.ask("audit", "verify", "--head", head)
    assert cut.returncode == 1
    assert "entry 3 is gone" in cut.stdout
    assert console.ask("audit", "verify", "--head", "nonsense").returncode == 2


def test_what_is_kept_is_the_owners_alone_and_argon2(tmp_path: Path) -> None:
    console = Console(tmp_path, f"sqlite:///{tmp_path}/console.db")
    console.create_admin()
    for name in ("console.db", "console.secret"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    content = (tmp_path / "console.db").read_bytes()
    assert b"argon2$argon2id$" in content
    assert PASSWORD.encode() not in content


@pytest.mark.parametrize(
    ("db", "code"),
    [("", 2), ("mysql://x", 12), ("postgresql://127.0.0.1:1/none", 12)],
)
def test_a_database_that_cannot_be_used_ends_with_its_code(
    tmp_path: Path, db: str, code: int
) -> None:
    asked = Console(tmp_path, db).ask("migrate")
    assert asked.returncode == code
    assert "Traceback" not in asked.stderr


def test_a_password_in_the_databases_url_is_not_printed(tmp_path: Path) -> None:
    asked = Console(tmp_path, "postgresql://ada:hunter2@127.0.0.1:1/none").ask("migrate")
    assert asked.returncode == 12
    assert "hunter2" not in asked.stderr + asked.stdout


def test_an_address_that_is_taken_ends_with_its_code(console: Console) -> None:
    with console.running() as url:
        taken = url.removeprefix("http://")
        asked = subprocess.run(
            console.command("run", "--listen", taken),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert asked.returncode == 11
    assert "cannot listen" in asked.stderr


def test_settings_are_printed_as_toml(console: Console) -> None:
    asked = subprocess.run(
        [*console.command()[:4], "settings"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "[sign_in]" in asked.stdout
    assert "idle = 1800.0" in asked.stdout


def test_under_https_cookies_demand_it(tmp_path: Path) -> None:
    console = Console(tmp_path, f"sqlite:///{tmp_path}/console.db")
    write_certificate(tmp_path)
    (tmp_path / "c.toml").write_text('[tls]\ncertificate = "cert.pem"\nkey = "key.pem"\n')
    trust = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with console.running("--config", "c.toml") as url:
        assert url.startswith("https://127.0.0.1:")
        with urllib.request.urlopen(f"{url}/login/", context=trust, timeout=30) as answer:  # noqa: S310 (the test's own server)
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
            cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-csrf=")
    assert "Secure" in cookie
    assert "HttpOnly" in cookie
    assert "Domain" not in cookie


def test_a_renewed_certificate_is_taken_up(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    clock = SetClock()
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", clock=clock)
    config = uvicorn.Config(Application(nobody, {}, ()), log_config=None)
    server = Server(config, lambda: None, files)
    before = files.context
    write_certificate(tmp_path)
    clock.sleep(timedelta(seconds=10))
    assert asyncio.run(server.on_tick(1)) is False
    assert files.context is not before


async def nobody(*asked: object) -> None:
    raise AssertionError("nobody asks")


def write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "console")])
    now = datetime.now(UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)
