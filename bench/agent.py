"""What an agent costs: idle memory, and a check that finds nothing new, beside python-tuf's."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measuring import fleetward, least, resident_mib, table
from fleetward.agent.home import Home
from fleetward.agent.wiring import open_agent
from fleetward.core.names import ProductName
from fleetward.demo.content import ReleaseFolder, sample_series
from fleetward.demo.stage import Stage

CHECKS = 200

_BY_PYTHON_TUF = """
import sys, time
from tuf.ngclient import Updater
folder, url, checks = sys.argv[1], sys.argv[2], int(sys.argv[3])
def check():
    updater = Updater(folder, url + "/metadata", bootstrap=None)
    updater.refresh()
    for name in sys.argv[4:]:
        assert updater.get_targetinfo(name)
check()
began = time.process_time()
for _ in range(checks):
    check()
print((time.process_time() - began) / checks * 1000)
"""


def main() -> None:
    print("## Agent\n")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with Stage(work, 1) as stage:
            first, second, _ = sample_series(work)
            stage.publish(first)
            stage.make_hosts()
            home = stage.home(next(iter(stage.homes.values())))
            assert open_agent(home).update().exit_code == 0
            _nothing_new(home, stage, work)
            _idle(home, stage, second)


def _nothing_new(home: Home, stage: Stage, work: Path) -> None:
    agent = open_agent(home)
    agent.update()
    traffic = agent.http.traffic  # type: ignore[attr-defined]
    sent, received = traffic.sent, traffic.received
    began = time.process_time()
    for _ in range(CHECKS):
        assert agent.update().exit_code == 0
    ours = (time.process_time() - began) / CHECKS * 1000
    wire = (traffic.sent - sent + traffic.received - received) / CHECKS
    products = ProductName("rules")
    names = [f"channels/{products}/stable.json", f"releases/{products}/floor.json"]
    scratch = work / "python-tuf"
    scratch.mkdir()
    shutil.copy(stage.repository / "metadata" / "1.root.json", scratch / "root.json")
    theirs = subprocess.run(
        [sys.executable, "-c", _BY_PYTHON_TUF, str(scratch), stage.relay_url, str(CHECKS), *names],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    once = least(fleetward("agent", "update", str(home.path)))
    imports = least([sys.executable, "-c", "import fleetward.cli.main, fleetward.agent.wiring"])
    print(
        "A check that finds nothing new: metadata, channel, floor, policy and manifest are all "
        "decided on again. What `agent update` takes above `--help` is mostly the command line "
        "library, which loads its validation only when a command has arguments.\n"
    )
    rows = [
        ["agent, running", f"{ours:.1f} ms", f"{wire:.0f} bytes"],
        ["python-tuf's Updater, running (four roles)", f"{float(theirs):.1f} ms", ""],
        ["`agent update`, above `agent --help`", f"{(once.cpu - imports.cpu) * 1000:.0f} ms", ""],
        ["`agent update`, in all", f"{once.cpu * 1000:.0f} ms", ""],
    ]
    table(["who", "CPU a check", "bytes on the wire, both ways"], rows)


def _idle(home: Home, stage: Stage, release: ReleaseFolder) -> None:
    settings = home.path / "agent.toml"
    settings.write_text(settings.read_text().replace("poll = 600.0", "poll = 1.0"))
    command = fleetward("agent", "run", str(home.path))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr
        program.stderr.readline()
        time.sleep(4)
        quiet = resident_mib(program.pid)
        stage.publish(release)
        assert "installed" in program.stderr.readline()
        time.sleep(4)
        busy = resident_mib(program.pid)
        program.terminate()
        program.stderr.read()
    print("Resident memory of `agent run` between checks.\n")
    rows = [
        ["agent run, idle, nothing new since it began", f"{quiet:.1f} MiB"],
        ["agent run, idle, after taking up a release by a delta", f"{busy:.1f} MiB"],
        ["importing tuf.ngclient alone", f"{_resident_after('import tuf.ngclient'):.1f} MiB"],
        ["the interpreter alone", f"{_resident_after('pass'):.1f} MiB"],
    ]
    table(["what", "resident"], rows)


def _resident_after(code: str) -> float:
    told = "print(next(x for x in open('/proc/self/status') if x.startswith('VmRSS')).split()[1])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{told}"], check=True, capture_output=True, text=True
    )
    return int(done.stdout) / 1024


if __name__ == "__main__":
    main()
