"""Names that look like another's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.imitation import looks_like, skeleton

GENUINE = "rtvscan.exe"


@pytest.mark.parametrize(
    "name",
    [
        GENUINE, "RTVSCAN.EXE", "rtvscan.exe ", "rtv scan.exe", "rtv\u0455can.exe",
        "r\u03c4vscan.exe", "rtv5can.exe", "rtvsc\u0430n.\u0435x\u0435", "rtvscan.ex",
        "rtvscann.exe", "rtvscam.exe", "rtvsacn.exe", "rtvsca\u200bn.exe", "\uff52tvscan.exe",
        "rtvsc\u00e4n.exe",
    ],
)  # fmt: skip
def test_looks_like(name: str) -> None:
    assert looks_like(name, GENUINE)


@pytest.mark.parametrize("name", ["rtvscan-notes.exe", "scan.exe", "rtvnacs.exe", "", "rtv.exe"])
def test_does_not(name: str) -> None:
    assert not looks_like(name, GENUINE)


def test_short_names_are_only_compared_by_what_the_eye_keeps() -> None:
    assert looks_like("srnc.exe", "smc.exe")
    assert not looks_like("sc.exe", "smc.exe")
    assert not looks_like("smb.exe", "smc.exe")


@given(st.text(max_size=30))
def test_a_name_looks_like_itself_and_its_skeleton_is_plain(name: str) -> None:
    assert looks_like(name, name)
    assert skeleton(name).isprintable()


@given(st.integers(0, 10), st.sampled_from("abcxyz"))
def test_one_wrong_key_anywhere_is_noticed(at: int, key: str) -> None:
    assert looks_like(GENUINE[:at] + key + GENUINE[at + 1 :], GENUINE)
    assert looks_like(GENUINE[:at] + key + GENUINE[at:], GENUINE)
    assert looks_like(GENUINE[:at] + GENUINE[at + 1 :], GENUINE)
