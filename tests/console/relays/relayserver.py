"""Relays as the console meets them: a real HTTP server on loopback that says what it is told to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def timestamp(version: int) -> bytes:
    """A timestamp as a relay serves it; nobody verifies its signature here."""
    signed = {
        "_type": "timestamp",
        "spec_version": "1.0.31",
        "version": version,
        "expires": "2027-01-01T00:00:00Z",
        "meta": {"snapshot.json": {"version": 7}},
    }
    return json.dumps({"signatures": [], "signed": signed}).encode()


@dataclass
class Answers:
    """What the server answers, by path; a body of None is a 404.

    Attributes:
        url: where it listens.
        bodies: path -> body, status and headers.
        asked: paths in their order.
    """

    url: str = ""
    bodies: dict[str, tuple[int, bytes, dict[str, str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def say(self, document: Any, version: int | None = None) -> None:  # noqa: ANN401 (any JSON)
        """Answer with a status, and perhaps a timestamp."""
        self.put("/v1/relay", json.dumps(document).encode())
        if version is not None:
            self.put("/metadata/timestamp.json", timestamp(version))

    def put(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        """Answer a path."""
        self.bodies[path] = (status, body, headers)


@contextmanager
def relay_server() -> Iterator[Answers]:
    """Give a relay that answers as told."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answers.asked.append(self.path)
            status, body, headers = answers.bodies.get(self.path, (404, b"", {}))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as http.server has it)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    answers.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
