"""The aim on real series: no more bytes than the best peer (bench/deltas.py has them all)."""

import subprocess
import tarfile
from pathlib import Path

import pytest

from fleetward.deltas import EncodedDelta, MemoryTree, apply_delta, encode_deltas, tar_bytes

REPO_ROOT = Path(__file__).resolve().parents[2]
CORPORA = REPO_ROOT.parent / "shared" / "corpora"

pytestmark = [
    pytest.mark.corpora,
    pytest.mark.skipif(not CORPORA.is_dir(), reason="../shared/corpora is absent"),
]


def versions(name: str, *numbers: int) -> list[MemoryTree]:
    """Return some versions of a series of folders, counted from 1."""
    trees: dict[str, dict[str, bytes]] = {}
    with tarfile.open(CORPORA / f"{name}.tar.xz") as archive:
        for entry in archive:
            parts = entry.name.removeprefix("./").split("/")
            at = next((i for i, part in enumerate(parts) if part[:1] == "v" and "-" in part), None)
            wanted = at is not None and int(parts[at][1:3]) in numbers
            content = archive.extractfile(entry) if wanted and entry.isfile() else None
            if content and at is not None:
                trees.setdefault(parts[at], {})["/".join(parts[at + 1 :])] = content.read()
    return [MemoryTree(trees[folder]) for folder in sorted(trees)]


def smallest(base: MemoryTree, result: MemoryTree) -> EncodedDelta:
    delta = encode_deltas(base, result)[0]
    tar = tar_bytes(result)
    made = apply_delta(
        delta.codec, base, delta.content, encoder=delta.encoder, result_length=len(tar)
    )
    assert b"".join(made) == tar
    return delta


def by_zstd(base: MemoryTree, result: MemoryTree, folder: Path) -> int:
    old, new, patch = folder / "old", folder / "new", folder / "patch"
    old.write_bytes(tar_bytes(base))
    new.write_bytes(tar_bytes(result))
    settings = ["-qqf", "--ultra", "-22", "--long=31", f"--patch-from={old}"]
    subprocess.run(["zstd", *settings, new, "-o", patch], check=True, capture_output=True)
    return patch.stat().st_size


@pytest.mark.parametrize(
    ("name", "first", "share"),
    [
        ("signature-base", 1, 0.75),
        ("signature-base", 3, 0.75),
        ("hunting-rules", 1, 0.05),
        ("hunting-rules", 9, 0.9),
        ("hunting-rules", 16, 0.05),
    ],
)
def test_a_pair_takes_a_share_of_zstds_bytes(
    name: str, first: int, share: float, tmp_path: Path
) -> None:
    base, result = versions(name, first, first + 1)
    assert len(smallest(base, result).content) < share * by_zstd(base, result, tmp_path)


def test_a_cvd_series_takes_less_than_clamavs_own_cdiffs() -> None:
    files: dict[str, bytes] = {}
    with tarfile.open(CORPORA / "clamav-freshclam.tar.xz") as archive:
        for entry in archive:
            content = archive.extractfile(entry)
            if content:
                files[Path(entry.name).name] = content.read()
    for version in range(2, 7):
        trees = [MemoryTree({"test.cvd": files[f"test-{n}.cvd"]}) for n in (version - 1, version)]
        delta = smallest(*trees)
        assert delta.encoder == "zlib/9/8/filtered"
        assert len(delta.content) < len(files[f"test-{version}.cdiff"])
