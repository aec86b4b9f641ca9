"""The parts of the client by themselves: readings, rules, the ledger, the cache, the updater."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.digest import sha256_of
from fleetward.core.limits import MetadataLimits
from fleetward.errors import DiskError, ExpiredError, MetadataError, NetworkError
from fleetward.trust import metadata
from fleetward.trust.rules import FleetRules, TufRules, folder_of, role_of
from fleetward.trust.targetcache import TargetCache
from fleetward.trust.updating import Repository, _tuf_errors, updater_run, verify_anchor
from fleetward.trust.view import VerifiedTarget, _matches
from support.fakes import START, FakeClock
from support.simdisk import SimDisk
from support.trusthost import Host
from support.tufsim import SimFleet

HEAD = {"version": 1, "expires": "2026-12-01T00:00:00Z"}


def signed(**fields: object) -> bytes:
    return json.dumps({"signatures": [], "signed": HEAD | fields}).encode()


class TestReadings:
    def test_version_and_expiry(self) -> None:
        facts = metadata.read_role(signed())
        assert facts == metadata.RoleFacts(1, datetime(2026, 12, 1, tzinfo=UTC))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"[]",
            b"{}",
            b"[" * 100_000,
            b'{"signed": null}',
            signed(version="1"),
            signed(version=-1),
            signed(expires="tomorrow"),
            signed(expires="2026-13-01T00:00:00Z"),
            signed(expires="2026-12-01T00:00:00+02:00"),
        ],
    )
    def test_what_has_not_the_form(self, content: bytes) -> None:
        with pytest.raises(MetadataError):
            metadata.read_role(content)

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"x-issued": "2026-11-24T02:00:00Z"},
            {"x-issued": "2026-11-24T02:00:00Z", "x-interval": 0},
            {"x-issued": "2026-11-24T02:00:00Z", "x-interval": "600"},
            {"x-issued": "2026-11-24T02:00:00Z", "x-interval": 10**12},
            {"x-issued": "2026-11-24", "x-interval": 600},
            {"x-issued": 5, "x-interval": 600},
        ],
    )
    def test_a_timestamp_without_fleetwards_fields(self, fields: dict[str, Any]) -> None:
        with pytest.raises(MetadataError):
            metadata.read_timestamp(signed(**fields))

    def test_the_last_of_two_fields_counts_as_for_the_verifier(self) -> None:
        content = b'{"signed": {"version": 9}, "signed": {"version": 1, "version": 2, "expires": '
        assert metadata.read_role(content + b'"2026-12-01T00:00:00Z"}}').version == 2

    def test_what_is_older(self) -> None:
        def listing(version: int, **roles: int) -> bytes:
            meta = {f"{role}.json": {"version": each} for role, each in roles.items()}
            return signed(version=version, meta=meta)

        assert metadata.is_older(listing(1), listing(2))
        assert metadata.is_older(listing(3, a=1), listing(2, a=2))
        assert not metadata.is_older(listing(3, a=2), listing(2, a=2, b=9))
        assert not metadata.is_older(b"", listing(2))


class TestRules:
    @pytest.mark.parametrize(
        ("target", "role"),
        [
            ("fleet/relays.json", "fleet"),
            ("channels/yara/stable.json", "channels"),
            ("releases/yara/r1.json", "releases-yara"),
            ("releases/ya.ra_1/floor.json", "releases-ya.ra_1"),
            ("releases/yara/", None),
            ("releases//r1.json", None),
            ("releases/YARA/r1.json", None),
            ("fleet", None),
            ("fleet/", None),
            ("/fleet/x", None),
            ("x/fleet/y", None),
        ],
    )
    def test_who_may_name_a_target(self, target: str, role: str | None) -> None:
        assert role_of(target) == role

    @given(st.text("abfleetchnrs-./*", max_size=24))
    def test_a_role_names_only_what_lies_in_its_folder(self, target: str) -> None:
        role = role_of(target)
        if role is not None:
            folder = folder_of(role)
            assert folder is not None
            assert target.startswith(folder)

    @pytest.mark.parametrize("role", ["releases-", "releases-A", "root", "fleets", "releases-a/b"])
    def test_roles_without_a_folder(self, role: str) -> None:
        assert folder_of(role) is None

    def test_a_role_delegated_twice(self) -> None:
        role = {"name": "fleet", "keyids": [], "threshold": 1, "paths": ["fleet/*"]}
        content = signed(targets={}, delegations={"keys": {}, "roles": [role, role]})
        rules = FleetRules(FakeClock(START))
        with pytest.raises(MetadataError, match="twice"):
            rules.judge("targets", content)

    def test_a_role_that_has_no_place_in_a_fleet(self) -> None:
        with pytest.raises(MetadataError, match="no role of a fleet"):
            FleetRules(FakeClock(START)).judge("elsewhere", signed(targets={}))

    def test_targets_that_delegate_nothing_yet(self) -> None:
        FleetRules(FakeClock(START)).judge("targets", signed(targets={}))

    def test_expiry_is_at_the_instant(self) -> None:
        expires = datetime(2026, 12, 1, tzinfo=UTC)
        TufRules(FakeClock(expires - timedelta(seconds=1))).judge("snapshot", signed())
        with pytest.raises(ExpiredError, match="2026-12-01 00:00"):
            TufRules(FakeClock(expires)).judge("snapshot", signed())
        TufRules(FakeClock(expires)).judge("root", signed())

    @pytest.mark.parametrize(
        ("pattern", "name", "is_match"),
        [
            ("releases/yara/*", "releases/yara/r1.json", True),
            ("releases/yara/*", "releases/yara/a/b", False),
            ("releases/yara/*", "releases/sigma/r1.json", False),
            ("channels/*/*.json", "channels/yara/stable.json", True),
            ("*", "a/b", False),
            ("fleet/?", "fleet/a", True),
        ],
    )
    def test_patterns_match_by_segment(self, pattern: str, name: str, is_match: bool) -> None:  # noqa: FBT001
        assert _matches(pattern, name) is is_match


class TestCache:
    def target(self, content: bytes) -> VerifiedTarget:
        return VerifiedTarget("fleet/x", "fleet", sha256_of(content), len(content))

    def test_it_gives_what_was_put(self) -> None:
        disk = SimDisk()
        cache = TargetCache(disk, Path("/targets"))
        assert cache.get(self.target(b"a")) is None
        cache.put(self.target(b"a"), b"a")
        assert cache.get(self.target(b"a")) == b"a"

    def test_a_damaged_file_is_no_document(self) -> None:
        disk = SimDisk()
        cache = TargetCache(disk, Path("/targets"))
        target = self.target(b"a")
        cache.put(target, b"a")
        with disk.create(Path(f"/targets/{target.sha256}.json")) as file:
            file.write(b"b")
        assert cache.get(target) is None

    def test_a_full_cache_gives_up_what_was_not_used(self) -> None:
        disk = SimDisk()
        old = TargetCache(disk, Path("/targets"))
        for number in range(3):
            old.put(self.target(bytes([number])), bytes([number]))
        cache = TargetCache(disk, Path("/targets"), max_kept=3)
        assert cache.get(self.target(b"\x01"))
        cache.put(self.target(b"new"), b"new")
        assert cache.get(self.target(b"\x01"))
        assert cache.get(self.target(b"new"))
        assert len(disk.listing(Path("/targets"))) == 2


class TestUpdater:
    def test_no_room_for_the_scratch_folder(
        self, origin: SimFleet, client: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
        with pytest.raises(DiskError, match="temporary files"):
            verify_anchor(client.session, origin.anchor)

    def test_the_scratch_folder_is_private_and_removed(
        self, origin: SimFleet, client: Host
    ) -> None:
        given_files = {"root": origin.anchor}
        repository = Repository("http://127.0.0.1:1")
        with updater_run(client.session, repository, given_files, MetadataLimits()) as run:
            assert run._folder.stat().st_mode & 0o777 == 0o700
            assert run.role("root") == origin.anchor
            assert run.changed() == {}
        assert not run._folder.exists()

    def test_a_failed_download_that_is_not_http(self) -> None:
        from tuf.api.exceptions import DownloadError  # noqa: PLC0415 (tuf: where needed)

        with pytest.raises(NetworkError, match="odd"), _tuf_errors():
            raise DownloadError("odd")
