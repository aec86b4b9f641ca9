"""The port watch's documents: `ports show --json`, events, the summary."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.limits import STATUS
from fleetward.core.listeners import Platform, Reach, Survey, Transport, Unseen
from fleetward.core.portchanges import Change, Known, Observation, Watched, known_of, observe
from fleetward.core.portrules import Verdict
from fleetward.core.status import EventKind
from fleetward.errors import DocumentError
from fleetward.wire.ports import (
    ListenerNote,
    PortsDocument,
    decode_ports,
    encode_ports,
    event_of,
    parse_listener_event,
    ports_document,
    summary_of,
)
from support.fakes import START
from support.portsamples import HONEST, altered, judged, listener, one, owner, relay


def document(*ports: int) -> PortsDocument:
    listeners = (
        listener(owner(), address="::", v6only=False, namespace=4026),
        listener(relay(), address="::1"),
        listener(owner(name="rtvscan.exe"), port=80),
    )
    survey = Survey(
        platform=Platform.LINUX,
        method="test",
        listeners=listeners,
        unseen=(Unseen(what="something", command="sudo it"),),
    )
    return ports_document(survey, judged(*listeners), ports=ports, host="h", made=START)


def test_a_document_comes_back_as_it_went() -> None:
    made = document(2967)
    content = encode_ports(made)
    assert decode_ports(content) == made
    told = json.loads(content)
    assert next(iter(told)) == "schema"
    assert (told["schema"], told["verdict"]) == ("fleetward.ports/1", "suspicious")
    first = told["listeners"][0]
    assert (first["families"], first["reachable"]) == (["ipv4", "ipv6"], True)
    assert first["owners"][0]["executable"]["package"] == {"name": "honest", "intact": True}
    assert [row["families"] for row in told["listeners"][1:]] == [["ipv6"], ["ipv4"]]
    assert {"id", "weight", "sentence", "next_step"} == set(first["reasons"][0])


def test_the_registry_is_told_of_what_was_asked_for() -> None:
    assert len(document(2967).registry) == 1
    assert document(80).registry == ()
    assert document().registry[0].startswith("2967: IANA assigns it to ssc-agent")


def test_where_nothing_listens_the_verdict_is_expected() -> None:
    empty = Survey(platform=Platform.LINUX, method="test")
    made = ports_document(empty, (), ports=[2967], host="h", made=START)
    assert (made.verdict, made.listeners) == (Verdict.EXPECTED, ())


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"schema":"fleetward.ports/2"}', b'{"schema":"fleetward.ports/1"}']
)
def test_other_documents_are_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        decode_ports(content)


# -- events ------------------------------------------------------------------------------------


def known(**more: object) -> Known:
    return replace(known_of(one(listener(owner(unit="h.service")))), **more)  # type: ignore[arg-type]


def test_an_opened_listener_as_an_event_and_back() -> None:
    kind, subject, detail = event_of(Observation(change=Change.OPENED, now=known()))
    assert kind is EventKind.LISTENER_OPENED
    assert subject == "tcp/2967 honestd"
    assert detail == (
        f"unknown loopback sha256={'ab' * 16} unit=h.service reasons=nothing-expects-it "
        "path=/usr/sbin/honestd"
    )
    assert parse_listener_event(subject, detail) == ListenerNote(
        protocol=Transport.TCP,
        port=2967,
        name="honestd",
        verdict=Verdict.UNKNOWN,
        reach=Reach.LOOPBACK,
        sha256="ab" * 16,
        unit="h.service",
        reasons=("nothing-expects-it",),
        path="/usr/sbin/honestd",
    )


def test_a_change_says_what_was_before() -> None:
    other = known_of(one(listener(owner(altered(HONEST, sha256="99" * 32)))))
    kind, subject, detail = event_of(Observation(change=Change.CHANGED, now=other, before=known()))
    assert kind is EventKind.LISTENER_CHANGED
    assert parse_listener_event(subject, detail).was == "ab" * 16
    worse = known(verdict=Verdict.SUSPICIOUS)
    _, subject, detail = event_of(Observation(change=Change.CHANGED, now=worse, before=known()))
    assert parse_listener_event(subject, detail).was == "unknown"


def test_a_closed_listener_of_a_container_whose_owner_was_hidden() -> None:
    hidden = listener(container="docker 0123", in_own_namespace=False)
    past = known_of(one(hidden))
    kind, subject, detail = event_of(Observation(change=Change.CLOSED, now=past))
    assert (kind, subject) == (EventKind.LISTENER_CLOSED, "tcp/2967")
    note = parse_listener_event(subject, detail)
    assert (note.name, note.container, note.sha256) == ("", "docker:0123", "")


def test_an_executable_without_a_digest_is_no_digest() -> None:
    by_path = known_of(one(listener(owner(altered(HONEST, sha256=None)))))
    _, subject, detail = event_of(Observation(change=Change.OPENED, now=by_path))
    assert parse_listener_event(subject, detail).sha256 == ""


def test_muted_observations_are_one_line() -> None:
    kind, subject, detail = event_of(Observation(change=Change.MUTED, muted=7))
    assert (kind, subject) == (EventKind.LISTENER_CHANGED, "")
    assert detail.startswith("7 more changes")
    with pytest.raises(DocumentError):
        parse_listener_event(subject, detail)


@pytest.mark.parametrize(
    ("subject", "detail"),
    [
        ("", ""),
        ("sctp/2967 x", "unknown loopback"),
        ("tcp/x x", "unknown loopback"),
        ("tcp/1 x", "fine loopback"),
        ("tcp/1 x", "unknown"),
    ],
)
def test_other_texts_are_refused(subject: str, detail: str) -> None:
    with pytest.raises(DocumentError):
        parse_listener_event(subject, detail)


@given(name=st.text(max_size=300), path=st.text(max_size=300), unit=st.text("ab.@", max_size=90))
def test_a_program_cannot_forge_what_machines_join_by(name: str, path: str, unit: str) -> None:
    """It calls itself ` sha256=…`, or lies at a path with ` reasons=` in it."""
    one_known = known(name=f"{name} sha256=00", path=f"{path} reasons=x verdict=expected")
    one_known = replace(one_known, identity=replace(one_known.identity, unit=unit))
    _, subject, detail = event_of(Observation(change=Change.OPENED, now=one_known))
    assert len(detail) <= STATUS.text_chars
    note = parse_listener_event(subject, detail)
    assert (note.verdict, note.sha256) == (Verdict.UNKNOWN, "ab" * 16)
    assert note.reasons == ("nothing-expects-it",)


# -- the summary -------------------------------------------------------------------------------


def watched(*names: str) -> Watched:
    listeners = [listener(owner(name=name), port=at) for at, name in enumerate(names, 80)]
    return observe(Watched(), judged(*listeners), START)[0]


def test_the_summary_counts_and_its_digest_follows_the_list() -> None:
    summary = summary_of(watched("a", "rtvscan.exe"))
    assert (summary.listeners, summary.unexpected) == (2, 1)
    assert summary == summary_of(watched("b", "rtvscan.exe"))  # a name is no identity
    assert summary.digest != summary_of(watched("a", "a")).digest  # a verdict has changed
    assert summary.digest != summary_of(watched("a")).digest
    assert summary_of(Watched()).listeners == 0
