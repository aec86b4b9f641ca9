"""What publishing a large tree costs: 5,000 files, 50 MB, beside `tar | zstd -19`."""

import random
import sys
import tempfile
from pathlib import Path

from bench.measuring import cost_of, fleetward, table

FILES, LENGTH = 5_000, 10_000
WORDS = ["rule", "meta", "strings", "condition", "ascii", "wide", "nocase", "any", "of", "them"]


def make_tree(folder: Path, seed: int, changed: int) -> None:
    """Write rules of made-up text; `changed` files differ by seed."""
    fixed, chance = random.Random(1), random.Random(seed)
    for number in range(FILES):
        source = chance if number % (FILES // max(changed, 1)) == 0 and changed else fixed
        path = folder / f"{number % 50:02}" / f"{number:05}.yar"
        path.parent.mkdir(parents=True, exist_ok=True)
        words = (f"{source.choice(WORDS)}{source.randrange(10**6):x}" for _ in range(LENGTH // 9))
        path.write_text(" ".join(words)[:LENGTH].ljust(LENGTH))


def main() -> None:
    print(f"## Publishing {FILES:,} files, {FILES * LENGTH / 1e6:.0f} MB\n")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        repo, keys = str(work / "repo"), str(work / "keys")
        make_tree(work / "1", 1, 0)
        make_tree(work / "2", 2, 100)
        cost_of(fleetward("origin", "init", repo, "--keys", keys, "--plain-keys"))
        rows = []
        for number, what in ((1, "publish, first release"), (2, "publish, 100 files changed")):
            tree = str(work / str(number))
            cost = cost_of(fleetward("origin", "publish", repo, "rules", tree, "--keys", keys))
            rows.append(
                [what, f"{cost.wall:.1f} s", f"{cost.cpu:.1f} s", f"{cost.peak_mib:.0f} MiB"]
            )
        peer = f"tar -C {work / '1'} -c . | zstd -19 -o {work / 'x.zst'}"
        cost = cost_of(["sh", "-c", peer])
        rows.append(
            [
                "`tar`, then `zstd -19`",
                f"{cost.wall:.1f} s",
                f"{cost.cpu:.1f} s",
                f"{cost.peak_mib:.0f} MiB",
            ]
        )
        table(["what", "wall", "CPU", "peak memory"], rows)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
