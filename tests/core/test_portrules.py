"""The operator's rules: what each field matches, and what it must not."""

import pytest

from fleetward.core.listeners import PackageFile, Platform, Script, Transport
from fleetward.core.portrules import MAX_PATTERN_CHARS, PortRule
from fleetward.errors import DocumentError
from support.portsamples import HONEST, PYTHON, SYMANTEC, altered, listener, owner, running

LINUX = Platform.LINUX


def rule(**fields: object) -> PortRule:
    return PortRule(name="r", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fits", "misses"),
    [
        ({"port": 2967}, {"port": 2968}),
        ({"protocol": Transport.TCP}, {"protocol": Transport.UDP}),
        ({"user": "root"}, {"user": "daemon"}),
        ({"path": "/usr/sbin/h*d"}, {"path": "/usr/bin/*"}),
        ({"path": "/usr/sbin/honestd"}, {"path": "/usr/sbin/HONESTD"}),
        ({"sha256": "ab" * 32}, {"sha256": "cd" * 32}),
        ({"package": "honest"}, {"package": "honest-doc"}),
        ({"unit": "h.service"}, {"unit": "i.service"}),
        ({"container": "docker *"}, {"container": "podman *"}),
    ],
)
def test_each_field_alone(fits: dict[str, object], misses: dict[str, object]) -> None:
    found = listener(owner(unit="h.service", container="docker 12"))
    assert rule(**fits).matches(found, LINUX)
    assert not rule(**misses).matches(found, LINUX)


def test_every_owner_must_fit_but_for_the_manager_that_activated() -> None:
    thief = owner(altered(HONEST, path="/opt/thief"), pid=78)
    manager = owner(altered(HONEST, path="/lib/systemd/systemd"), pid=1)
    pinned = rule(path="/usr/sbin/honestd")
    assert not pinned.matches(listener(owner(), thief), LINUX)
    assert pinned.matches(listener(manager, owner()), LINUX)
    assert not pinned.matches(listener(manager), LINUX)


def test_what_cannot_be_seen_does_not_fit_a_pin() -> None:
    hidden = listener(unit="h.service", container="docker 12")
    assert rule(unit="h.service").matches(hidden, LINUX)
    assert rule(container="docker *").matches(hidden, LINUX)
    assert not rule(unit="i.service").matches(hidden, LINUX)
    for pin in ({"path": "*"}, {"sha256": "ab" * 32}, {"package": "honest"}, {"script": "*"}):
        assert not rule(**pin).matches(hidden, LINUX)
        assert not rule(**pin).matches(listener(owner(None)), LINUX)
    assert rule(port=2967).matches(listener(owner(None)), LINUX)


def test_a_units_name_from_the_sockets_cgroup_counts_where_the_owner_has_none() -> None:
    assert rule(unit="h.service").matches(listener(owner(), unit="h.service"), LINUX)
    assert not rule(unit="h.service").matches(
        listener(owner(unit="i.service"), unit="h.service"), LINUX
    )


def test_a_package_rule_refuses_an_altered_file() -> None:
    altered_file = altered(HONEST, package=PackageFile(name="honest", intact=False))
    unknown = altered(HONEST, package=PackageFile(name="honest"))
    none = altered(HONEST, package=None)
    pinned = rule(package="honest")
    assert not pinned.matches(listener(owner(altered_file)), LINUX)
    assert pinned.matches(listener(owner(unknown)), LINUX)
    assert not pinned.matches(listener(owner(none)), LINUX)


def test_scripts_by_path_module_and_digest() -> None:
    script = listener(running(Script(kind="file", name="/srv/app.py", sha256="12" * 32)))
    assert rule(script="/srv/*.py").matches(script, LINUX)
    assert rule(script_sha256="12" * 32).matches(script, LINUX)
    assert not rule(script="/srv/*.pl").matches(script, LINUX)
    assert not rule(script_sha256="13" * 32).matches(script, LINUX)
    assert not rule(script="*").matches(listener(owner(PYTHON)), LINUX)
    assert rule(script="http.server").matches(
        listener(running(Script(kind="module", name="http.server"))), LINUX
    )


def test_windows_paths_match_without_regard_to_case_and_slashes() -> None:
    found = listener(owner(altered(HONEST, path=SYMANTEC)))
    pattern = rule(path="c:/program files*/SYMANTEC/*.exe")
    assert pattern.matches(found, Platform.WINDOWS)
    assert not pattern.matches(found, LINUX)


def test_which_rules_pin_a_script() -> None:
    assert not rule(path="/usr/bin/python3").pins_script
    assert rule(unit="x").pins_script
    assert rule(script="x").pins_script
    assert rule(script_sha256="12" * 32).pins_script


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"port": 65_536},
        {"port": -1},
        {"sha256": "AB" * 32},
        {"script_sha256": "12"},
        {"path": "*" * (MAX_PATTERN_CHARS + 1)},
    ],
)
def test_rules_that_cannot_be_meant_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(DocumentError):
        rule(**fields)
