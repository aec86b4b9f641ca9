"""`fleetward ports …` as people and scripts type it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleetward.adapters.disk import SystemDisk
from fleetward.agent.home import Home
from fleetward.agent.portwatch import ports_summary
from fleetward.cli.main import run
from fleetward.cli.ports_table import printable, show_people
from fleetward.core.fleet import Relays
from fleetward.core.listeners import (
    Executable,
    FileState,
    PackageFile,
    Parent,
    Platform,
    Survey,
    Unseen,
)
from fleetward.wire.documents import encode
from fleetward.wire.ports import decode_ports, ports_document
from support.fakes import START
from support.listening import copied_interpreter, listening
from support.portsamples import HONEST, judged, listener, owner, relay
from support.programs import serving


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_listener_that_nobody_expects(capsys: pytest.CaptureFixture[str]) -> None:
    with listening("tcp", "127.0.0.1") as program:
        assert run(["ports", "show", str(program.port), "--json"]) == 0
        content = capsys.readouterr().out
        assert run(["ports", "show", str(program.port)]) == 0
    document = decode_ports(content.encode())
    assert content.startswith('{"schema":"fleetward.ports/1"')
    assert document.ports == (program.port,)
    assert document.listeners[0].owners[0].pid == program.pid
    told = capsys.readouterr().out
    assert f"tcp 127.0.0.1:{program.port}" in told
    assert "[nothing-expects-it]" in told


def test_something_suspicious_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = copied_interpreter(tmp_path / "rtvscan.exe")
    with listening("tcp", "127.0.0.1", executable=fake) as program:
        assert run(["ports", "show", str(program.port), "--json"]) == 1
        assert shown(capsys)["verdict"] == "suspicious"
        assert run(["ports", "show", str(program.port)]) == 1
        assert "looks like rtvscan.exe" in capsys.readouterr().out


def test_rules_of_the_operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "rules.toml"
    with listening("tcp", "127.0.0.1") as program:
        rules.write_text(
            f"ports = [{program.port}]\n[[rules]]\nname = 'mine'\nport = {program.port}\n"
            "despite = ['interpreter-unpinned']\n"
        )
        assert run(["ports", "show", "--config", str(rules), "--json"]) == 0
        assert shown(capsys)["verdict"] == "expected"
        assert run(["ports", "show", "--config", str(rules), "--relay", "none", "--json"]) == 0
    rules.write_text("[[rule]]")
    assert run(["ports", "show", "--config", str(rules)]) == 12


def test_every_port_but_one(capsys: pytest.CaptureFixture[str]) -> None:
    with listening("tcp", "127.0.0.1") as one, listening("tcp", "127.0.0.1") as other:
        assert run(["ports", "show", "--all", "--exclude", str(one.port), "--json"]) in {0, 1}
    ports = [row["port"] for row in shown(capsys)["listeners"]]
    assert other.port in ports
    assert one.port not in ports
    assert run(["ports", "show", "--all", "80"]) == 2


def test_a_port_where_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ports", "show", "38293"]) == 0
    told = capsys.readouterr().out
    assert "nothing listens on 38293" in told
    assert "IANA assigns it to nobody" in told


# -- for people --------------------------------------------------------------------------------


def test_a_name_cannot_write_on_the_terminal() -> None:
    assert printable("a\x1b[31mb\r\nc\x9b") == "a?[31mb??c?"
    assert printable("rtvscan.exe é") == "rtvscan.exe é"


def test_the_table_with_all_that_can_be_known(capsys: pytest.CaptureFixture[str]) -> None:
    altered = Executable(
        path="/usr/sbin/x\x1b]0;title\x07",
        state=FileState.DELETED,
        package=PackageFile(name="x", intact=False),
    )
    listeners = (
        listener(owner(), address="::", v6only=False, unit="h.service"),
        listener(owner(), address="::", v6only=False, unit="h.service", inode=6),
        listener(
            owner(altered, name="x\x1b[2J", parent=Parent(pid=1, name="systemd"), command=("x",)),
            owner(pid=78),
        ),
        listener(relay(unit="r.service"), in_own_namespace=False, container="docker 12"),
        listener(owner(HONEST), in_own_namespace=False, namespace=77, port=80),
        listener(user="www-data", port=81),
        listener(owner(None), port=82),
    )
    survey = Survey(
        platform=Platform.LINUX,
        method="test",
        listeners=listeners,
        unseen=(Unseen(what="much", command="sudo it"), Unseen(what="more")),
    )
    show_people(ports_document(survey, judged(*listeners), ports=(), host="h", made=START))
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "\x07" not in told
    for words in (
        "x2",
        "(docker 12)",
        "(namespace 77)",
        "and 1 more",
        "ALTERED",
        "(deleted)",
        "of the package honest, intact",
        "started by systemd (1)",
        "not seen: much; to see it: sudo it",
        "not seen: more",
        "port 2967: IANA",
        "sha256 unknown",
    ):
        assert words in told, words


def test_a_long_table_explains_the_suspicious_alone(capsys: pytest.CaptureFixture[str]) -> None:
    many = [listener(owner(), port=port) for port in range(8000, 8020)]
    bad = listener(owner(name="smc.exe"), port=9000)
    survey = Survey(platform=Platform.LINUX, method="test", listeners=(*many, bad))
    show_people(ports_document(survey, judged(*many, bad), ports=(), host="h", made=START))
    told = capsys.readouterr().out
    assert told.count("nothing-expects-it") == 1
    assert "9000: suspicious" in told


# -- rules -------------------------------------------------------------------------------------


def test_rules_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "relays.json"
    listed.write_bytes(encode(Relays(default=("http://192.0.2.7:2967", "http://192.0.2.8:80"))))
    where = ["--relays", str(listed), "--subnet", "10.0.0.0/8"]
    assert run(["ports", "rules", "--format", "nftables", *where]) == 0
    told = capsys.readouterr()
    assert "192.0.2.7" in told.out
    assert "on port 80" in told.err
    assert run(["ports", "rules", "--format", "windows", "--subnet", "10.0.0.0/8"]) == 0
    assert run(["ports", "rules", "--format", "nftables"]) == 2
    assert run(["ports", "rules", "--format", "pf", *where]) == 2
    assert run(["ports", "rules", "--format", "nftables", "--subnet", "x"]) == 2
    assert run(["ports", "rules", "--format", "nftables", *where, "--home", "/x"]) == 2
    listed.write_text("{}")
    assert run(["ports", "rules", "--format", "nftables", *where]) == 12
    listed.unlink()
    assert run(["ports", "rules", "--format", "nftables", *where]) == 12


def test_rules_from_the_list_that_an_agent_has_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signed by the fleet keys, taken up by the agent, made into rules without the network."""
    repo, keys, home = (str(tmp_path / name) for name in ("repo", "keys", "home"))
    assert run(["origin", "init", repo, "--keys", keys, "--plain-keys"]) == 0
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.yar").write_text("rule a {}")
    where = ["--keys", keys, "--release", "r1"]
    assert run(["origin", "publish", repo, "rules", str(tree), *where]) == 0
    with serving("origin", "serve", repo, "--listen", "127.0.0.1:0") as origin:
        follows = ["--source", origin, "--subscribe", f"rules={tmp_path / 'content'}"]
        root = f"{repo}/metadata/1.root.json"
        assert run(["agent", "init", home, "--root", root, *follows]) == 0
        assert run(["ports", "rules", "--format", "nftables", "--home", home]) == 12
        assert run(["agent", "update", home]) == 0
        assert run(["ports", "rules", "--format", "nftables", "--home", home]) == 12
        assert "no signed list of relays" in capsys.readouterr().err
        listed = tmp_path / "relays.toml"
        listed.write_text(f'origins = ["{origin}"]\ndefault = ["http://192.0.2.7:2967"]\n')
        assert run(["origin", "relays", repo, str(listed), "--keys", keys]) == 0
        assert run(["agent", "update", home]) == 0
    capsys.readouterr()
    assert run(["ports", "accept", home]) == 0
    assert "the baseline has 0 listeners" in capsys.readouterr().err
    assert run(["ports", "accept", str(tmp_path)]) == 12
    assert run(["ports", "rules", "--format", "suricata", "--home", home, "--role", "host"]) == 0
    assert "192.0.2.7/32" in capsys.readouterr().out
    assert run(["ports", "rules", "--format", "nftables", "--home", str(tmp_path)]) == 12


def test_a_running_agent_tells_of_a_listener_that_imitates(tmp_path: Path) -> None:
    """The agent as a process of its own, with the kernel's own list; its log and its spool."""
    repo, keys, home = (str(tmp_path / name) for name in ("repo", "keys", "home"))
    assert run(["origin", "init", repo, "--keys", keys, "--plain-keys"]) == 0
    root = ["--root", f"{repo}/metadata/1.root.json"]
    follows = ["--source", "http://127.0.0.1:9", "--subscribe", f"rules={tmp_path / 'content'}"]
    assert run(["agent", "init", home, *root, *follows]) == 0
    fake = copied_interpreter(tmp_path / "rtvscan.exe")
    with listening("tcp", "127.0.0.1", executable=fake) as program:
        (Path(home) / "ports.toml").write_text(f"ports = [{program.port}]\ninterval = 1\n")
        command = [sys.executable, "-m", "fleetward", "agent", "run", home]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as agent:
            assert agent.stderr
            told = next(line for line in agent.stderr if "port watch: opened" in line)
            agent.terminate()
            agent.stderr.read()
            assert agent.wait(timeout=30) == 0
    assert f"tcp/{program.port} rtvscan.exe: suspicious loopback" in told
    spooled = (Path(home) / "reports" / "events.log").read_text()
    assert "listener-opened" in spooled
    summary = ports_summary(Home(SystemDisk(), Path(home)))
    assert summary is not None
    assert (summary.listeners, summary.unexpected) == (1, 1)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["ports", "show"], ["ports", "rules"], ["ports", "accept"]):
        assert run([*words, "--help"]) == 0
        assert "Example" in capsys.readouterr().out
