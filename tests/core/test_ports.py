"""Verdicts: each line of the table in core.ports, with its near miss."""

import re
from dataclasses import replace

import pytest

from fleetward.core import ports
from fleetward.core.listeners import (
    Executable,
    FileState,
    Listener,
    PackageFile,
    Platform,
    Reach,
    Script,
    Transport,
    kept_command,
    reach_of,
)
from fleetward.core.portregistry import FACTS, fact_of
from fleetward.core.portrules import PortRule, Verdict
from fleetward.core.ports import Judged, OwnSensor, RelayRole, Weight, fleetward_program, verdict_of
from support.portsamples import (
    HONEST,
    PYTHON,
    SYMANTEC,
    altered,
    judged,
    listener,
    one,
    owner,
    relay,
    running,
)

EXPECTED, UNKNOWN, SUSPICIOUS = Verdict.EXPECTED, Verdict.UNKNOWN, Verdict.SUSPICIOUS
HONEST_RULE = PortRule(name="honest", port=2967, package="honest")


def ids(found: Judged) -> set[str]:
    return {reason.id for reason in found.reasons}


def test_an_honest_service_that_nobody_expects_is_unknown() -> None:
    found = one(listener(owner(), port=8080))
    assert found.verdict is UNKNOWN
    assert found.ids == ("nothing-expects-it",)
    assert "write a rule" in found.reasons[0].next_step


def test_every_reason_of_the_table_is_known_and_has_its_line() -> None:
    documented = set(
        re.findall(r"^    ([a-z]+(?:-[a-z]+)+) +[a-z]", ports.__doc__ or "", re.MULTILINE)
    )
    documented |= {"imitation", "inherited", "reachable", "registry"}
    assert documented == ports.REASON_IDS


# -- operator-rule -----------------------------------------------------------------------------


def test_the_operators_rule_makes_it_expected() -> None:
    found = one(listener(owner()), rules=(HONEST_RULE,))
    assert (found.verdict, found.ids) == (EXPECTED, ("operator-rule",))
    assert "'honest' says expected" in found.reasons[0].sentence


def test_the_first_rule_that_matches_decides() -> None:
    bad = PortRule(name="no", port=2967, verdict=SUSPICIOUS)
    found = listener(owner())
    assert one(found, rules=(bad, HONEST_RULE)).verdict is SUSPICIOUS
    assert one(found, rules=(HONEST_RULE, bad)).verdict is EXPECTED


def test_a_rule_may_also_say_unknown_even_of_a_relay() -> None:
    doubt = PortRule(name="ask", port=2967, verdict=UNKNOWN)
    assert one(listener(relay()), rules=(doubt,)).verdict is UNKNOWN


def test_near_miss_the_rule_names_another_port() -> None:
    rule = PortRule(name="other", port=2968, package="honest")
    assert one(listener(owner()), rules=(rule,)).verdict is UNKNOWN


def test_an_expected_rule_does_not_excuse_an_attack_unless_it_says_so() -> None:
    deleted = listener(owner(altered(HONEST, state=FileState.DELETED)))
    assert one(deleted, rules=(HONEST_RULE,)).verdict is SUSPICIOUS
    excusing = PortRule(name="j", port=2967, package="honest", despite=("executable-deleted",))
    found = one(deleted, rules=(excusing,))
    assert found.verdict is EXPECTED
    told = next(reason for reason in found.reasons if reason.id == "executable-deleted")
    assert told.weight is Weight.NOTE
    assert "excused by the rule 'j'" in told.sentence


# -- own-sensor --------------------------------------------------------------------------------

SENSOR = OwnSensor(pid=77, places=frozenset({(Transport.TCP, 2967), (Transport.UDP, 2967)}))
AGENT = Script(kind="module", name="fleetward.cli.agentd", arguments=("/home",))


@pytest.mark.parametrize("protocol", Transport)
@pytest.mark.parametrize("role", RelayRole)
def test_the_agents_own_sensor_is_expected(protocol: Transport, role: RelayRole) -> None:
    """Also where the host is stated to be no relay: it is none, and says so by hearing alone."""
    found = one(listener(running(AGENT), protocol=protocol), sensor=SENSOR, role=role)
    assert found.verdict is EXPECTED
    assert "own-sensor" in found.ids


@pytest.mark.parametrize(
    "near",
    [
        listener(running(AGENT, pid=78)),
        listener(running(AGENT), port=2968),
        listener(running(AGENT), owner(pid=78)),
        listener(),
    ],
    ids=["another process", "another port", "somebody beside it", "nobody to be seen"],
)
def test_near_misses_of_the_own_sensor(near: Listener) -> None:
    found = one(near, sensor=SENSOR)
    assert "own-sensor" not in found.ids
    assert found.verdict is UNKNOWN


def test_a_command_line_like_the_agents_is_no_sensor() -> None:
    """A program takes the agent's name and home, and listens by TCP."""
    assert one(listener(running(AGENT))).verdict is UNKNOWN
    assert one(listener(running(AGENT)), role=RelayRole.NONE).verdict is SUSPICIOUS


def test_the_rule_of_the_documentation_expects_it_from_another_process_too() -> None:
    rule = PortRule(name="the agent's sensor", port=2967, script="fleetward.cli.agentd")
    assert one(listener(running(AGENT)), rules=(rule,)).verdict is EXPECTED
    other = Script(kind="module", name="fleetward.cli.agentd2")
    assert one(listener(running(other)), rules=(rule,)).verdict is UNKNOWN


def test_an_own_sensor_whose_interpreter_anybody_may_write_is_suspicious() -> None:
    program = running(AGENT)
    assert program.executable
    loose = replace(program, executable=altered(program.executable, writable="/usr/bin"))
    assert one(listener(loose), sensor=SENSOR).verdict is SUSPICIOUS


# -- symantec-program and imitation ------------------------------------------------------------


def windows(path: str, port: int = 2967, name: str = "") -> Judged:
    program = Executable(path=path, sha256="ef" * 32)
    found = listener(owner(program, name=name or path.rsplit("\\", maxsplit=1)[-1]), port=port)
    return one(found, platform=Platform.WINDOWS)


@pytest.mark.parametrize(
    "path",
    [
        SYMANTEC,
        r"C:\Program Files\Symantec AntiVirus\Rtvscan.exe",
        r"D:\Program Files\NavNT\rtvscan.exe",
        r"C:\PROGRAM FILES (X86)\SYMANTEC\SYMANTEC ENDPOINT PROTECTION\SMC.EXE",
    ],
)
def test_symantecs_programs_at_their_place_are_expected(path: str) -> None:
    found = windows(path)
    assert (found.verdict, found.ids) == (EXPECTED, ("symantec-program",))


@pytest.mark.parametrize(
    "path",
    [
        r"C:\Windows\Temp\rtvscan.exe",
        r"C:\Users\a\Program Files\x\rtvscan.exe",
        r"C:\Program Files\Symantec AntiVirus\Rtvscam.exe",
        r"C:\Windows\ccSvchst2.exe",
        "C:\\Program Files\\Symantec AntiVirus\\rtv\u0455can.exe",
        r"C:\Windows\srnc.exe",
    ],
)
def test_a_name_that_looks_like_symantecs_elsewhere_is_an_imitation(path: str) -> None:
    found = windows(path)
    assert (found.verdict, "imitation" in ids(found)) == (SUSPICIOUS, True)


def test_symantecs_program_on_a_port_that_is_not_theirs_is_unknown() -> None:
    assert windows(SYMANTEC, port=4444).verdict is UNKNOWN


def test_a_hidden_path_on_windows_proves_neither() -> None:
    hidden = listener(owner(None, name="Rtvscan.exe"))
    found = one(hidden, platform=Platform.WINDOWS)
    assert (found.verdict, "imitation" in ids(found)) == (UNKNOWN, False)


@pytest.mark.parametrize("name", ["rtvscan.exe", "RTVSCAN.EXE", "rtvscan", "Smc.exe", "ccSvcHst"])
def test_symantecs_names_on_linux_are_imitations(name: str) -> None:
    """Also where the program only calls itself so, and its file is another."""
    by_name = one(listener(owner(name=name)))
    by_file = one(listener(owner(altered(HONEST, path=f"/opt/{name}"), name="x")))
    by_argument = one(listener(owner(command=(f"/opt/{name}", "-d"))))
    by_script = one(listener(running(Script(kind="file", name=f"/opt/{name}"))))
    for found in (by_name, by_file, by_argument, by_script):
        assert found.verdict is SUSPICIOUS
        assert "imitation" in ids(found)


@pytest.mark.parametrize("name", ["rtvscan-notes.exe", "scan.exe", "sc.exe", "smcd", "fleetguard"])
def test_near_miss_names_that_only_contain_or_share_some_letters(name: str) -> None:
    assert "imitation" not in ids(one(listener(owner(name=name))))


@pytest.mark.parametrize(
    "name", ["fleetw\u0430rd", "fleetwards", "f1eetward", "FleetWard", "fIeetward-relay"]
)
def test_names_that_look_like_fleetwards_are_imitations(name: str) -> None:
    found = one(listener(owner(name=name)))
    assert found.verdict is SUSPICIOUS
    assert "looks like fleetward" in next(r.sentence for r in found.reasons if r.id == "imitation")


def test_near_miss_a_program_of_that_very_name_is_unknown() -> None:
    assert one(listener(owner(name="fleetward"))).verdict is UNKNOWN


def test_a_worker_that_imitates_is_found_among_honest_owners() -> None:
    found = one(listener(owner(), owner(pid=78, name="rtvscan.exe"), owner(pid=79, name="smc.exe")))
    assert [reason.id for reason in found.reasons].count("imitation") == 1


@pytest.mark.parametrize("name", ["nginx\x1b[2J", "a\nb", "\u202egpj.exe", "x\x00"])
def test_a_name_that_would_write_on_a_terminal(name: str) -> None:
    """Escapes, line ends, and the mark that turns the reading direction."""
    found = one(listener(owner(name=name)))
    assert found.verdict is SUSPICIOUS
    assert "unprintable-name" in found.ids
    by_file = one(listener(owner(altered(HONEST, path=f"/opt/{name}"))))
    assert "unprintable-name" in by_file.ids


@pytest.mark.parametrize("name", ["nginx: master", "caf\u00e9", "(sd-pam)", "\u65e5\u672c"])
def test_near_miss_names_of_every_language_and_with_spaces(name: str) -> None:
    assert "unprintable-name" not in ids(one(listener(owner(name=name))))


# -- fleetward-program -------------------------------------------------------------------------


def test_a_relay_is_expected_and_says_what_that_is_worth() -> None:
    found = one(listener(relay()))
    assert (found.verdict, found.ids) == (EXPECTED, ("fleetward-program",))
    assert "can forge" in found.reasons[0].sentence


@pytest.mark.parametrize(
    ("script", "program"),
    [
        (
            Script(kind="file", name="/opt/f/bin/fleetward", arguments=("relay", "run", "x")),
            "relay",
        ),
        (Script(kind="file", name="/bin/fleetward-relay", arguments=("relay", "run")), "relay"),
        (Script(kind="module", name="fleetward", arguments=("origin", "serve")), "origin"),
        (Script(kind="module", name="fleetward", arguments=("console", "run")), "console"),
        (Script(kind="module", name="fleetward", arguments=("ports", "sense")), "sensor"),
        (Script(kind="module", name="fleetward", arguments=("agent", "run")), None),
        (Script(kind="module", name="fleetwardx", arguments=("relay", "run")), None),
        (Script(kind="file", name="/bin/fleetward.py", arguments=("relay", "run")), None),
        (Script(kind="code", name="fleetward", arguments=("relay", "run")), None),
        (None, None),
    ],
)
def test_which_scripts_are_fleetwards(script: Script | None, program: str | None) -> None:
    assert fleetward_program(script, Transport.TCP) == program


def test_the_agent_may_hear_by_udp_and_never_listens_by_tcp() -> None:
    agent = running(Script(kind="module", name="fleetward.cli.agentd", arguments=("/var/lib/f",)))
    assert one(listener(agent, protocol=Transport.UDP)).verdict is EXPECTED
    assert one(listener(agent)).verdict is UNKNOWN


# -- the executable ----------------------------------------------------------------------------


def of_file(**changes: object) -> Judged:
    return one(listener(owner(altered(HONEST, **changes))), rules=(HONEST_RULE,))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": FileState.DELETED}, "executable-deleted"),
        ({"state": FileState.NEVER_A_FILE}, "executable-in-memory"),
        ({"writable": "/usr/sbin"}, "writable-by-anyone"),
    ],
)
def test_what_is_wrong_with_a_file(changes: dict[str, object], reason: str) -> None:
    found = of_file(**changes)
    assert found.verdict is SUSPICIOUS
    assert reason in found.ids
    assert next(r for r in found.reasons if r.id == reason).next_step


def test_near_miss_a_file_that_was_replaced_by_an_update_is_a_note() -> None:
    found = of_file(state=FileState.REPLACED)
    assert found.verdict is EXPECTED
    assert "executable-replaced" in ids(found)


def test_a_package_file_that_was_altered() -> None:
    found = one(listener(owner(altered(HONEST, package=PackageFile(name="honest", intact=False)))))
    assert found.verdict is SUSPICIOUS
    assert "package-altered" in found.ids


def test_near_miss_the_package_keeps_no_digest_or_was_updated_meanwhile() -> None:
    unknown = PackageFile(name="honest", intact=None)
    assert of_file(package=unknown).verdict is EXPECTED
    old = altered(
        HONEST, state=FileState.REPLACED, package=PackageFile(name="honest", intact=False)
    )
    assert "package-altered" not in ids(one(listener(owner(old))))


def test_a_script_that_anybody_may_write() -> None:
    script = Script(kind="file", name="/srv/s.py", writable="/srv/s.py")
    found = one(listener(running(script)))
    assert found.verdict is SUSPICIOUS
    assert "anybody on this host may write /srv/s.py" in [r.sentence for r in found.reasons]


# -- no-relay-role -----------------------------------------------------------------------------


def test_anything_on_2967_of_a_host_that_is_no_relay_is_suspicious() -> None:
    assert "no-relay-role" in one(listener(owner()), role=RelayRole.NONE).ids
    assert one(listener(relay()), role=RelayRole.NONE).verdict is SUSPICIOUS
    assert one(listener(), role=RelayRole.NONE).verdict is SUSPICIOUS


def test_near_misses_of_the_role() -> None:
    """Another port; a rule that expects it; the agent that hears; a host whose role is open."""
    assert "no-relay-role" not in ids(one(listener(owner(), port=2968), role=RelayRole.NONE))
    expected = one(listener(owner()), role=RelayRole.NONE, rules=(HONEST_RULE,))
    assert expected.verdict is EXPECTED
    agent = running(Script(kind="module", name="fleetward.cli.agentd"))
    heard = one(listener(agent, protocol=Transport.UDP), role=RelayRole.NONE)
    assert heard.verdict is EXPECTED
    for role in (RelayRole.UNSTATED, RelayRole.RELAY):
        assert one(listener(relay()), role=role).verdict is EXPECTED


# -- doubts ------------------------------------------------------------------------------------


def test_an_owner_that_nobody_could_see() -> None:
    found = one(listener(user="www-data", unit="x.service"))
    assert found.verdict is UNKNOWN
    reason = found.reasons[0]
    assert reason.id == "owner-unseen"
    assert "user www-data, unit x.service" in reason.sentence
    assert "sudo fleetward ports show" in reason.next_step
    assert "an unknown user" in one(listener(user="")).reasons[0].sentence


def test_a_socket_of_the_kernel_itself() -> None:
    assert "the kernel's own" in one(listener(inode=0)).reasons[0].sentence
    elsewhere = one(listener(inode=0), platform=Platform.WINDOWS)
    assert "kernel" not in elsewhere.reasons[0].sentence


def test_a_program_whose_file_could_not_be_seen_is_never_expected_by_its_name() -> None:
    rule = PortRule(name="any", port=2967)
    assert one(listener(owner(None)), rules=(rule,)).verdict is UNKNOWN


def test_programs_from_two_files_on_one_port() -> None:
    other = altered(HONEST, path="/opt/thief", sha256="99" * 32)
    pair = (listener(owner()), listener(owner(other, pid=78), inode=6))
    for found in judged(*pair, rules=(PortRule(name="any", port=2967),)):
        assert found.verdict is UNKNOWN
        assert "shared-port" in found.ids


def test_near_miss_two_sockets_of_one_program_or_on_two_addresses() -> None:
    for found in judged(listener(owner()), listener(owner(pid=78), inode=6)):
        assert "shared-port" not in ids(found)
    other = altered(HONEST, path="/opt/other", sha256=None)
    pair = (listener(owner()), listener(owner(other), address="127.0.0.2"))
    assert all("shared-port" not in ids(found) for found in judged(*pair))


def test_an_interpreter_that_a_rule_pins_by_its_path_alone() -> None:
    rule = PortRule(name="py", port=2967, path="/usr/bin/python3*")
    script = Script(kind="file", name="/tmp/x.py")  # noqa: S108 (a path in a sample)
    found = one(listener(running(script)), rules=(rule,))
    assert found.verdict is UNKNOWN
    assert "runs /tmp/x.py" in next(r.sentence for r in found.reasons if "interpreter" in r.id)


def test_what_an_interpreter_runs_is_named_as_far_as_it_is_known() -> None:
    code = one(listener(running(Script(kind="code"))))
    assert any("runs code;" in reason.sentence for reason in code.reasons)
    silent = one(listener(owner(PYTHON)))
    assert any("runs its input;" in reason.sentence for reason in silent.reasons)


@pytest.mark.parametrize(
    "pin", [{"unit": "x.service"}, {"script": "/srv/*.py"}, {"script_sha256": "12" * 32}]
)
def test_near_miss_a_rule_that_pins_the_unit_or_the_script(pin: dict[str, str]) -> None:
    rule = PortRule(name="py", port=2967, path="/usr/bin/python3*", **pin)  # type: ignore[arg-type]
    script = Script(kind="file", name="/srv/x.py", sha256="12" * 32)
    found = one(listener(running(script, unit="x.service")), rules=(rule,))
    assert found.verdict is EXPECTED


# -- notes -------------------------------------------------------------------------------------


def notes(found: Judged) -> set[str]:
    return {reason.id for reason in found.reasons if reason.weight is Weight.NOTE}


def test_an_ordinary_port_on_loopback_has_nothing_to_note() -> None:
    assert notes(one(listener(owner(), port=8080))) == set()


def test_the_port_2967_has_its_registry_entry_and_lies_in_the_old_range() -> None:
    found = one(listener(owner()))
    assert notes(found) == {"registry", "ephemeral-range"}
    told = {reason.id: reason.sentence for reason in found.reasons}
    assert "ssc-agent" in told["registry"]
    assert "old Windows" in told["ephemeral-range"]


def test_a_port_of_this_hosts_own_ephemeral_range() -> None:
    found = one(listener(owner(), port=40_000))
    assert "32768 to 60999" in next(r.sentence for r in found.reasons if r.id == "ephemeral-range")
    assert notes(one(listener(owner(), port=40_000), ephemeral=None)) == set()


def test_other_namespace() -> None:
    found = one(listener(owner(), in_own_namespace=False, namespace=4026, port=80))
    assert "(namespace 4026)" in found.reasons[-1].sentence
    named = one(listener(owner(), in_own_namespace=False, container="docker 12", port=80))
    assert "(docker 12)" in named.reasons[-1].sentence


def test_socket_activation_and_inheritance_are_told_apart() -> None:
    manager = owner(altered(HONEST, path="/lib/systemd/systemd"), pid=1, name="systemd")
    held = listener(manager, owner(), port=80)
    assert notes(one(held)) == {"socket-activation"}
    assert held.principal is not None
    assert held.principal.pid == 77
    assert notes(one(listener(owner(activated=True), port=80))) == {"socket-activation"}
    assert notes(one(listener(owner(), owner(pid=78), port=80))) == {"inherited"}


def test_reach_and_both_families() -> None:
    both = one(listener(owner(), address="::", v6only=False, port=80))
    assert notes(both) == {"serves-both", "reachable"}
    only = one(listener(owner(), address="::", v6only=True, port=80))
    assert notes(only) == {"reachable"}
    assert notes(one(listener(owner(), address="::", v6only=None, port=80))) == {"reachable"}


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("127.0.0.53", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("::ffff:0.0.0.0", Reach.EVERY_ADDRESS),
        ("0.0.0.0", Reach.EVERY_ADDRESS),  # noqa: S104 (a text)
        ("::", Reach.EVERY_ADDRESS),
        ("192.0.2.1", Reach.ONE_ADDRESS),
        ("fe80::1", Reach.ONE_ADDRESS),
    ],
)
def test_reach_by_address(address: str, reach: Reach) -> None:
    assert reach_of(address) is reach


# -- the tables themselves ---------------------------------------------------------------------


def test_what_weighs_more() -> None:
    reason = {w: ports._reason("registry", w, "") for w in Weight}
    assert verdict_of([]) is UNKNOWN
    assert verdict_of([reason[Weight.NOTE]]) is UNKNOWN
    assert verdict_of([reason[Weight.NOTE], reason[Weight.EXPECTED]]) is EXPECTED
    assert verdict_of([reason[Weight.UNKNOWN], reason[Weight.EXPECTED]]) is UNKNOWN
    assert verdict_of(list(reason.values())) is SUSPICIOUS


def test_the_registry_has_what_iana_says_of_symantecs_ports() -> None:
    names = {fact.port: fact.name for fact in FACTS}
    assert names == {2967: "ssc-agent", 2968: "enpp", 38037: "", 38292: "", 38293: ""}
    udp = fact_of(Transport.UDP, 38293)
    assert udp is not None
    assert "nobody (registry of 2026-11); in fact used by Symantec" in udp.sentence()
    assert fact_of(Transport.TCP, 80) is None
    bare = fact_of(Transport.TCP, 2968)
    assert bare is not None
    assert "enpp" in bare.sentence()


def test_command_lines_are_bounded() -> None:
    assert kept_command(["a", "b"]) == ("a", "b")
    kept = kept_command(["x" * 1000] * 30)
    assert len(kept) == 20
    assert kept[-1] == "…"
    assert len(kept[0]) == 400
