"""The child that tries YARA rules: compile all, find the canaries, leave the clean files alone.

Run as `python -m fleetward.agent.yara_check TREE [--canary=FILE]… [--clean=FILE]…`; exits 0 where
the rules pass, 1 where they do not, with the reasons on standard output. Runs under the limits
of adapters.processes, since rules come from elsewhere and a compiler is a large target.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

EXTERNAL_VARIABLES = ("filename", "filepath", "extension", "filetype", "owner", "md5")
"""What published rule sets expect to be defined (LOKI, THOR)."""

SUFFIXES = frozenset({".yar", ".yara"})


def complaints(tree: Path, canaries: list[Path], clean: list[Path]) -> Iterator[str]:
    """Yield what is wrong with the rules under `tree`, one sentence each."""
    import yara_x  # noqa: PLC0415 (an optional package, and this child's only business)

    compiler = yara_x.Compiler(relaxed_re_syntax=True)
    compiler.enable_includes(False)  # noqa: FBT003 (the package's own signature)
    for variable in EXTERNAL_VARIABLES:
        compiler.define_global(variable, "")
    files = [p for p in sorted(tree.rglob("*")) if p.suffix.lower() in SUFFIXES]
    if not files:
        yield f"no file with rules ({', '.join(sorted(SUFFIXES))}) in the tree"
        return
    broken = False
    for path in files:
        name = path.relative_to(tree).as_posix()
        compiler.new_namespace(name)
        try:
            compiler.add_source(path.read_text("utf-8", "surrogateescape"), origin=name)
        except (yara_x.CompileError, ValueError) as error:
            broken = True
            yield f"{name}: {error}"
    if broken:
        return
    scanner = yara_x.Scanner(compiler.build())
    for path in canaries:
        if not scanner.scan(path.read_bytes()).matching_rules:
            yield f"the canary {path} is not detected"
    for path in clean:
        found = scanner.scan(path.read_bytes()).matching_rules
        if found:
            yield f"the clean file {path} is detected by {found[0].namespace}:{found[0].identifier}"


def main(arguments: list[str] | None = None) -> int:
    """Check what the command line names, and return the exit code."""
    parser = argparse.ArgumentParser(description="try YARA rules")
    parser.add_argument("tree", type=Path)
    parser.add_argument("--canary", type=Path, action="append", default=[])
    parser.add_argument("--clean", type=Path, action="append", default=[])
    chosen = parser.parse_args(arguments)
    found = list(complaints(chosen.tree, chosen.canary, chosen.clean))
    for complaint in found[:20]:
        print(complaint)  # noqa: T201 (a child speaks to its parent by printing)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
