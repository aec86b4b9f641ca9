"""All benchmarks, one after another; prints markdown for docs/benchmarks.md."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime

PARTS = (
    "deltas",
    "publish",
    "agent",
    "httpd",
    "herd",
    "push",
    "wholesite",
    "carrying",
    "console",
    "hosts",
    "ports",
    "captures",
    "sensor",
)


def processor() -> str:
    """Return the processor's name, as Linux tells it."""
    with open("/proc/cpuinfo") as told:  # noqa: PTH123 (one line of /proc)
        names = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def main() -> int:
    print("# Benchmarks\n")
    print(
        f"The last run: {datetime.now(UTC):%Y-%m-%d}, {processor()}, Python "
        f"{platform.python_version()}, {platform.freedesktop_os_release()['PRETTY_NAME']}. "
        "Repeat it with `make bench`.\n",
        flush=True,
    )
    wanted = sys.argv[1:] or PARTS
    return max(
        subprocess.run(
            [sys.executable, "-m", f"bench.{part}"],
            check=False,
            env={**os.environ, "PYTHONPATH": "tests"},  # some share rigging with the tests
        ).returncode
        for part in wanted
    )


if __name__ == "__main__":
    sys.exit(main())
