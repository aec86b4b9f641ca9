"""A plain web server of Python's own library over a folder: an upstream that nobody wrote for us."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Quiet(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any, asked: list[str], **named: Any) -> None:  # noqa: ANN401
        self.asked = asked
        super().__init__(*arguments, **named)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.asked.append(f"{self.command} {self.path} {int(code)}")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (its name there)
        """Print nothing."""


@contextmanager
def web_server(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve `folder`, and give the URL and the list of what was asked: `GET /path 200`."""
    asked: list[str] = []
    handler = partial(_Quiet, directory=str(folder), asked=asked)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()
