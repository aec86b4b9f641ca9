"""Where things lie in a repository, and what is not of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.wire import layout
from fleetward.wire.layout import Freshness, parse_repository_path
from support.samples import DIGEST

P, R, C = ProductName("yara"), ReleaseName("2026.11.24-1"), ChannelName("stable")


def test_paths_are_those_of_the_design() -> None:
    assert layout.blob_path(DIGEST) == f"blobs/sha256/{DIGEST[:2]}/{DIGEST}"
    assert layout.metadata_path("root", 1) == "metadata/1.root.json"
    assert layout.releases_role(P) == "releases-yara"
    manifest = layout.manifest_target(P, R)
    assert manifest == "releases/yara/2026.11.24-1.json"
    assert (
        layout.target_path(manifest, DIGEST) == f"targets/releases/yara/{DIGEST}.2026.11.24-1.json"
    )
    assert layout.floor_target(P) == "releases/yara/floor.json"
    assert layout.policy_target(P) == "releases/yara/policy.json"
    assert layout.channel_target(P, C) == "channels/yara/stable.json"


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        ("metadata/3.releases-yara.json", None),
        (f"targets/releases/yara/{DIGEST}.r.json", DIGEST),
        (f"targets/channels/yara/{DIGEST}.stable.json", DIGEST),
        (f"targets/fleet/{DIGEST}.relays.json", DIGEST),
        (f"blobs/sha256/{DIGEST[:2]}/{DIGEST}", DIGEST),
    ],
)
def test_immutable_paths(path: str, digest: str | None) -> None:
    found = parse_repository_path(path)
    assert found
    assert (found.freshness, found.digest) == (Freshness.FOR_EVER, digest)


def test_the_timestamp_is_never_kept() -> None:
    found = parse_repository_path("metadata/timestamp.json")
    assert found
    assert found.freshness is Freshness.NEVER


@pytest.mark.parametrize(
    "path",
    [
        "",
        "metadata",
        "metadata/root.json",
        "metadata/0.root.json",
        "metadata/1.root.json/",
        "metadata/../keys/x.json",
        f"blobs/sha256/00/{DIGEST}",
        "blobs/sha256/ab/short",
        f"targets/{DIGEST}.x.json",
        f"targets/a/b/c/{DIGEST}.x.json",
        ".lock",
        "pending/x.json",
        "metadata/1.Root.json",
        "metadata/1.root.json\n",
    ],
)
def test_what_is_not_of_the_layout(path: str) -> None:
    assert parse_repository_path(path) is None


@given(st.text(max_size=60))
def test_no_path_of_the_layout_climbs(path: str) -> None:
    found = parse_repository_path(path)
    assert found is None or ".." not in found.path.split("/")
