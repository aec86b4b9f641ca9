"""kill -9 of a real relay: what it answered 202 reaches the console, whenever it was killed.

`make slow` kills it 40 times; `make test` a few. The seed is printed.
"""

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from httpd.rawhttp import Raw
from httpd.waiting import wait_until
from relay.carriers import post, post_on
from support.receiver import Receiver
from support.status import host_key, sealed

SEED = random.SystemRandom().randrange(1 << 32)
SETTINGS = "[spool]\ndelay = 0\ncheck_ins_per_second = 0\n[push]\nudp = false\nannounce = false\n"


@contextmanager
def relay_process(folder: Path, console: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run `fleetward relay run`; give its URL and the process, which is killed at the end."""
    config = folder / "relay.toml"
    config.write_text(SETTINGS)
    command = [
        *(sys.executable, "-m", "fleetward", "relay", "run", "--config", str(config)),
        *("--upstream", "http://127.0.0.1:9", "--cache", str(folder / "cache")),
        *("--listen", "127.0.0.1:0", "--console", console),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr
        first = program.stderr.readline()
        try:
            assert first.startswith("listening on http"), first + program.stderr.read()
            yield first.split()[-1], program
        finally:
            program.kill()
            program.stderr.close()


def test_a_relay_killed_between_202_and_forwarding_loses_nothing(tmp_path: Path) -> None:
    """The console is away; the relay promises, and is killed. Another process takes over its disk."""
    console = Receiver()
    console.away.set()
    with console.running() as server:
        with relay_process(tmp_path, server.url) as (url, program):
            for n in range(1, 51):
                assert post(url, sealed(1, n)).status == 202
            program.kill()
            program.wait()
        assert console.stored == {}
        console.away.clear()
        with relay_process(tmp_path, server.url):
            wait_until(lambda: len(console.stored) == 50)
    assert console.numbers(host_key(1).id) == list(range(1, 51))


def kill_while_busy(folder: Path, kills: int) -> None:
    print("seed", SEED)
    chance = random.Random(SEED)
    console = Receiver()
    promised: list[int] = []
    with console.running() as server:
        n = 0
        for _ in range(kills):
            with relay_process(folder, server.url) as (url, program):
                killer = threading.Timer(chance.uniform(0.02, 0.4), program.kill)
                killer.start()
                try:
                    with Raw(url) as connection:
                        while True:
                            n += 1
                            if post_on(connection, sealed(1, n)).status == 202:
                                promised.append(n)
                except (OSError, EOFError):
                    program.wait()
                killer.join()
        with relay_process(folder, server.url):
            wait_until(lambda: set(promised) <= set(console.numbers(host_key(1).id)))
    print(f"{kills} kills, {len(promised)} promised, {console.results}")
    assert len(promised) > kills
    assert console.results["forged"] == console.results["malformed"] == 0


def test_a_relay_that_is_killed_at_random_keeps_its_promises(tmp_path: Path) -> None:
    kill_while_busy(tmp_path, 4)


@pytest.mark.slow
def test_a_relay_that_is_killed_forty_times_keeps_its_promises(tmp_path: Path) -> None:
    kill_while_busy(tmp_path, 40)
