"""Who signed an executable: answers as Windows and macOS give them, by programs that stand in.

The answers were written after Microsoft's and Apple's documentation; they were not recorded there.
"""

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.adapters import processes
from fleetward.core.listeners import Executable, Platform, Signature
from fleetward.core.portrules import PortRule, Verdict
from fleetward.errors import ConfigurationError
from fleetward.listeners import signatures
from fleetward.listeners.macos_signatures import MacosSignatures, signer_in
from fleetward.listeners.psutil_source import PsutilOwners, PsutilSockets, signatures_of
from fleetward.listeners.signatures import Signatures, run_asking
from fleetward.listeners.surveying import Surveyor
from fleetward.listeners.windows_signatures import (
    WindowsSignatures,
    common_name,
    parse_signatures,
)
from listeners.test_psutil_source import PROGRAMS, WINDOWS
from support.portsamples import SYMANTEC, listener, one, owner

SUBJECT = 'CN="Symantec Corporation", OU=STAR Security Engines, O=Symantec Corporation, C=US'
GOOD = Signature(signer="Symantec Corporation", intact=True)


def program(path: Path, body: str) -> str:
    """Return a program of Python that stands in for a platform's."""
    path.write_text(f"#!{sys.executable} -I\n{body}")
    path.chmod(0o755)
    return str(path)


class TestWindows:
    def answer(self, *rows: tuple[str, str, str]) -> str:
        return json.dumps(
            [dict(zip(("path", "status", "subject"), row, strict=True)) for row in rows]
        )

    @pytest.mark.parametrize(
        ("status", "subject", "found"),
        [
            ("Valid", SUBJECT, GOOD),
            ("HashMismatch", SUBJECT, Signature(signer="Symantec Corporation", intact=False)),
            ("NotTrusted", "CN=Mallory", Signature(signer="Mallory", intact=None)),
            ("UnknownError", "CN=Mallory", Signature(signer="Mallory", intact=None)),
            ("NotSigned", "", Signature(signer="", intact=None)),
            ("UnknownError", "", None),
            ("NotSupportedFileFormat", "", None),
        ],
    )
    def test_each_status(self, status: str, subject: str, found: Signature | None) -> None:
        assert parse_signatures(self.answer(("x", status, subject))).get("x") == found

    @pytest.mark.parametrize(
        ("subject", "name"),
        [
            ("CN=Microsoft Windows, O=Microsoft Corporation, C=US", "Microsoft Windows"),
            ('CN="Symantec, Inc.", O=Symantec', "Symantec, Inc."),
            ('CN="a ""quoted"" name", O=x', 'a "quoted" name'),
            ("OU=x, CN=Broadcom Inc", "Broadcom Inc"),
            ("O=no name at all", "O=no name at all"),
            ("O=xCN=y", "O=xCN=y"),
            ('CN="cut', "cut"),
        ],
    )
    def test_the_name_in_a_subject(self, subject: str, name: str) -> None:
        assert common_name(subject) == name

    @given(st.text())
    def test_any_subject_has_a_name(self, subject: str) -> None:
        assert isinstance(common_name(subject), str)
        common_name(f"CN={subject}")

    @pytest.mark.parametrize(
        "answer", ["", "null", "{}", "[1]", '[{"path":"x"}]', "Get-Auth: error"]
    )
    def test_another_answer_is_none(self, answer: str) -> None:
        assert parse_signatures(answer) == {}

    def test_a_byte_order_mark_is_passed_over(self) -> None:
        assert parse_signatures("\ufeff" + self.answer(("x", "Valid", SUBJECT))) == {"x": GOOD}

    def test_paths_reach_the_program_as_they_are(self, tmp_path: Path) -> None:
        """Quotes, dollars and backticks in a path are bytes of a path, and never PowerShell."""
        stand_in = program(
            tmp_path / "powershell.exe",
            "import os, sys, json\n"
            "assert sys.argv[1:4] == ['-NoProfile', '-NonInteractive', '-Command']\n"
            "assert 'Get-AuthenticodeSignature -LiteralPath $_' in sys.argv[4]\n"
            "paths = os.environ['FLEETWARD_FILES'].split('|')\n"
            "print(json.dumps([{'path': p, 'status': 'Valid', 'subject': 'CN=S'} for p in paths]))\n",
        )
        ask = WindowsSignatures(program=stand_in)
        paths = [r"C:\x '; calc; '.exe", 'C:\\$env:X"`\u00e4.exe', "C:\\no|path.exe"]
        assert ask(paths) == dict.fromkeys(paths[:2], Signature(signer="S", intact=True))
        assert ask(paths[2:]) == {}

    def test_without_powershell_it_says_so(self) -> None:
        with pytest.raises(ConfigurationError, match="cannot run"):
            WindowsSignatures(program="/nowhere/powershell.exe")(["x"])


class TestMacos:
    SIGNED = (
        "Executable=/x\nIdentifier=com.apple.x\nAuthority=Developer ID Application: Broadcom (ABC)\n"
        "Authority=Developer ID Certification Authority\nTeamIdentifier=ABC\n"
    )

    @pytest.mark.parametrize(
        ("said", "signer"),
        [
            (SIGNED, "Developer ID Application: Broadcom (ABC)"),
            ("/x: code object is not signed at all\n", ""),
            ("Identifier=x\nSignature=adhoc\n", ""),
            ("/x: No such file or directory\n", None),
            ("", None),
        ],
    )
    def test_who_signed(self, said: str, signer: str | None) -> None:
        assert signer_in(said) == signer

    @pytest.mark.parametrize(("code", "intact"), [(0, True), (1, False), (3, None)])
    def test_whether_it_still_is_what_was_signed(
        self, code: int, tmp_path: Path, *, intact: bool | None
    ) -> None:
        stand_in = program(
            tmp_path / "codesign",
            f"import sys\nif '--verify' in sys.argv: sys.exit({code})\n"
            f"print({self.SIGNED!r}, file=sys.stderr)\n",
        )
        found = MacosSignatures(program=stand_in)(["/x", "/y"])
        signer = "Developer ID Application: Broadcom (ABC)"
        assert found == dict.fromkeys(["/x", "/y"], Signature(signer=signer, intact=intact))

    def test_unsigned_and_unknown(self, tmp_path: Path) -> None:
        stand_in = program(
            tmp_path / "codesign",
            "import sys\nif sys.argv[-1] == '/x': print('code object is not signed at all')\n",
        )
        assert MacosSignatures(program=stand_in)(["/x", "/y"]) == {"/x": Signature(signer="")}


class TestRemembering:
    def test_each_content_is_asked_for_once_and_in_portions(self) -> None:
        asked: list[list[str]] = []

        def ask(paths: Sequence[str]) -> dict[str, Signature]:
            asked.append(list(paths))
            return dict.fromkeys(paths, GOOD)

        finder = Signatures(ask)
        files = [(f"/{n}", "ab" * 32) for n in range(20)]
        assert len(finder.find(files)) == 20
        assert len(finder.find(files)) == 20
        assert [len(one) for one in asked] == [16, 4]
        finder.find([("/0", "cd" * 32)])  # the file is another now
        finder.find([("/1", None)])
        finder.find([("/1", None)])  # nobody knows whether it is the same
        assert asked[2:] == [["/0"], ["/1"], ["/1"]]

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(signatures, "MAX_REMEMBERED", 8)
        finder = Signatures(lambda paths: dict.fromkeys(paths, GOOD))
        for n in range(50):
            finder.find([(f"/{n}", "ab" * 32)])
        assert len(finder._known) <= 8

    def test_a_platform_without_its_program_has_none(self) -> None:
        def ask(_paths: Sequence[str]) -> dict[str, Signature]:
            raise ConfigurationError("no PowerShell")

        assert Signatures(ask).find([("/x", None)]) == {}

    @pytest.mark.parametrize(
        ("platform", "kind"), [("win32", WindowsSignatures), ("darwin", MacosSignatures)]
    )
    def test_each_platform_has_its_way(self, platform: str, kind: type) -> None:
        assert isinstance(signatures_of(platform).ask, kind)
        assert signatures_of("linux").find([("/bin/sh", None)]) == {}

    def test_without_limits_of_this_kind_a_child_is_run_all_the_same(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """As on Windows, which has neither rlimits nor signals to groups."""
        monkeypatch.setattr(processes, "_HAS_LIMITS", False)
        stand_in = program(tmp_path / "x", "print('said')")
        assert run_asking((stand_in,), None).output == "said"
        with pytest.raises(ConfigurationError, match="cannot run /nowhere"):
            run_asking(("/nowhere",), None)
        slow = program(tmp_path / "slow", "import threading\nthreading.Event().wait()")
        ended = processes.run_limited((slow,), max_memory=1 << 30, max_time=timedelta(seconds=1))
        assert ended.exit_code is None


class TestVerdicts:
    def signed(self, signature: Signature | None, path: str = SYMANTEC) -> Executable:
        return Executable(path=path, sha256="ef" * 32, signature=signature)

    def verdict(self, signature: Signature | None, *rules: PortRule) -> tuple[Verdict, set[str]]:
        file = self.signed(signature)
        found = one(
            listener(owner(file, name="ccSvcHst.exe")), platform=Platform.WINDOWS, rules=rules
        )
        return found.verdict, set(found.ids)

    @pytest.mark.parametrize("signature", [None, GOOD, Signature(signer="", intact=None),
                                           Signature(signer="Broadcom Inc", intact=True)])  # fmt: skip
    def test_symantecs_own_unsigned_or_not_looked_for(self, signature: Signature | None) -> None:
        assert self.verdict(signature) == (Verdict.EXPECTED, {"symantec-program"})

    def test_at_symantecs_place_signed_by_somebody_else(self) -> None:
        verdict, ids = self.verdict(Signature(signer="Mallory Ltd", intact=True))
        assert verdict is Verdict.SUSPICIOUS
        assert "imitation" in ids

    def test_altered_after_it_was_signed(self) -> None:
        verdict, ids = self.verdict(Signature(signer="Symantec Corporation", intact=False))
        assert verdict is Verdict.SUSPICIOUS
        assert "signature-broken" in ids

    def test_a_rule_by_signer(self) -> None:
        path = r"C:\Program Files\Honest\honest.exe"
        rule = PortRule(name="honest", signer="Honest *")
        for signature, verdict in (
            (Signature(signer="Honest Ltd", intact=True), Verdict.EXPECTED),
            (Signature(signer="Honest Ltd", intact=None), Verdict.UNKNOWN),
            (Signature(signer="Honest Ltd", intact=False), Verdict.SUSPICIOUS),
            (Signature(signer="Dishonest Ltd", intact=True), Verdict.UNKNOWN),
            (Signature(signer="honest Ltd", intact=True), Verdict.UNKNOWN),
            (Signature(signer="", intact=None), Verdict.UNKNOWN),
            (None, Verdict.UNKNOWN),
        ):
            file = self.signed(signature, path)
            found = one(listener(owner(file)), platform=Platform.WINDOWS, rules=(rule,))
            assert found.verdict is verdict, signature
        hidden = one(listener(owner(None)), platform=Platform.WINDOWS, rules=(rule,))
        assert hidden.verdict is Verdict.UNKNOWN


def test_a_survey_of_windows_has_the_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: True)
    asked: list[str] = []

    def ask(paths: Sequence[str]) -> dict[str, Signature]:
        asked.extend(paths)
        return {path: GOOD for path in paths if path.endswith("ccSvcHst.exe")}

    owners = PsutilOwners(PROGRAMS.get, signatures=Signatures(ask))
    surveyor = Surveyor(
        Platform.WINDOWS, (PsutilSockets(lambda: WINDOWS),), owners, elsewhere=False
    )
    found = surveyor.survey(frozenset({2967}))
    files = [one.owners[0].executable for one in found.listeners]
    assert [file.signature if file else None for file in files] == [GOOD, None]
    assert len(asked) == 2
