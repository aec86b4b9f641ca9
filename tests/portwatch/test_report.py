"""The report of a capture: findings, scans, bounds that are told, the page and the picture."""

import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.portclass import SYMANTEC_PORTS
from fleetward.core.portrules import Verdict
from fleetward.portwatch.grouping import rows_of
from fleetward.portwatch.inspecting import CountingStream, inspect_capture
from fleetward.portwatch.limits import CAPTURES, FAN_OUT_HOSTS, CaptureLimits
from fleetward.portwatch.page import report_page
from fleetward.portwatch.report import SCHEMA, CaptureReport, address_text, instant
from fleetward.portwatch.svg import bin_width_text, timeline_picture
from fleetward.portwatch.timeline import Timeline
from fleetward.wire.documents import encode_json
from portwatch.captures import (
    SYN,
    Capture,
    Talk,
    capture_of,
    framed,
    interface,
    ip,
    packet_block,
    section,
    tcp,
)
from portwatch.payloads import GUP, HTTP, OURS, OVERFLOW


def report_of(
    content: bytes, *, name: str = "a.pcap", limits: CaptureLimits = CAPTURES
) -> CaptureReport:
    return inspect_capture(io.BytesIO(content), name, SYMANTEC_PORTS, limits)


def knock(client: str, server: str, *, port: int = 40_000) -> bytes:
    return ip(client, server, tcp(port, 2967, seq=1, flags=SYN))


def scan(hosts: int, client: str = "192.0.2.66") -> list[bytes]:
    return [knock(client, f"10.0.{n // 250}.{n % 250 + 1}") for n in range(hosts)]


def findings_of(report: CaptureReport) -> dict[str, int]:
    return {finding.id: finding.flows for finding in report.findings}


class TestFindings:
    def test_a_worm_among_ordinary_traffic(self) -> None:
        """An infected host scans, and sends the overflow to the one host that answers."""
        packets = [
            *Talk("10.9.9.9", "10.0.0.1").open().say(OURS).packets,
            *scan(30),
            *Talk("192.0.2.66", "10.0.0.7").open().say(OVERFLOW).packets,
        ]
        report = report_of(capture_of(packets).pcap())
        assert report.verdict is Verdict.SUSPICIOUS
        assert [finding.id for finding in report.findings] == [
            "fan-out", "rtvscan-overflow", "no-data", "fleetward",
        ]  # fmt: skip
        assert report.findings[1].from_addresses == ("192.0.2.66",)
        assert all(f.sentence and f.next_step and f.source for f in report.findings)
        assert report.conversations[0].kind.value == "rtvscan-overflow"

    @pytest.mark.parametrize(("hosts", "is_scan"), [(FAN_OUT_HOSTS, True), (9, False)])
    def test_a_scan_begins_at_ten_hosts(self, hosts: int, *, is_scan: bool) -> None:
        report = report_of(capture_of(scan(hosts)).pcap())
        assert ("fan-out" in findings_of(report)) is is_scan
        assert report.sources[0].fans_out is is_scan
        assert report.verdict is (Verdict.SUSPICIOUS if is_scan else Verdict.UNKNOWN)

    def test_who_talks_with_many_hosts_is_no_scan(self) -> None:
        packets = []
        for n in range(1, 20):
            packets += Talk("10.9.9.9", f"10.0.0.{n}").open().say(GUP).packets
        assert "fan-out" not in findings_of(report_of(capture_of(packets).pcap()))

    def test_other_content_for_the_same_bytes_is_a_finding(self) -> None:
        talk = Talk().open().say(HTTP).say(OVERFLOW)
        report = report_of(capture_of(talk.packets).pcap())
        assert findings_of(report) == {"contradiction": 1, "http": 1}
        assert report.verdict is Verdict.SUSPICIOUS

    def test_a_client_port_is_no_reason_to_worry(self) -> None:
        talk = Talk(client_port=2967, server_port=80).open()
        report = report_of(capture_of(talk.packets).pcap())
        assert (report.verdict, report.sources) == (Verdict.EXPECTED, ())

    def test_an_empty_capture(self) -> None:
        report = report_of(Capture().pcap())
        assert (report.verdict, report.first, report.flows) == (Verdict.EXPECTED, None, 0)
        assert "Nothing on these ports." in report_page(report)


class TestSums:
    def test_a_conversation_adds_up(self) -> None:
        packets = []
        for n in range(3):
            talk = Talk(client_port=5_000 + n).open().say(GUP).answer(b"HTTP/1.1 200 OK\r\n")
            packets += talk.packets
        (row,) = report_of(capture_of(packets).pcap()).conversations
        assert (row.flows, row.answered, row.opened_by) == (3, 3, {"syn": 3})
        assert row.packets == (9, 6)
        assert row.detail.startswith("GET /content/")
        assert row.first < row.last

    def test_what_finds_no_place_is_counted(self) -> None:
        limits = replace(CAPTURES, conversations=5, sources=3, peers=2, all_peers=4)
        packets = scan(20)
        packets += [knock(f"10.8.0.{n}", "10.0.0.1") for n in range(1, 11)]
        packets += Talk("10.7.7.7", "10.0.0.1").open().say(OVERFLOW).packets
        report = report_of(capture_of(packets).pcap(), limits=limits)
        shown = sum(row.flows for row in report.conversations)
        assert shown + sum(report.more_flows.values()) == report.flows == 31
        assert sum(one.flows for one in report.sources) + report.more_source_flows == 31
        assert report.sources[0].servers == 2
        assert not report.sources[0].servers_are_all
        assert report.conversations[0].kind.value == "rtvscan-overflow"
        page = report_page(report)
        assert "more flows that found no place" in page
        assert "more flows of further sources" in page
        assert "over 2" in page

    def test_many_servers_of_one_source_share_a_row(self) -> None:
        packets = [*scan(30), *scan(3, "192.0.2.67")]
        packets += Talk("fd00::9", "fd00::1").open().say(HTTP).packets
        rows = rows_of(report_of(capture_of(packets).pcap()).conversations)
        assert [(row.target, row.flows) for row in rows] == [
            ("[fd00::1]:2967/tcp", 1),
            ("30 hosts, port 2967/tcp", 30),
            *((f"10.0.0.{n}:2967/tcp", 1) for n in (1, 2, 3)),
        ]
        assert rows[0].detail.startswith("GET /admin")

    def test_the_document_begins_with_its_schema_and_reads_as_json(self) -> None:
        report = report_of(capture_of(scan(3)).pcap())
        text = encode_json(SCHEMA, report).decode()
        assert text.startswith('{"schema":"fleetward.capture/1"')
        document = json.loads(text)
        assert document["verdict"] == "unknown"
        assert document["conversations"][0]["kind"] == "no-data"

    def test_addresses_and_instants_for_people(self) -> None:
        assert address_text(bytes([10, 0, 0, 1])) == "10.0.0.1"
        assert address_text(bytes(10) + b"\xff\xff\x0a\0\0\1") == "10.0.0.1"
        assert address_text(bytes(15) + b"\1") == "::1"
        assert instant(0) == datetime(1970, 1, 1, tzinfo=UTC)
        assert instant(1e30) > instant(0) > instant(-1e30)

    @pytest.mark.parametrize("resolution", [b"\x00", b"\x7f", b"\xff", b"\x06"])
    def test_times_that_cannot_be_break_nothing(self, resolution: bytes) -> None:
        frame = framed(knock("10.0.0.9", "10.0.0.1"))
        content = section() + interface(options=[(9, resolution)])
        content += packet_block(frame, (1 << 64) - 1, 60) + packet_block(frame, 0, 60)
        report = report_of(content)
        assert report.flows == 1
        assert "<svg" in report_page(report)

    def test_progress_is_told_in_bytes_read(self) -> None:
        content = capture_of(scan(3)).pcap()
        seen: list[int] = []
        inspect_capture(CountingStream(io.BytesIO(content), seen.append), "a")
        assert seen[-1] == len(content)
        assert seen == sorted(seen)


class TestTimeline:
    @given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=60), st.integers(2, 40))
    def test_any_instants_fit_the_bins_and_none_is_lost(
        self, instants: list[float], most: int
    ) -> None:
        timeline = Timeline(most)
        for when in instants:
            timeline.add(when, "http")
        bins = list(timeline.bins())
        assert len(bins) <= most
        assert sum(one.counts.get("http", 0) for one in bins) == len(instants)

    def test_what_is_no_number_counts_at_the_edge(self) -> None:
        timeline = Timeline(4)
        for when in (float("nan"), float("inf"), 5.0):
            timeline.add(when, "http")
        assert sum(one.counts["http"] for one in timeline.bins() if one.counts) == 3

    @pytest.mark.parametrize(
        ("seconds", "text"), [(1, "1 s"), (64, "64 s"), (512, "8.53 min"), (16_384, "4.55 h"),
                              (262_144, "3.03 d")],
    )  # fmt: skip
    def test_widths_for_people(self, seconds: float, text: str) -> None:
        assert bin_width_text(seconds) == text


class TestPage:
    EVIL = b'GET /"><script>alert(1)</script> HTTP/1.1\r\nHost: <img/src=x>\r\n\r\n'

    def report(self) -> CaptureReport:
        packets = [*Talk().open().say(self.EVIL).packets, *scan(40)]
        return report_of(capture_of(packets).pcap(), name="<b>.pcap")

    def test_what_strangers_sent_is_escaped(self) -> None:
        page = report_page(self.report())
        assert "<script" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page
        assert "<b>.pcap" not in page

    def test_it_is_one_file_that_fetches_nothing(self) -> None:
        page = report_page(self.report())
        assert "default-src 'none'" in page
        assert "@media print" in page
        for word in ('http-equiv="refresh', "<link", 'src="', "url(", "@import"):
            assert word not in page

    def test_the_picture_is_well_formed_and_tells_its_numbers(self) -> None:
        report = self.report()
        picture = timeline_picture(report.timeline, report.bin_seconds)
        root = ET.fromstring(picture)  # noqa: S314 (made here)
        titles = [e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}title")]
        assert any("http 1" in title and "no-data 40" in title for title in titles)
        assert "41 flows" in root.attrib["aria-label"]
        assert ET.fromstring(timeline_picture((), 1.0)).attrib["aria-label"] == "no flows"  # noqa: S314
