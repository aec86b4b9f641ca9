"""Whatever a listener is like, its verdict follows from its reasons, and hiding never helps."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.interpreters import script_of
from fleetward.core.listeners import (
    BoundSocket,
    Executable,
    FileState,
    Listener,
    Owner,
    PackageFile,
    Platform,
    Script,
    Survey,
    Transport,
)
from fleetward.core.portchanges import identity_of, known_of
from fleetward.core.portrules import PortRule, Verdict
from fleetward.core.ports import REASON_IDS, Expectations, RelayRole, Weight, judge, verdict_of

NAMES = st.sampled_from(
    ["honestd", "rtvscan.exe", "python3", "fleetward", "ccSvcHst.exe", "x\x1b[2J", "", "\u0455"]
)
PATHS = st.sampled_from(
    [
        "/usr/sbin/honestd",
        "/usr/bin/python3.11",
        "/tmp/rtvscan.exe",  # noqa: S108 (a text)
        r"C:\Program Files\Symantec\Smc.exe",
        "/memfd:x",
        "/",
    ]
)
SCRIPTS = st.builds(
    Script,
    kind=st.sampled_from(["file", "module", "code"]),
    name=st.sampled_from(["fleetward", "/srv/x.py", "fleetward.cli.agentd", ""]),
    arguments=st.sampled_from([(), ("relay", "run"), ("ports", "sense")]),
    sha256=st.sampled_from([None, "12" * 32]),
    writable=st.sampled_from([None, "/srv"]),
)
FILES = st.builds(
    Executable,
    path=PATHS,
    sha256=st.sampled_from([None, "ab" * 32, "cd" * 32]),
    state=st.sampled_from(FileState),
    writable=st.sampled_from([None, "/opt"]),
    package=st.none()
    | st.builds(PackageFile, name=st.just("honest"), intact=st.sampled_from([None, True, False])),
)
OWNERS = st.builds(
    Owner,
    pid=st.integers(1, 5),
    name=NAMES,
    command=st.lists(NAMES, max_size=3).map(tuple),
    executable=st.none() | FILES,
    script=st.none() | SCRIPTS,
    user=st.sampled_from(["root", ""]),
    unit=st.sampled_from(["", "h.service"]),
    container=st.sampled_from(["", "docker 12"]),
    activated=st.booleans(),
)
SOCKETS = st.builds(
    BoundSocket,
    protocol=st.sampled_from(Transport),
    address=st.sampled_from(["127.0.0.1", "::", "192.0.2.1", "::1"]),
    port=st.sampled_from([2967, 2968, 80, 40_000]),
    v6only=st.sampled_from([None, True, False]),
    inode=st.integers(0, 3),
)
LISTENERS = st.builds(
    Listener,
    socket=SOCKETS,
    owners=st.lists(OWNERS, max_size=3).map(tuple),
    user=st.sampled_from(["root", ""]),
    unit=st.sampled_from(["", "h.service"]),
    container=st.sampled_from(["", "docker 12"]),
    in_own_namespace=st.booleans(),
)
RULES = st.builds(
    PortRule,
    name=st.just("r"),
    verdict=st.sampled_from(Verdict),
    port=st.just(2967),
    path=st.sampled_from(["", "/usr/*"]),
    unit=st.sampled_from(["", "h.service"]),
    despite=st.lists(st.sampled_from(sorted(REASON_IDS)), max_size=3).map(tuple),
)
EXPECTATIONS = st.builds(
    Expectations, rules=st.lists(RULES, max_size=2).map(tuple), role=st.sampled_from(RelayRole)
)
SURVEYS = st.builds(
    Survey,
    platform=st.sampled_from(Platform),
    method=st.just("test"),
    listeners=st.lists(LISTENERS, max_size=4).map(tuple),
    ephemeral=st.sampled_from([None, (32_768, 60_999)]),
)
BADNESS = [Verdict.EXPECTED, Verdict.UNKNOWN, Verdict.SUSPICIOUS]


@given(SURVEYS, EXPECTATIONS)
def test_the_verdict_is_what_the_reasons_weigh(survey: Survey, expectations: Expectations) -> None:
    for judged in judge(survey, expectations):
        assert judged.verdict is verdict_of(judged.reasons)
        assert {reason.id for reason in judged.reasons} <= REASON_IDS
        assert all(reason.sentence for reason in judged.reasons)
        assert len(judged.ids) == len(set(judged.ids)), "no reason is told twice"
        if judged.verdict is not Verdict.EXPECTED:
            assert judged.ids, "whatever is not expected has a reason that decides"


@given(SURVEYS, EXPECTATIONS)
def test_nothing_is_expected_unless_something_speaks_for_it(
    survey: Survey, expectations: Expectations
) -> None:
    for judged in judge(survey, expectations):
        for_it = [r.id for r in judged.reasons if r.weight is Weight.EXPECTED]
        if judged.verdict is Verdict.EXPECTED:
            assert for_it
        assert set(for_it) <= {"operator-rule", "symantec-program", "fleetward-program"}


@given(SURVEYS, st.sampled_from(RelayRole))
def test_whoever_hides_his_file_is_never_expected_without_a_rule(
    survey: Survey, role: RelayRole
) -> None:
    hidden = replace(
        survey,
        listeners=tuple(
            replace(one, owners=tuple(replace(o, executable=None, script=None) for o in one.owners))
            for one in survey.listeners
        ),
    )
    for judged in judge(hidden, Expectations(role=role)):
        assert judged.verdict is not Verdict.EXPECTED


@given(SURVEYS, EXPECTATIONS)
def test_to_delete_the_file_never_makes_a_verdict_better(
    survey: Survey, expectations: Expectations
) -> None:
    """Unless the operator's rule excuses exactly that."""
    if any(rule.despite for rule in expectations.rules):
        return
    before = judge(_all_in(survey, FileState.PRESENT), expectations)
    after = judge(_all_in(survey, FileState.DELETED), expectations)
    for one, other in zip(before, after, strict=True):
        is_altered = "package-altered" in one.ids
        assert is_altered or BADNESS.index(other.verdict) >= BADNESS.index(one.verdict)


def _all_in(survey: Survey, state: FileState) -> Survey:
    def with_state(owner: Owner) -> Owner:
        file = owner.executable
        return replace(owner, executable=replace(file, state=state) if file else None)

    return replace(
        survey,
        listeners=tuple(
            replace(one, owners=tuple(map(with_state, one.owners))) for one in survey.listeners
        ),
    )


@given(LISTENERS, st.integers(1, 99_999), st.integers(1, 99_999))
def test_an_identity_knows_neither_pid_nor_inode(one: Listener, pid: int, inode: int) -> None:
    principal = one.principal
    if principal is None or principal.pid == 1:
        return
    owners = tuple(replace(o, pid=o.pid if o.pid == 1 else o.pid + pid) for o in one.owners)
    other = replace(one, owners=owners, socket=replace(one.socket, inode=inode))
    assert identity_of(other) == identity_of(one)


@given(SURVEYS)
def test_what_is_remembered_can_be_told(survey: Survey) -> None:
    for judged in judge(survey, Expectations()):
        known = known_of(judged)
        assert known.identity.port == judged.listener.socket.port
        assert known.reasons == judged.ids


@given(
    st.sampled_from(
        ["/usr/bin/python3", "/bin/sh", "/usr/bin/java", "/usr/bin/perl", "/usr/bin/x"]
    ),
    st.lists(st.text(max_size=8) | st.sampled_from(["-m", "-c", "-X", "--", "-jar"]), max_size=6),
)
def test_command_lines_of_any_words_give_a_script_or_none(path: str, words: list[str]) -> None:
    found = script_of(path, (path, *words))
    if found is not None:
        assert found.kind in {"file", "module", "code"}
        assert found.name == "" or found.name in words
