"""Types made ready: several threads decode the first document of a type at the same moment."""

import subprocess
import sys

import pytest

FIRST_DOCUMENTS = """
import sys, threading
from dataclasses import dataclass, make_dataclass
from fleetward.wire.documents import decode_json
from fleetward.config.strict import parse_settings
from fleetward.wire.preparing import prepared

sys.setswitchinterval(1e-6)
THREADS = 8
inside = [make_dataclass(f"In{k}", [(f"f{n}", int) for n in range(10)], frozen=True) for k in range(200)]
kinds = [
    make_dataclass(f"Kind{k}", [*((f"f{n}", int) for n in range(20)), ("inner", inside[k])], frozen=True)
    for k in range(200)
]
numbers = ",".join(f'"f{n}":{n}' for n in range(10))
more = ",".join(f'"f{n}":{n}' for n in range(20))
document = ('{"schema":"x/1",' + more + ',"inner":{' + numbers + "}}").encode()
toml = "\\n".join(f"f{n} = {n}" for n in range(20)) + "\\n[inner]\\n" + "\\n".join(
    f"f{n} = {n}" for n in range(10)
)
together = threading.Barrier(THREADS)
found = []

def decode(number):
    for kind in kinds:
        together.wait()
        found.append(parse_settings(toml, kind) if number % 2 else decode_json("x/1", kind, document))

threads = [threading.Thread(target=decode, args=(n,)) for n in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(found) == THREADS * len(kinds)
assert all(one.inner.f9 == 9 for one in found)
print("whole")
"""


@pytest.mark.parametrize("attempt", range(2))
def test_first_documents_in_many_threads(attempt: int) -> None:
    """Without `prepared` this ends with SIGSEGV nearly always."""
    program = [sys.executable, "-c", FIRST_DOCUMENTS]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "whole\n"), (attempt, done.stderr[-2000:])
