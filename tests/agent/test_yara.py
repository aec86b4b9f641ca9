"""The yara profile with the real compiler: it loads, detects canaries, leaves clean files alone."""

from pathlib import Path

import pytest

from fleetward.agent.engines import Engines
from fleetward.agent.yara_check import main
from fleetward.config.agent import EngineSettings
from fleetward.errors import ConfigurationError, RejectedError

pytest.importorskip(
    "yara_x", reason="yara-x is not installed: pip install 'fleetward[yara]'", exc_type=ImportError
)

RULE = 'rule finds { strings: $a = "canary" condition: $a and filename != "x" }'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "good.yar").write_text(RULE)
    (tmp_path / "canary").write_text("a canary")
    (tmp_path / "clean").write_text("nothing")
    return folder


def settings(tree: Path, canary: str = "canary", clean: str = "clean") -> EngineSettings:
    return EngineSettings(
        name="yara", canaries=(tree.parent / canary,), clean=(tree.parent / clean,)
    )


def test_good_rules_pass(tree: Path) -> None:
    Engines().try_tree(tree, settings(tree))


def test_a_syntax_error_is_named(tree: Path) -> None:
    (tree / "bad.YARA").write_text("rule broken { condition: }")
    with pytest.raises(RejectedError, match=r"bad\.YARA"):
        Engines().try_tree(tree, settings(tree))


def test_a_canary_that_is_missed_and_a_clean_file_that_is_found(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RejectedError, match="is not detected"):
        Engines().try_tree(tree, settings(tree, canary="clean"))
    with pytest.raises(RejectedError, match=r"detected by good\.yar:finds"):
        Engines().try_tree(tree, settings(tree, clean="canary"))
    assert main([str(tree), f"--canary={tree.parent / 'clean'}"]) == 1
    assert main([str(tree), f"--clean={tree.parent / 'canary'}"]) == 1
    assert "is detected by" in capsys.readouterr().out


def test_the_check_itself(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tree)]) == 0
    (tree / "bad.yar").write_text("rule { }")
    assert main([str(tree)]) == 1
    assert "bad.yar" in capsys.readouterr().out


def test_a_tree_without_rules_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="no file with rules"):
        Engines().try_tree(tmp_path, EngineSettings(name="yara"))


def test_a_host_without_yara_x_says_what_to_install(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'fleetward\[yara\]'"):
        Engines().try_tree(tree, settings(tree))


def test_an_operators_command_is_run_with_the_tree(tree: Path) -> None:
    passes = EngineSettings(name="own", preflight=("test", "-d", "{tree}"))
    Engines().try_tree(tree, passes)
    fails = EngineSettings(name="own", preflight=("test", "-f", "{tree}"))
    with pytest.raises(RejectedError, match="test ended with 1: it printed nothing"):
        Engines().try_tree(tree, fails)


def test_plain_files_need_no_engine(tree: Path) -> None:
    Engines().try_tree(tree, EngineSettings(name="files"))
