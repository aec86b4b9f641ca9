"""Documents for tests: small, well-formed, and the same in every suite."""

from datetime import UTC, datetime

from fleetward.core.digest import Sha256, sha256_of
from fleetward.core.documents import (
    Channel,
    Delta,
    Engine,
    Manifest,
    Pack,
    ReleaseRef,
    TreeIdentity,
)
from fleetward.core.names import ChannelName, ProductName, ReleaseName

DIGEST = sha256_of(b"a tree")
CREATED = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
PRODUCT = ProductName("yara")
STABLE = ChannelName("stable")


def digest_of(text: str) -> Sha256:
    return sha256_of(text.encode())


def delta(
    base: int, result: int, length: int, memory: int = 1000, codec: str = "changed-set"
) -> Delta:
    return Delta(
        base=ReleaseName(f"r{base}"),
        base_tree=digest_of(f"tree {base}"),
        codec=codec,
        encoder=None,
        memory=memory,
        sha256=digest_of(f"delta {base} {result} {codec}"),
        length=length,
    )


def manifest(seq: int, *deltas: Delta, pack: int = 100_000, urgent: bool = False) -> Manifest:
    return Manifest(
        product=PRODUCT,
        release=ReleaseName(f"r{seq}"),
        seq=seq,
        created=CREATED,
        engine=Engine(name="files"),
        tree=TreeIdentity(sha256=digest_of(f"tree {seq}"), length=700_000, files=7),
        pack=Pack(codec="zstd", sha256=digest_of(f"pack {seq}"), length=pack),
        deltas=deltas,
        urgent=urgent,
    )


def ref(of: Manifest) -> ReleaseRef:
    return ReleaseRef(release=of.release, seq=of.seq, manifest=digest_of(f"manifest {of.seq}"))


MANIFEST = manifest(2, delta(1, 2, 500))
CHANNEL = Channel(
    product=PRODUCT, channel=STABLE, release=ref(MANIFEST), previous=ref(manifest(1)), salt="5a17"
)
