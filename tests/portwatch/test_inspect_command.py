"""`fleetward ports inspect`: files in, table, JSON, page and picture out; exit codes."""

import gzip
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fleetward.cli import ports_inspect
from fleetward.errors import ConfigurationError, UsageError
from portwatch.captures import SYN, Talk, capture_of, ip, tcp
from portwatch.payloads import GUP, HTTP, OVERFLOW

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(ports_inspect.inspect)
RUNNER = CliRunner()


@pytest.fixture
def worm(tmp_path: Path) -> Path:
    file = tmp_path / "worm.pcap.gz"
    packets = [*Talk().open().say(GUP).packets, *Talk(client_port=5).open().say(OVERFLOW).packets]
    file.write_bytes(gzip.compress(capture_of(packets).pcap()))
    return file


def test_what_is_suspicious_exits_1_and_says_why(worm: Path) -> None:
    ended = RUNNER.invoke(app, [str(worm)])
    assert ended.exit_code == 1
    assert "rtvscan-overflow" in ended.stdout
    assert "Sagevo" in ended.stdout
    assert "next:" in ended.stdout


def test_json_is_one_document_with_the_schema_first(worm: Path) -> None:
    ended = RUNNER.invoke(app, [str(worm), "--json"])
    assert ended.exit_code == 1
    assert ended.stdout.startswith('{"schema":"fleetward.capture/1"')
    assert json.loads(ended.stdout)["flows"] == 2


def test_page_and_picture_are_written(worm: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "out.html", tmp_path / "out.svg"
    RUNNER.invoke(app, [str(worm), "--html", str(page), "--svg", str(picture)])
    assert page.read_text().startswith("<!doctype html>")
    assert picture.read_text().startswith("<svg ")


def test_ports_that_are_named_take_the_place_of_the_usual_ones(tmp_path: Path) -> None:
    file = tmp_path / "a.pcap"
    talk = Talk(server_port=8_080).open().say(HTTP)
    file.write_bytes(capture_of(talk.packets).pcapng())
    assert "0 flows" in RUNNER.invoke(app, [str(file)]).stdout
    ended = RUNNER.invoke(app, [str(file), "--port", "8080", "--port", "9"])
    assert ended.exit_code == 0
    assert "1 flow with 4 packets on 9, 8080" in ended.stdout


def test_many_conversations_are_cut_with_a_count(tmp_path: Path) -> None:
    file = tmp_path / "a.pcap"
    syns = [ip(f"fd00::{n:x}", "fd00::1:1", tcp(9, 2967, flags=SYN)) for n in range(1, 31)]
    file.write_bytes(capture_of(syns).pcap()[:-7])
    ended = RUNNER.invoke(app, [str(file)])
    assert "and 9 more flows" in ended.stdout
    assert "the file ends within packet 30" in ended.stderr


def test_files_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        RUNNER.invoke(app, [str(tmp_path / "none")], catch_exceptions=False)
    (tmp_path / "text").write_text("hello, world")
    with pytest.raises(UsageError, match="pcap and pcapng"):
        RUNNER.invoke(app, [str(tmp_path / "text")], catch_exceptions=False)
