"""Children with limits: their output, their end, and what they may not take."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.adapters.boot import boot_id
from fleetward.adapters.clock import SystemClock
from fleetward.adapters.entropy import SystemEntropy
from fleetward.adapters.processes import (
    KEPT_OUTPUT_BYTES,
    Finished,
    Program,
    python_command,
    run_limited,
)
from fleetward.errors import ConfigurationError

MEMORY = 512 << 20


def run(code: str, seconds: float = 20, memory: int = MEMORY) -> Finished:
    command = (sys.executable, "-c", code)
    return run_limited(command, max_memory=memory, max_time=timedelta(seconds=seconds))


def test_output_and_exit_code() -> None:
    done = run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert done.exit_code == 3
    assert sorted(done.output.split()) == ["err", "out"]


def test_only_the_end_of_much_output_is_kept() -> None:
    done = run("print('x' * 100_000 + 'end')")
    assert done.output.endswith("end")
    assert len(done.output) <= KEPT_OUTPUT_BYTES


def test_a_child_has_no_input_and_none_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETWARD_PASSPHRASE", "secret")
    done = run("import os, sys; print(sys.stdin.read(), os.environ.get('FLEETWARD_PASSPHRASE'))")
    assert done.output == "None"


def test_memory_is_limited() -> None:
    done = run("x = bytearray(1 << 30)", memory=300 << 20)
    assert done.exit_code == 1
    assert "MemoryError" in done.output


def test_a_child_that_hangs_is_killed_with_its_own_children() -> None:
    done = run("import subprocess; subprocess.run(['sleep', '600'])", seconds=1)
    assert done.exit_code is None


def test_a_child_that_burns_the_processor_is_ended() -> None:
    assert run("while True: pass", seconds=1).exit_code in {None, -24}


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match="cannot run /no/such/program: No such file"):
        run_limited(("/no/such/program",), max_memory=MEMORY, max_time=timedelta(seconds=5))


def test_an_environment_that_is_given_is_the_whole_one() -> None:
    done = run_limited(
        (sys.executable, "-c", "import os; print(os.environ['X'])"),
        max_memory=MEMORY,
        max_time=timedelta(seconds=20),
        environment={"X": "1"},
    )
    assert done.output == "1"


def test_modules_of_ours_run_in_children() -> None:
    command = python_command("fleetward.agent.yara_check", "--help")
    done = run_limited(command, max_memory=MEMORY, max_time=timedelta(seconds=20))
    assert (done.exit_code, "try YARA rules" in done.output) == (0, True)


def test_the_machines_own_clock_entropy_and_start() -> None:
    clock, entropy = SystemClock(), SystemEntropy()
    before = clock.monotonic()
    clock.sleep(timedelta(seconds=-1))
    assert clock.monotonic() >= before
    assert clock.now().utcoffset() == timedelta()
    assert len(entropy.token(8)) == 8
    assert 0 <= entropy.share() < 1
    assert boot_id() == boot_id()
    assert boot_id(Path("/no/such/file")) is None


class TestProgram:
    """One of our own programs, beside the test."""

    PATIENT = "import signal; print('up', flush=True); signal.pause()"
    STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN);" + PATIENT

    def started(self, code: str, log: Path) -> Program:
        """Return a program that has printed its first line."""
        program = Program((sys.executable, "-c", code), log)
        clock = SystemClock()
        end = clock.monotonic() + timedelta(seconds=30)
        while "\n" not in program.said():
            assert program.is_running(), program.said()
            assert clock.monotonic() < end
            clock.sleep(timedelta(milliseconds=20))
        return program

    def test_it_runs_until_it_is_stopped(self, tmp_path: Path) -> None:
        with self.started(self.PATIENT, tmp_path / "log") as program:
            assert program.is_running()
            assert program.said() == "up\n"
            assert program.pid > 0
        assert not program.is_running()
        assert program.stop() == -15

    def test_it_is_killed_where_it_does_not_end(self, tmp_path: Path) -> None:
        program = self.started(self.STUBBORN, tmp_path / "log")
        assert program.stop(timedelta(seconds=1)) == -9

    def test_one_that_is_not_there_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot run /nowhere"):
            Program(("/nowhere",), tmp_path / "log")
