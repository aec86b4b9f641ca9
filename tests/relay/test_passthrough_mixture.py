"""An upstream that breaks off and changes all the time: no client ever gets a mixture."""

import asyncio
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from httpd.rawhttp import CutError
from httpd.upstreams import Asked, Out, Upstream, head
from relay.passthroughs import TestPassthrough, settings_of

PATHS = ("/a", "/b", "/c")
CLIENTS = 6
ASKS = 40


@dataclass
class Restless:
    """Files that turn into others now and then; each content has a tag of its own."""

    dice: random.Random
    contents: dict[str, bytes] = field(default_factory=dict)
    now: dict[str, str] = field(default_factory=dict)

    def tag(self, path: str) -> str:
        """The tag of what the file holds now."""
        if path not in self.now or self.dice.random() < 0.2:
            tag = f'"{path[1:]}{len(self.contents)}"'
            self.contents[tag] = self.dice.randbytes(self.dice.choice((0, 1, 500, 60_000, 300_000)))
            self.now[path] = tag
        return self.now[path]

    async def __call__(self, asked: Asked, out: Out) -> bool:
        tag = self.tag(asked.path)
        content = self.contents[tag]
        if self.dice.random() < 0.05:
            await out.send(head(0, status=self.dice.choice(("500 Oh", "404 No", "403 No"))))
            return True
        if asked.headers.get("if-none-match") == tag:
            await out.send(head(None, f"ETag: {tag}", status="304 Not Modified"))
            return True
        begin = asked.start if asked.headers.get("if-range") == tag else 0
        told = [f"ETag: {tag}"]
        if begin:
            told.append(f"Content-Range: bytes {begin}-{len(content) - 1}/{len(content)}")
        status = "206 Partial Content" if begin else "200 OK"
        if self.dice.random() < 0.2:
            await out.send(head(None, *told, "Transfer-Encoding: chunked", status=status))
            half = content[begin:]
            await out.send(b"%x\r\n%s\r\n" % (len(half), half) if half else b"", b"0\r\n\r\n")
            return True
        await out.send(head(len(content) - begin, *told, status=status))
        upto = self.dice.randint(begin, len(content)) if self.dice.random() < 0.4 else len(content)
        await out.send(content[begin:upto])
        await asyncio.sleep(0)
        return upto == len(content)


def client(relay: TestPassthrough, files: Restless, seed: int, wrong: list[str]) -> int:
    """Ask again and again, whole and in parts; return how many answers were complete."""
    dice = random.Random(seed)
    complete = 0
    for _ in range(ASKS):
        begin = dice.choice((0, 0, 1, 499, 50_000))
        headers = [f"Range: bytes={begin}-"] if begin else []
        try:
            answer = relay.get(dice.choice(PATHS), *headers, "Cache-Control: no-cache")
        except (CutError, OSError):
            continue
        relay.pass_time(dice.choice((0, 0, 3)))
        if answer.status not in {200, 206}:
            continue
        complete += 1
        content = files.contents[answer.headers["etag"]]
        if answer.body != content[begin if answer.status == 206 else 0 :]:
            wrong.append(f"{answer.raw!r}: {len(answer.body)} bytes")
    return complete


@pytest.mark.parametrize("known", [1, 2967, None])
def test_no_client_gets_a_mixture(tmp_path: Path, known: int | None) -> None:
    seed = int.from_bytes(os.urandom(3)) if known is None else known
    print("seed", seed)
    files = Restless(random.Random(seed))
    wrong: list[str] = []
    complete: list[int] = []
    with (
        Upstream(files) as upstream,
        TestPassthrough(
            tmp_path, settings_of(upstream.url, quota=400_000, max_file=400_000)
        ) as relay,
    ):

        def begin(number: int) -> Callable[[], None]:
            return lambda: complete.append(client(relay, files, seed + number, wrong))

        threads = [threading.Thread(target=begin(number)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert relay.one.ground.store.stored_bytes <= 400_000
    assert wrong == []
    assert len(complete) == CLIENTS
    assert sum(complete) > ASKS
