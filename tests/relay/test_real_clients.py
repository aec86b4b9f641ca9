"""Real, unmodified clients against a relay: freshclam, suricata-update, apt-get and curl.

All on loopback, each with folders of its own; nothing leaves the machine. A client that is not
installed skips its tests, and says which package has it.
"""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from conftest import CORPORA
from fleetward.config.relay import PassthroughSettings
from fleetward.relay.passthrough_part import PassthroughPart
from httpd.rawhttp import Raw, get
from httpd.upstreams import Asked, Out, Script, Upstream, head, serving
from httpd.waiting import wait_until
from relay.agenthomes import AgentHome
from relay.relays import TestRelay, settings_for
from relay.webserver import web_server

EICAR = "X5O!P%@AP[4" + "\\PZX54(P^)7CC)7}$EICAR-" + "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
SURICATA_UPDATE = Path(sys.executable).with_name("suricata-update")


def needs(package: str, *programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    reason = f"{', '.join(missing)} not found: apt-get install {package}"
    return pytest.mark.skipif(bool(missing), reason=reason)


needs_clamav = needs("clamav clamav-freshclam", "freshclam", "clamscan")
needs_apt = needs("apt dpkg", "apt-get", "dpkg-deb")
needs_curl = needs("curl", "curl")
needs_suricata_update = pytest.mark.skipif(
    not SURICATA_UPDATE.exists(), reason=f"no {SURICATA_UPDATE}: run `make venv`"
)


def run(*command: str | Path, home: Path) -> "subprocess.CompletedProcess[str]":
    """Run a client without this machine's settings, its proxies above all."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment,
        cwd=home,
    )


@contextmanager
def relaying(
    tmp_path: Path, agent: AgentHome | None = None, *passthroughs: PassthroughSettings
) -> Iterator[TestRelay]:
    """A relay whose mirror clients move to a new tree at once."""
    mirrors = (replace(agent.settings(), stay=timedelta(0)),) if agent else ()
    with Upstream(serving({})) as upstream:
        settings = settings_for(tmp_path / "cache", upstream.url)
        settings = replace(settings, mirrors=mirrors, passthroughs=passthroughs)
        with TestRelay(settings) as relay:
            yield relay


def passthrough(upstream: str, **changes: object) -> PassthroughSettings:
    plain = PassthroughSettings(name="up", upstream=upstream, allow_private=True)
    return replace(plain, **changes)  # type: ignore[arg-type]


def count(relay: TestRelay, name: str) -> int:
    (state,) = relay.status()["passthroughs"]
    value: int = state[name]
    return value


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What a client has of its own."""
    folder = tmp_path / "client"
    folder.mkdir()
    return folder


# -- freshclam ---------------------------------------------------------------------------------------


class Freshclam:
    """A host that has freshclam, and no agent."""

    def __init__(self, home: Path, url: str, *settings: str) -> None:
        self.home = home
        self.databases = home / "databases"
        self.databases.mkdir()
        self._config = home / "freshclam.conf"
        lines = (
            f"DatabaseDirectory {self.databases}",
            f"PrivateMirror {url}",
            "DNSDatabaseInfo no",
            f"DatabaseOwner {self.databases.owner()}",
            "TestDatabases yes",
            "MaxAttempts 1",
            *settings,
        )
        self._config.write_text("\n".join(lines) + "\n")

    def update(self, name: str) -> str:
        """Run it once and return what it says; it must end well."""
        done = run(
            "freshclam",
            f"--config-file={self._config}",
            "--no-dns",
            f"--update-db={name}",
            home=self.home,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def fails_to_update(self, name: str) -> bool:
        command = ("freshclam", f"--config-file={self._config}", "--no-dns", f"--update-db={name}")
        return run(*command, home=self.home).returncode != 0

    def scan(self) -> str:
        """Scan EICAR with what came, and return what clamscan says of it."""
        sample = self.home / "sample.txt"
        sample.write_text(EICAR)
        done = run("clamscan", "-d", self.databases, "--no-summary", sample, home=self.home)
        assert done.returncode in {0, 1}, done.stderr
        return done.stdout.removeprefix(f"{sample}: ").strip()


def signed_files() -> dict[str, bytes]:
    """The real databases `test` and their diffs, signed by their publisher.

    Version 2 is empty, version 6 knows EICAR.
    """
    with tarfile.open(CORPORA / "clamav-freshclam.tar.xz") as archive:
        opened = {Path(one.name).name: archive.extractfile(one) for one in archive if one.isfile()}
        return {name: member.read() for name, member in opened.items() if member}


def signed_databases() -> dict[int, bytes]:
    """Versions 2 and 6."""
    files = signed_files()
    return {number: files[f"test-{number}.cvd"] for number in (2, 6)}


def own_database(name: str) -> bytes:
    """A database of one hash signature, as an operator writes it; freshclam verifies nothing."""
    md5 = hashlib.md5(EICAR.encode(), usedforsecurity=False).hexdigest()
    return f"{md5}:{len(EICAR)}:{name}\n".encode()


@needs_clamav
@pytest.mark.clamav
@pytest.mark.corpora
def test_freshclam_updates_from_a_mirror(tmp_path: Path, home: Path) -> None:
    """A release with a signed database, then the next: freshclam takes both, clamscan uses them."""
    signed = signed_databases()
    agent = AgentHome(tmp_path)
    agent.put("r1", {"test.cvd": signed[2]})
    with relaying(tmp_path, agent) as relay:
        host = Freshclam(home, f"{relay.url}/mirror/clamav")
        assert "test.cvd updated (version: 2" in host.update("test")
        assert host.scan() == "OK"
        agent.begin_trial("r2", {"test.cvd": signed[6]})
        assert "up-to-date (version: 2" in host.update("test"), "it is in trial"
        agent.confirm()
        assert "test.cvd updated (version: 6" in host.update("test")
        assert host.scan() == "Eicar-Test-Signature FOUND"
        assert "up-to-date (version: 6" in host.update("test")


@needs_clamav
@pytest.mark.clamav
@pytest.mark.corpora
def test_freshclam_updates_from_a_passthrough(tmp_path: Path, home: Path) -> None:
    """The upstream is an ordinary web server; a second host costs it nothing."""
    signed = signed_databases()
    web = tmp_path / "web"
    web.mkdir()
    (web / "test.cvd").write_bytes(signed[6])
    with (
        web_server(web) as (url, asked),
        relaying(tmp_path, None, passthrough(url)) as relay,
    ):
        host = Freshclam(home, f"{relay.url}/passthrough/up")
        assert "test.cvd updated (version: 6" in host.update("test")
        assert host.scan() == "Eicar-Test-Signature FOUND"
        wait_until(lambda: count(relay, "asking") == 0)
        before = list(asked)
        assert sorted(before) == ["GET /test.cld 404", "GET /test.cvd 200"]
        other = tmp_path / "other"
        other.mkdir()
        assert "updated (version: 6" in Freshclam(other, f"{relay.url}/passthrough/up").update(
            "test"
        )
        assert [line for line in asked[len(before) :] if "test.cvd" in line] == []
        assert count(relay, "unverified_bytes") > 2 * len(signed[6])


@needs_clamav
@pytest.mark.clamav
@pytest.mark.corpora
def test_freshclam_takes_diffs_from_a_mirror(tmp_path: Path, home: Path) -> None:
    """`DatabaseMirror` in place of `PrivateMirror`: four diffs are fetched, and no database."""
    files = signed_files()
    diffs = {name: content for name, content in files.items() if name.endswith(".cdiff")}
    agent = AgentHome(tmp_path)
    agent.put("r1", {"test.cvd": files["test-2.cvd"]})
    with relaying(tmp_path, agent) as relay:
        url = f"{relay.url}/mirror/clamav"
        host = Freshclam(home, url, f"DatabaseMirror {url}", "ScriptedUpdates yes")
        config = home / "freshclam.conf"
        config.write_text(config.read_text().replace(f"PrivateMirror {url}\n", ""))
        assert "updated (version: 2" in host.update("test")
        agent.put("r2", {"test.cvd": files["test-6.cvd"], **diffs})
        assert "test.cld updated (version: 6" in host.update("test")
        assert host.scan() == "Eicar-Test-Signature FOUND"
        metrics = get(relay.url, "/metrics").body.decode()
        (line,) = [one for one in metrics.split("\n") if "mirror_bytes_total{" in one]
        sent = int(line.split()[-1])
        needed = len(files["test-2.cvd"]) + sum(len(diffs[f"test-{n}.cdiff"]) for n in (3, 4, 5, 6))
        assert needed < sent <= needed + 4 * 512, "beside them only the heads of databases"


@needs_clamav
@pytest.mark.clamav
def test_freshclam_takes_an_own_database_from_a_mirror(tmp_path: Path, home: Path) -> None:
    """`DatabaseCustomURL`: freshclam verifies nothing here, the agent beside the relay did."""
    agent = AgentHome(tmp_path)
    agent.put("r1", {"own.hdb": own_database("Own.First")})
    with relaying(tmp_path, agent) as relay:
        url = f"{relay.url}/mirror/clamav"
        host = Freshclam(home, url, f"DatabaseCustomURL {url}/own.hdb")
        assert "own.hdb updated" in host.update("custom")
        assert host.scan() == "Own.First.UNOFFICIAL FOUND"
        assert "own.hdb is up-to-date" in host.update("custom"), "If-Modified-Since"
        a_minute_ago = (host.databases / "own.hdb").stat().st_mtime - 60
        os.utime(host.databases / "own.hdb", (a_minute_ago, a_minute_ago))
        agent.put("r2", {"own.hdb": own_database("Own.Second")})
        assert "own.hdb updated" in host.update("custom")
        assert host.scan() == "Own.Second.UNOFFICIAL FOUND"


@needs_clamav
@pytest.mark.clamav
@pytest.mark.parametrize("status", ["403 Forbidden", "429 Too Many Requests"])
def test_an_upstream_that_is_tired_does_not_put_freshclam_to_sleep(
    tmp_path: Path, home: Path, status: str
) -> None:
    """The upstream answers 403 or 429, after which freshclam would rest for hours, and exit 0.

    It gets 503 from the relay, so its very next run works.
    """
    files = {"/own.hdb": own_database("Own.Late")}
    answers: list[Script] = []

    async def script(asked: Asked, out: Out) -> bool:
        return bool(await (answers.pop() if answers else serving(files))(asked, out))

    async def tired(_: Asked, out: Out) -> bool:
        await out.send(head(0, "Retry-After: 86400", status=status))
        return True

    with Upstream(script) as upstream:
        answers.append(tired)
        settings = passthrough(upstream.url)
        with relaying(tmp_path, None, settings) as relay:
            url = f"{relay.url}/passthrough/up"
            host = Freshclam(home, url, f"DatabaseCustomURL {url}/own.hdb")
            assert host.fails_to_update("custom")
        with relaying(tmp_path, None, settings) as relay:  # its memory of the trouble is gone
            url = f"{relay.url}/passthrough/up"
            (home / "freshclam.conf").unlink()
            host.databases.rename(home / "old")
            again = Freshclam(home, url, f"DatabaseCustomURL {url}/own.hdb")
            for left in (home / "old").iterdir():
                shutil.move(left, again.databases)
            assert "own.hdb updated" in again.update("custom")
            assert again.scan() == "Own.Late.UNOFFICIAL FOUND"


@needs_clamav
@pytest.mark.clamav
def test_freshclam_keeps_what_it_has_while_nothing_is_confirmed(tmp_path: Path, home: Path) -> None:
    """The only release was revoked: the mirror says 503, and freshclam keeps its database."""
    agent = AgentHome(tmp_path)
    only = agent.put("r1", {"own.hdb": own_database("Own.Kept")})
    with relaying(tmp_path, agent) as relay:
        url = f"{relay.url}/mirror/clamav"
        host = Freshclam(home, url, f"DatabaseCustomURL {url}/own.hdb")
        host.update("custom")
        agent.save(revoked=(only.tree,))
        assert host.fails_to_update("custom")
        assert host.scan() == "Own.Kept.UNOFFICIAL FOUND"


# -- suricata-update ---------------------------------------------------------------------------------


def rules_archive(*messages: str) -> dict[str, bytes]:
    """A rule set as suricata-update downloads it: an archive and its MD5 beside it."""
    lines = [
        f'alert tcp any any -> any 2967 (msg:"{message}"; sid:{9_000_000 + n}; rev:1;)'
        for n, message in enumerate(messages)
    ]
    content = ("\n".join(lines) + "\n").encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("rules/own.rules")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    md5 = hashlib.md5(packed.getvalue(), usedforsecurity=False).hexdigest()
    return {"own.rules.tar.gz": packed.getvalue(), "own.rules.tar.gz.md5": f"{md5}\n".encode()}


def suricata_update(home: Path, url: str) -> str:
    (home / "none").mkdir(exist_ok=True)
    (home / "update.yaml").write_text(f"dist-rule-directory: {home / 'none'}\n")
    done = run(
        SURICATA_UPDATE,
        f"--config={home / 'update.yaml'}",
        f"--data-dir={home / 'data'}",
        f"--output={home / 'rules'}",
        f"--url={url}",
        f"--suricata-conf={home / 'absent.yaml'}",
        "--suricata-version=7.0.0",
        "--no-test",
        "--no-reload",
        "--fail",
        home=home,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def forget_the_last_download(home: Path) -> None:
    """Without this, suricata-update does not even ask for 15 minutes."""
    for file in (home / "data" / "update" / "cache").iterdir():
        os.utime(file, (file.stat().st_mtime - 1000, file.stat().st_mtime - 1000))


@needs_suricata_update
@pytest.mark.suricata_update
def test_suricata_update_takes_rules_from_a_mirror(tmp_path: Path, home: Path) -> None:
    agent = AgentHome(tmp_path, "suricata")
    agent.put("r1", rules_archive("one"))
    with relaying(tmp_path, agent) as relay:
        url = f"{relay.url}/mirror/suricata/own.rules.tar.gz"
        assert "added: 1;" in suricata_update(home, url)
        assert 'msg:"one"' in (home / "rules" / "suricata.rules").read_text()
        forget_the_last_download(home)
        said = suricata_update(home, url)
        assert "Remote checksum has not changed" in said
        assert "No changes detected" in said
        agent.put("r2", rules_archive("one", "two"))
        forget_the_last_download(home)
        assert "added: 1;" in suricata_update(home, url)
        assert 'msg:"two"' in (home / "rules" / "suricata.rules").read_text()


@needs_suricata_update
@pytest.mark.suricata_update
def test_suricata_update_takes_rules_through_a_passthrough(tmp_path: Path, home: Path) -> None:
    web = tmp_path / "web"
    web.mkdir()
    for name, content in rules_archive("one").items():
        (web / name).write_bytes(content)
    with (
        web_server(web) as (url, _),
        relaying(tmp_path, None, passthrough(url, paths=("/own.rules.tar.gz",))) as relay,
    ):
        said = suricata_update(home, f"{relay.url}/passthrough/up/own.rules.tar.gz")
        assert "added: 1;" in said


# -- apt ---------------------------------------------------------------------------------------------


def make_apt_repository(root: Path, *packages: str) -> None:
    """A small Debian repository: packages, `Packages.gz`, and a `Release` that names its digest."""
    machine = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    pool, lists = root / "pool", root / "dists" / "stable" / "main" / f"binary-{machine}"
    pool.mkdir(parents=True)
    lists.mkdir(parents=True)
    paragraphs = []
    for package in packages:
        build = root.parent.parent / "build" / package
        (build / "DEBIAN").mkdir(parents=True)
        (build / "usr" / "share" / package).mkdir(parents=True)
        (build / "usr" / "share" / package / "content").write_bytes(os.urandom(100_000))
        control = (
            f"Package: {package}\nVersion: 1:2.0+x~1\nArchitecture: all\n"
            "Maintainer: A <a@example.invalid>\nDescription: a test\n"
        )
        (build / "DEBIAN" / "control").write_text(control)
        name = f"{package}_{quote('1:2.0+x~1', safe='+~')}_all.deb"
        made = subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Znone", "--build", build, pool / name],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        content = (pool / name).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        paragraphs.append(
            f"{control}Filename: pool/{name}\nSize: {len(content)}\nSHA256: {sha256}\n"
        )
    plain = "\n".join(paragraphs).encode()
    packed = gzip.compress(plain, mtime=0)
    (lists / "Packages.gz").write_bytes(packed)
    index = f"main/binary-{machine}/Packages"
    digests = "".join(
        f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}\n"
        for name, content in ((index, plain), (f"{index}.gz", packed))
    )
    (root / "dists" / "stable" / "Release").write_text(
        f"Origin: test\nSuite: stable\nCodename: stable\nArchitectures: {machine}\n"
        f"Components: main\nDate: Tue, 24 Nov 2026 02:00:00 UTC\nSHA256:\n{digests}"
    )


class Apt:
    """A host's apt-get with folders of its own."""

    def __init__(self, home: Path, url: str, *options: str) -> None:
        self.home = home
        for folder in ("lists/partial", "cache/archives/partial", "etc/preferences.d"):
            (home / folder).mkdir(parents=True)
        (home / "status").touch()
        sources = home / "etc" / "sources.list"
        sources.write_text(f"deb [trusted=yes] {url} stable main\n")
        self._options = [
            f"Dir::Etc={home / 'etc'}",
            f"Dir::Etc::SourceList={sources}",
            "Dir::Etc::SourceParts=-",
            f"Dir::State::Lists={home / 'lists'}",
            f"Dir::State::status={home / 'status'}",
            f"Dir::Cache={home / 'cache'}",
            "APT::Sandbox::User=",
            "Acquire::Languages=none",
            "Acquire::Retries=0",
            "Acquire::http::Proxy=DIRECT",
            *options,
        ]

    def __call__(self, *arguments: str) -> str:
        options = [part for option in self._options for part in ("-o", option)]
        done = run("apt-get", "-q", *options, *arguments, home=self.home)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "W:" not in done.stderr, done.stderr
        return done.stdout


@needs_apt
@pytest.mark.apt
@pytest.mark.parametrize("way", ["as a server", "as a proxy"])
def test_apt_through_a_passthrough(tmp_path: Path, home: Path, way: str) -> None:
    """Two hosts update, resolve and download; each package crosses the WAN once."""
    web = tmp_path / "web"
    make_apt_repository(web / "debian", "own-signatures", "own-rules")
    with web_server(web) as (url, asked):
        settings = passthrough(
            f"{url}/debian",
            paths=("/dists/", "/pool/"),
            immutable=("/pool/",),
            proxy_requests=True,
        )
        with relaying(tmp_path, None, settings) as relay:
            for number in range(2):
                own = home / str(number)
                if way == "as a proxy":
                    apt = Apt(own, f"{url}/debian", f"Acquire::http::Proxy={relay.url}")
                else:
                    apt = Apt(own, f"{relay.url}/passthrough/up")
                apt("update")
                apt("download", "own-signatures", "own-rules")
                assert "Inst own-rules (1:2.0+x~1" in apt("install", "-s", "own-rules")
                apt("update")
                debs = sorted(own.glob("*.deb"))
                assert [deb.stat().st_size for deb in debs] == [
                    deb.stat().st_size for deb in sorted((web / "debian" / "pool").iterdir())
                ]
            fetched = [line for line in asked if line.startswith("GET") and ".deb 200" in line]
            assert len(fetched) == 2, asked
            assert not any(" 40" in line for line in asked if "/pool/" in line)
            assert count(relay, "unverified_bytes") > 400_000


def seconds_later(relay: TestRelay, seconds: int) -> None:
    """Let everything that is kept look as if it was confirmed so much earlier."""
    (part,) = [part for part in relay.relay.parts if isinstance(part, PassthroughPart)]
    for one in part._passthroughs:
        for key, entry in one.ground.store._entries.items():
            if entry.kept:
                one.ground.store.confirm(key, entry.kept.checked - seconds)


@needs_apt
@pytest.mark.apt
def test_apt_sees_a_new_index_at_once(tmp_path: Path, home: Path) -> None:
    """Apt asks with max-age=0; an answer that is minutes old would not fit the other indexes."""
    web = tmp_path / "web"
    make_apt_repository(web / "debian", "first")
    with web_server(web) as (url, _):
        settings = passthrough(f"{url}/debian", revalidate=timedelta(hours=1))
        with relaying(tmp_path, None, settings) as relay:
            apt = Apt(home, f"{relay.url}/passthrough/up")
            apt("update")
            shutil.rmtree(web)
            shutil.rmtree(tmp_path / "build")
            make_apt_repository(web / "debian", "first", "second")
            for file in (web / "debian" / "dists").rglob("*"):
                os.utime(file, (file.stat().st_mtime + 9, file.stat().st_mtime + 9))
            seconds_later(relay, 3)
            apt("update")
            assert "Inst second" in apt("install", "-s", "second")


# -- curl --------------------------------------------------------------------------------------------


@needs_curl
def test_curl_from_a_mirror(tmp_path: Path, home: Path) -> None:
    """Whole, in ranges, resumed, by date, and asking for compression that it does not get."""
    content = os.urandom(300_000)
    agent = AgentHome(tmp_path)
    agent.put("r1", {"daily ü.cvd": content})

    def curl(*arguments: str | Path) -> str:
        done = run("curl", "-sS", "--fail", *arguments, home=home)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with relaying(tmp_path, agent) as relay:
        url = f"{relay.url}/mirror/clamav/" + quote("daily ü.cvd")
        file = home / "daily.cvd"
        curl("-R", "-o", file, url)
        assert file.read_bytes() == content
        curl("-r", "100-199", "-o", home / "part", url)
        assert (home / "part").read_bytes() == content[100:200]
        file.write_bytes(content[:1000])
        told = curl("-C", "-", "-o", file, "-w", "%{http_code} %{size_download}", url)
        assert told == "206 299000"
        assert file.read_bytes() == content
        curl("-R", "-o", file, url)
        told = curl("-z", file, "-o", home / "again", "-w", "%{http_code}", url)
        assert told == "304"
        assert not (home / "again").exists()
        told = curl("--compressed", "-o", home / "plain", "-w", "%header{content-encoding}", url)
        assert (told, (home / "plain").read_bytes()) == ("", content)
        told = curl("--etag-save", home / "etag", "-o", home / "plain", url)
        told = curl("--etag-compare", home / "etag", "-w", "%{http_code}", "-o", "/dev/null", url)
        assert told == "304"
        assert "x-fleetward-release: r1" in curl("-I", url).lower()
        agent.put("r2", {"daily ü.cvd": b"new"})
        curl("-z", file, "-o", home / "again", url)
        assert (home / "again").read_bytes() == b"new"
        pinned = url.replace("/clamav/", "/clamav@r1/")
        curl("-o", home / "pinned", pinned)
        assert (home / "pinned").read_bytes() == content


# -- a Symantec Endpoint Protection client -----------------------------------------------------------


def test_a_client_of_a_group_update_provider(tmp_path: Path) -> None:
    """It asks HEAD and GET of its manager's content, in origin form and as of a proxy.

    The relay stands where the Group Update Provider stood, on its port; the manager's own checks
    of the content stay the client's.
    """
    path = "/content/{1CD85198-26C6-4bac-8C72-5D34B025DE35}/241124001/full.zip"
    delta = "/content/{1CD85198-26C6-4bac-8C72-5D34B025DE35}/241124001/xdelta241123002_To_2.dax"
    full = os.urandom(200_000)
    manager = {quote(path, safe="/"): full, quote(delta, safe="/"): b"delta"}
    with Upstream(serving(manager)) as upstream:
        settings = passthrough(
            upstream.url, mount="/content/", paths=("/content/",), proxy_requests=True
        )
        with relaying(tmp_path, None, settings) as relay, Raw(relay.url) as client:
            assert client.get(path, method="HEAD").headers["content-length"] == str(len(full))
            assert client.get(path).body == full
            assert client.get(upstream.url + path).body == full
            assert client.get(f"http://manager.example:8014{path}", method="HEAD").status == 200
            assert client.get(path, "Range: bytes=1000-").body == full[1000:]
            assert client.get(delta).body == b"delta"
            assert client.get("/content/{0}/1/absent.zip").status == 404
            assert client.get("/secars/secars.dll?h=1").status == 404
            fetched = [
                one.path for one in upstream.asked if one.method == "GET" and "1CD8" in one.path
            ]
            assert fetched == list(manager), "each file crosses the WAN once"
            answer = get(relay.url, path)
            assert answer.headers["x-fleetward-verified"] == "no"
