"""What an interpreter runs, by its command line."""

import pytest

from fleetward.core.interpreters import file_name, is_interpreter, script_of
from fleetward.core.listeners import Script


@pytest.mark.parametrize(
    "path",
    [
        "/usr/bin/python3.11", "/usr/bin/python", "/bin/sh", "/bin/busybox", "/usr/bin/node",
        "/usr/bin/perl5.36", "/usr/bin/ruby3.1", r"C:\Python311\pythonw.exe",
        r"C:\Windows\System32\WindowsPowerShell\v1.0\PowerShell.exe", "/usr/bin/php8.2-fpm",
    ],
)  # fmt: skip
def test_interpreters(path: str) -> None:
    assert is_interpreter(path)


@pytest.mark.parametrize(
    "path", ["/usr/sbin/sshd", "/usr/bin/pythonista", "/opt/nodejsd", "/usr/sbin/nginx", ""]
)
def test_near_misses(path: str) -> None:
    assert not is_interpreter(path)
    assert script_of(path, (path, "x.py")) is None


def said(kind: str, name: str = "", *arguments: str) -> Script:
    return Script(kind=kind, name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("python3 x.py a b", said("file", "x.py", "a", "b")),
        ("python3 -u -X dev -W error /srv/x.py", said("file", "/srv/x.py")),
        ("python3 -I -m fleetward relay run", said("module", "fleetward", "relay", "run")),
        ("python3 -Im http.server 80", said("module", "http.server", "80")),
        ("python3 -c pass", said("code")),
        ("python3 -Bcpass", said("code")),
        ("python3 -", None),
        ("python3", None),
        ("python3 -m", None),
        ("python3 -X", None),
        ("perl -w /srv/x.pl -m", said("file", "/srv/x.pl", "-m")),
        ("perl -ne print", said("code")),
        ("ruby -I lib x.rb", said("file", "x.rb")),
        ("ruby -e 1", said("code")),
        ("node --require a.js b.js", said("file", "b.js")),
        ("node -e 1", said("code")),
        ("bash -x script", said("file", "script")),
        ("bash -lc id", said("code")),
        ("sh -c id", said("code")),
        ("java -cp a:b -jar x.jar 1", said("file", "x.jar", "1")),
        ("java -Xmx1g -cp a:b org.Main 1", said("module", "org.Main", "1")),
        ("powershell.exe -Command x", said("code")),
    ],
)
def test_what_is_run(command: str, script: Script | None) -> None:
    words = tuple(command.split())
    assert script_of(f"/usr/bin/{words[0]}", words) == script


def test_arguments_are_bounded() -> None:
    for command in (("python3", "x.py", *"a" * 50), ("python3", "-m", "x", *"a" * 50)):
        found = script_of("/usr/bin/python3", command)
        assert found is not None
        assert len(found.arguments) == 19


def test_file_names_of_every_platform() -> None:
    assert file_name("/a/b") == file_name(r"C:\a\b") == file_name("b") == "b"
