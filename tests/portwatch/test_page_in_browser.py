"""The report of a capture in Chromium: readable by everybody, on paper, and silent on the network."""

from pathlib import Path

import pytest

from console.browsers import ADVICE, chromium, window
from fleetward.portwatch.page import report_page
from portwatch.captures import Talk, capture_of
from portwatch.payloads import GUP, HTTP, OURS
from portwatch.test_report import report_of, scan

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(chromium() is None, reason=ADVICE),
]


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    packets = [*scan(40), *Talk().open().say(OURS).packets]
    packets += Talk("fd00::9", "fd00::1").open().say(GUP).packets
    packets += Talk(client_port=9).open().say(HTTP.replace(b"/admin", b"/" + b"a" * 900)).packets
    file = tmp_path / "report.html"
    file.write_text(report_page(report_of(capture_of(packets).pcap())), encoding="utf-8")
    return file


def test_it_passes_the_audit_at_every_width(page_file: Path) -> None:
    with window() as opened:
        asked: list[str] = []
        opened.page.on("request", lambda request: asked.append(request.url))
        opened.page.goto(page_file.as_uri())
        opened.look("capture")
        assert opened.page.locator("h1").inner_text() == "Port watch: a.pcap"
        assert opened.complaints == []
        assert {url.partition(":")[0] for url in asked} == {"file"}
        assert len(asked) == 1


def test_it_prints_on_paper(page_file: Path, tmp_path: Path) -> None:
    with window() as opened:
        opened.page.goto(page_file.as_uri())
        paper = opened.page.pdf(format="A4")
    assert paper.startswith(b"%PDF-")
    assert paper.count(b"/Type /Page\n") < 8
