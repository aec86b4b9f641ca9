"""A relay under load while its upstream dies, its disk fills and its clients reset.

No wrong byte, memory that stays flat, no descriptor left. A minute in the ordinary suite, ten in
`make slow`.
"""

import threading
import time
from pathlib import Path

import pytest

from relay.soaking import (
    Hand,
    Load,
    Program,
    descriptors,
    fill_repository,
    resident_kib,
    small_disk,
)
from support.programs import fleetward

CONFIG = """
[storage]
quota = 25_000_000
min_free = 1_000_000
prefetch = false
[clients]
misses_per_minute = 1e9
[push]
udp = false
"""
SETTLE = 75.0
"""Seconds in which what the last clients left must be gone: blobs that were carried through memory
linger for a minute after the last question."""

GROWTH_KIB = 12 * 1024
"""What memory may grow by between the first third and the end."""


@pytest.mark.parametrize(
    "seconds", [60, pytest.param(600, marks=pytest.mark.slow)], ids=["minute", "ten-minutes"]
)
def test_a_soak_brings_no_wrong_byte_and_leaves_nothing_behind(
    tmp_path: Path, seconds: int
) -> None:
    repository = tmp_path / "origin"
    made = fleetward(
        "origin", "init", str(repository), "--keys", str(tmp_path / "keys"), "--plain-keys"
    )
    assert made.returncode == 0, made.stderr
    blobs = fill_repository(repository, seed=seconds)
    upstream = Program(tmp_path / "origin.log", "origin", "serve", str(repository))
    upstream.start()
    (tmp_path / "relay.toml").write_text(CONFIG)
    with small_disk(tmp_path / "disk", 40) as is_small:
        relay = Program(
            tmp_path / "relay.log",
            *("relay", "run", "--config", str(tmp_path / "relay.toml")),
            *("--upstream", f"http://127.0.0.1:{upstream.port}"),
            *("--cache", str(tmp_path / "disk/cache")),
        )
        relay.start()
        try:
            hand = Hand(upstream, tmp_path / "disk" if is_small else None, seed=seconds)
            _soak(relay, hand, Load(relay.port, blobs, seed=seconds), seconds)
        finally:
            assert relay.end() == 0, (tmp_path / "relay.log").read_text()[-3000:]
            upstream.end()
    said = (tmp_path / "relay.log").read_text()
    assert "Traceback" not in said, said[-3000:]


def _soak(relay: Program, hand: Hand, load: Load, seconds: int) -> None:
    at_rest = descriptors(relay.pid)
    until = time.monotonic() + seconds
    breaking = threading.Thread(target=hand.run, args=(until, min(seconds / 20, 6.0)))
    with load.running(clients=12):
        breaking.start()
        time.sleep(seconds / 3)
        early = resident_kib(relay.pid)
        breaking.join()
    print(f"soaked for {seconds} s: {dict(load.done)}; broke {dict(hand.broke)}")
    print(f"memory: {early} KiB after a third, {resident_kib(relay.pid)} KiB at the end")
    assert load.wrong == []
    assert load.done["whole: 200"] > seconds
    assert load.done["part: 206"] > seconds / 2
    assert load.done["reset"] > seconds / 2
    assert all(count for count in hand.broke.values())
    assert resident_kib(relay.pid) < early + GROWTH_KIB
    deadline = time.monotonic() + SETTLE
    while descriptors(relay.pid) > at_rest + 10 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert descriptors(relay.pid) <= at_rest + 10, "kept upstream connections are at most 8"
