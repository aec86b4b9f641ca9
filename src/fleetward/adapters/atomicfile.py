"""The one way to write a whole file.

The promise: after `write_file` returns, the new content survives power loss. Where it does not
return (an error, a kill, power loss), the name holds the old content or the new one, whole, and at
most a temporary file named `.NAME.new` is left, which the next write of that name replaces.
"""

from pathlib import Path

from fleetward.adapters.disk import Disk


def write_file(disk: Disk, path: Path, content: bytes, *, private: bool = False) -> None:
    """Write `content` as `path`, whole or not at all.

    Args:
        disk: where to write.
        path: the name; its folder must exist, and one process at a time writes there.
        content: the whole new content.
        private: readable by the owner alone (mode 0600).

    Raises:
        DiskError: the disk is full or failing; the old content is still there.
    """
    temporary = path.with_name(f".{path.name}.new")
    with disk.create(temporary, private=private) as file:
        file.write(content)
        file.sync()
    disk.replace(temporary, path)
    disk.sync_folder(path.parent)
