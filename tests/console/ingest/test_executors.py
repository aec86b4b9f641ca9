"""Opening aside gives the same in threads, in processes, and at once."""

import asyncio
import multiprocessing
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fleetward.adapters.disk import SystemDisk
from fleetward.console.ingest import opening
from fleetward.console.ingest.executors import FEW, SharedOpener, processes, threads
from fleetward.errors import BusyError
from fleetward.identity.checkins import seal_check_in
from fleetward.identity.consoles import obtain_console_keys
from support.fakes import SeededEntropy
from support.status import event, host_key, usual


def test_threads_and_processes_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "console.key"
    console = obtain_console_keys(SystemDisk(), path, SeededEntropy())
    key = host_key()
    envelopes = [
        seal_check_in(usual(key, n, events=(event(n),)), key, console.public) for n in range(1, 4)
    ]
    envelopes.append(b"rubbish")
    at_once = opening.open_envelopes(envelopes, (console,))
    assert [found.n if found else None for found in at_once] == [1, 2, 3, None]
    in_threads = threads(2, (console,))
    in_processes = processes(1, (path,))
    try:
        assert asyncio.run(in_threads(envelopes)) == at_once
        assert asyncio.run(in_processes(envelopes)) == at_once
    finally:
        in_threads.executor.shutdown()
        in_processes.executor.shutdown()


def test_a_killed_process_is_replaced(tmp_path: Path) -> None:
    """The system's memory killer takes one: the sender is told to come again, and the next works."""
    path = tmp_path / "console.key"
    obtain_console_keys(SystemDisk(), path, SeededEntropy())
    opener = processes(1, (path,))

    async def story() -> None:
        assert await opener([b"rubbish"]) == [None]
        for victim in multiprocessing.active_children():
            victim.kill()
            victim.join()
        with pytest.raises(BusyError):
            await opener([b"rubbish"])
        assert await opener([b"rubbish"]) == [None]

    try:
        asyncio.run(story())
    finally:
        opener.executor.shutdown()


OWNER = """
import asyncio, sys
from pathlib import Path
from fleetward.console.ingest.executors import processes
if __name__ == "__main__":
    opener = processes(1, (Path(sys.argv[1]),))
    asyncio.run(opener([b"rubbish"]))
    print(*opener.executor._processes, flush=True)
    sys.stdin.read()
"""


def test_whoever_opens_ends_with_a_console_that_was_killed(tmp_path: Path) -> None:
    """Kill -9 of the console leaves no process behind that has its keys."""
    key, script = tmp_path / "console.key", tmp_path / "owner.py"
    obtain_console_keys(SystemDisk(), key, SeededEntropy())
    script.write_text(OWNER)
    with subprocess.Popen(
        [sys.executable, str(script), str(key)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout
        worker = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
    gone, _ = psutil.wait_procs([worker], timeout=20)
    assert gone


def test_what_it_runs_has_a_digest_that_changes_with_it_alone(tmp_path: Path) -> None:
    console = obtain_console_keys(SystemDisk(), tmp_path / "console.key", SeededEntropy())
    key = host_key()

    def content(**more: object) -> str:
        envelope = seal_check_in(usual(key, **more), key, console.public)  # type: ignore[arg-type]
        found = opening.open_envelopes([envelope], (console,))[0]
        assert found is not None
        return found.content

    assert content() == content(n=7, relay="other", clock=None, events=(event(1),))
    assert content() != content(ports=None)
    assert content() != content(products=())


def test_an_events_digest_is_of_all_but_its_number() -> None:
    one, same, other = (opening._flat_event(event(1)), opening._flat_event(event(1)), event(2))
    assert one.digest == same.digest
    assert opening._flat_event(other).digest != one.digest


def test_few_are_opened_here_and_many_beside(tmp_path: Path) -> None:
    path = tmp_path / "console.key"
    console = obtain_console_keys(SystemDisk(), path, SeededEntropy())
    key = host_key()
    envelopes = [seal_check_in(usual(key, n), key, console.public) for n in range(1, FEW + 2)]
    shared = SharedOpener(threads(1, (console,)), processes(1, (path,)))
    try:
        few = asyncio.run(shared(envelopes[:FEW]))
        assert not multiprocessing.active_children()
        many = asyncio.run(shared(envelopes))
        assert multiprocessing.active_children()
    finally:
        shared.few.executor.shutdown()
        shared.many.executor.shutdown()
    assert few == many[:FEW] == opening.open_envelopes(envelopes[:FEW], (console,))
