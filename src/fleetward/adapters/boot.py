"""Which start of this machine we live in: how a restart during a trial is noticed."""

from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id(source: Path = _BOOT_ID) -> str | None:
    """Return the kernel's id of this start, or None where the platform has none."""
    try:
        return source.read_text().strip()
    except OSError:
        return None
