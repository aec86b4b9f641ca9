"""Units and containers, from cgroups: who started a program, as the service manager has it.

A socket carries the id of the cgroup in which it was made, and every user may read it; so a unit
is known even where the owner of the socket cannot be seen. The id is the inode of the cgroup's
folder in the unified hierarchy.

Sources: systemd.unit(5) and the naming of cgroups by systemd, Docker, Podman, containerd, CRI-O,
LXC and Kubernetes.

Deliberately not here: what a container's runtime knows of it.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_UNIT: Final = re.compile(r"[^/]+\.(?:service|socket|scope)")
_CONTAINER: Final = (
    re.compile(
        r"(?P<runtime>docker|libpod|cri-containerd|crio|containerd)-(?P<id>[0-9a-f]{12,64})"
    ),
    re.compile(r"/(?P<runtime>docker|kubepods|garden|libpod)(?:/[^/]+)*/(?P<id>[0-9a-f]{12,64})"),
    re.compile(r"/(?P<runtime>lxc)(?:\.payload)?[./](?P<id>[^/]+)"),
    re.compile(r"/(?P<runtime>machine)\.slice/(?P<id>[^/]+?)\.(?:scope|service)"),
)

MAX_CGROUPS: Final = 20_000
"""Folders that are looked at for an id: a host with more has other troubles."""


def unit_of(path: str) -> str:
    """Return the systemd unit of a cgroup's path; empty where it names none.

    Near miss: `user@1000.service/app.slice/x.service` is the unit x, not the user's manager.
    """
    named = _UNIT.findall(path)
    return named[-1] if named else ""


def container_of(path: str) -> str:
    """Return runtime and id (12 characters) of a cgroup's path; empty where it names none."""
    for pattern in _CONTAINER:
        found = pattern.search(path)
        if found is not None:
            return f"{found['runtime']} {found['id'][:12]}"
    return ""


def parse_membership(text: str) -> str:
    """Return the cgroup's path of `/proc/PID/cgroup`: the unified one, else systemd's."""
    paths = dict(_hierarchies(text))
    unified = paths.get("", "/")
    return unified if unified != "/" else paths.get("name=systemd", "/")


def _hierarchies(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        yield ("" if number == "0" else controllers), path


def unified_mount(mountinfo: str) -> Path | None:
    """Return where the unified hierarchy is mounted, from /proc/self/mountinfo; None for nowhere."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


def paths_by_id(mount: Path | None, ids: Iterable[int]) -> dict[int, str]:
    """Return the paths of cgroups by their ids; those that are gone are left out."""
    wanted = set(ids)
    found: dict[int, str] = {}
    if mount is None or not wanted:
        return found
    for looked, (folder, folders, _) in enumerate(os.walk(mount)):
        folders.sort()
        number = _inode(folder)
        if number in wanted:
            found[number] = f"/{os.path.relpath(folder, mount)}".removesuffix("/.")
        if len(found) == len(wanted) or looked >= MAX_CGROUPS:
            break
    return {number: path or "/" for number, path in found.items()}


def _inode(folder: str) -> int:
    try:
        return Path(folder).stat().st_ino
    except OSError:
        return -1
