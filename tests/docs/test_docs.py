"""What docs claim can be checked: named tests exist, links lead somewhere, addresses stay out."""

import re
import subprocess
from pathlib import Path

import pytest

from fleetward import errors
from fleetward.errors import FleetwardError

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def named_tests() -> list[str]:
    text = (ROOT / "docs" / "threat-model.md").read_text()
    return sorted(set(re.findall(r"`([a-z]+/test_\w+\.py(?:::\w+)+)`", text)))


@pytest.mark.parametrize("name", named_tests())
def test_a_test_that_the_threat_model_names_exists(name: str) -> None:
    path, *parts = name.split("::")
    source = (ROOT / "tests" / path).read_text()
    for part in parts:
        assert re.search(rf"(def|class) {part}\b", source), f"{part} is not in tests/{path}"


def test_every_promise_of_this_release_has_a_test() -> None:
    assert len(named_tests()) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_error_table_has_every_exit_code() -> None:
    table = (ROOT / "docs" / "formats.md").read_text()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, FleetwardError)}
    for code in codes:
        assert f"\n| {code} |" in table
    assert len(kinds) <= 20


def test_locks_have_hashes_and_no_addresses() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text()
        assert "://" not in text
        pins = re.findall(r"^[a-z0-9-]+==", text, re.MULTILINE)
        assert len(pins) > 20
        assert text.count("--hash=sha256:") >= len(pins)


def test_nothing_of_a_working_machine_is_in_the_tree() -> None:
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not files:
        pytest.skip("not a checkout: run it in a git clone")
    for name in files:
        content = (ROOT / name).read_bytes()
        assert str(ROOT).encode() + b"/" not in content, name
