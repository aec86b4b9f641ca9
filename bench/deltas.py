"""Deltas of real series against their peers: `python bench/deltas.py [--pairs N] [--corpora DIR]`.

Each pair of consecutive versions goes through `zstd --patch-from`, xdelta3, bsdiff4, hdiffpatch
(the smallest of its compressors) and Fleetward, over the same canonical tar; a peer is counted
with its patch file alone. Applying is measured in a child process of its own: CPU seconds of the
call, and peak resident memory of the whole process, interpreter and base included.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import bsdiff4
import hdiffpatch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from fleetward.deltas import (  # noqa: E402
    EncodedDelta,
    MemoryTree,
    apply_delta,
    encode_deltas,
    tar_bytes,
)

HDIFF_COMPRESSORS: tuple[Literal["zstd", "lzma2", "brotli"], ...] = ("zstd", "lzma2", "brotli")


@dataclass(frozen=True)
class Version:
    name: str
    tree: MemoryTree
    cdiff: int | None = None


def folder_version(folder: Path) -> Version:
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    executable = frozenset(name for name, p in files.items() if p.stat().st_mode & 0o100)
    tree = MemoryTree({name: p.read_bytes() for name, p in files.items()}, executable)
    return Version(folder.name, tree)


def cvd_version(path: Path) -> Version:
    cdiff = path.with_suffix(".cdiff")
    size = cdiff.stat().st_size if cdiff.exists() else None
    return Version(path.stem, MemoryTree({"test.cvd": path.read_bytes()}), size)


def series(corpora: Path, scratch: Path) -> Iterator[tuple[str, list[Version]]]:
    """Yield each corpus with its versions; archives are unpacked into `scratch`."""
    for archive in sorted(corpora.glob("*.tar.xz")):
        folder = scratch / archive.name.removesuffix(".tar.xz")
        folder.mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
        cvds = sorted(folder.rglob("*.cvd"))
        if cvds:
            yield folder.name, [cvd_version(path) for path in cvds]
        else:
            found = sorted(path for path in folder.rglob("v[0-9]*-*") if path.is_dir())
            yield folder.name, [folder_version(path) for path in found]


def by_zstd(old: Path, new: Path, patch: Path) -> int:
    settings = ["-qqf", "--ultra", "-22", "--long=31"]
    subprocess.run(
        ["zstd", *settings, f"--patch-from={old}", new, "-o", patch],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return patch.stat().st_size


def by_xdelta3(old: Path, new: Path, patch: Path) -> int:
    subprocess.run(["xdelta3", "-f", "-e", "-9", "-S", "lzma", "-s", old, new, patch], check=True)
    return patch.stat().st_size


def by_bsdiff4(old: Path, new: Path, patch: Path) -> int:
    patch.write_bytes(bsdiff4.diff(old.read_bytes(), new.read_bytes()))
    return patch.stat().st_size


def by_hdiffpatch(old: Path, new: Path, patch: Path) -> int:
    before, after = old.read_bytes(), new.read_bytes()
    made = (hdiffpatch.diff(before, after, compression=c) for c in HDIFF_COMPRESSORS)
    patch.write_bytes(min(made, key=len))
    return patch.stat().st_size


PEERS: dict[str, Callable[[Path, Path, Path], int]] = {
    "zstd": by_zstd,
    "xdelta3": by_xdelta3,
    "bsdiff4": by_bsdiff4,
    "hdiffpatch": by_hdiffpatch,
}


@dataclass(frozen=True)
class Row:
    names: str
    peers: dict[str, int]
    ours: EncodedDelta
    encode_seconds: float
    apply_seconds: float
    apply_mib: float
    cdiff: int | None

    @property
    def ratio(self) -> float:
        return len(self.ours.content) / min(self.peers.values())


def apply_in_child(old: Path, delta: EncodedDelta, length: int, scratch: Path) -> dict[str, float]:
    blob = scratch / "delta"
    blob.write_bytes(delta.content)
    order = json.dumps([delta.codec, delta.encoder, str(old), str(blob), length])
    child = subprocess.run(
        [sys.executable, __file__, "--apply", order], check=True, capture_output=True
    )
    measured: dict[str, float] = json.loads(child.stdout)
    return measured


def apply_here(order: str) -> None:
    """Apply one delta and print CPU seconds and peak memory: the child process."""
    codec, encoder, old, blob, length = json.loads(order)
    base = MemoryTree.from_tar(Path(old).read_bytes())
    delta = Path(blob).read_bytes()
    begun = time.process_time()
    made = apply_delta(codec, base, delta, encoder=encoder, result_length=length)
    total = sum(map(len, made))
    seconds = time.process_time() - begun
    assert total == length
    # Not ru_maxrss: after exec it still holds what the parent had.
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "mib": int(peak.split()[1]) / 1024}))


def measure(before: Version, after: Version, scratch: Path) -> Row:
    old, new = scratch / "old.tar", scratch / "new.tar"
    old.write_bytes(tar_bytes(before.tree))
    new.write_bytes(tar_bytes(after.tree))
    peers = {name: run(old, new, scratch / "patch") for name, run in PEERS.items()}
    begun = time.process_time()
    ours = encode_deltas(before.tree, after.tree)[0]
    encode_seconds = time.process_time() - begun
    child = apply_in_child(old, ours, new.stat().st_size, scratch)
    names = f"{before.name} → {after.name}"
    return Row(names, peers, ours, encode_seconds, child["seconds"], child["mib"], after.cdiff)


def report(corpus: str, rows: list[Row]) -> None:
    columns = ["pair", *PEERS, "cdiff", "ours", "codec", "ratio", "encode s", "apply s", "MiB"]
    print(f"\n## {corpus}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        cells = [
            row.names,
            *(f"{size:,}" for size in row.peers.values()),
            f"{row.cdiff:,}" if row.cdiff else "",
            f"{len(row.ours.content):,}",
            row.ours.codec + (f" ({row.ours.encoder})" if row.ours.encoder else ""),
            f"{row.ratio:.3f}",
            f"{row.encode_seconds:.1f}",
            f"{row.apply_seconds:.2f}",
            f"{row.apply_mib:.0f}",
        ]
        print("| " + " | ".join(cells) + " |")
    ratios = [row.ratio for row in rows]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(
        f"\nRatio to the best peer: {min(ratios):.3f} to {max(ratios):.3f}, geometric mean "
        f"{mean:.3f}; applying takes {max(row.apply_seconds for row in rows):.2f} s and "
        f"{max(row.apply_mib for row in rows):.0f} MiB at most, encoding "
        f"{max(row.encode_seconds for row in rows):.1f} s.",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=None, help="pairs of each corpus at most")
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora")
    parser.add_argument("--apply", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.apply:
        apply_here(arguments.apply)
        return
    if not arguments.corpora.is_dir():
        parser.exit(2, f"no corpora at {arguments.corpora}\n")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for corpus, versions in series(arguments.corpora, scratch):
            pairs = list(pairwise(versions))[: arguments.pairs]
            report(corpus, [measure(before, after, scratch) for before, after in pairs])


if __name__ == "__main__":
    main()
