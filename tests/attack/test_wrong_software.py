"""Stories of roles that speak for others: wrong software, widened delegations, mix-and-match."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tuf.api.metadata import Delegations, SuccinctRoles

from fleetward.core.documents import Channel, Floor, Policy
from fleetward.core.names import ChannelName, ProductName
from fleetward.errors import DigestError, DocumentError, MetadataError, RollbackError, TrustError
from support.sourceserver import SourceServer, gives
from support.trusthost import Host
from support.tufsim import SimFleet, new_signers

YARA, SIGMA, STABLE = ProductName("yara"), ProductName("sigma"), ChannelName("stable")


def refuses(client: Host, source: SourceServer, sentence: str) -> None:
    """The client refuses the top-level targets that the source serves, and keeps its own."""
    kept = client.kept()
    with pytest.raises(MetadataError, match=sentence):
        client.refresh(source.url)
    assert client.kept()["targets.json"] == kept["targets.json"]


def test_targets_names_a_manifest_itself(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    # Whoever has the targets keys tries to release without the product's keys.
    client.refresh(source.url)
    origin.add_target("targets", "releases/yara/r2.json", b"{}")
    origin.publish("targets")
    refuses(client, source, "may only delegate")


@pytest.mark.parametrize(
    ("role", "paths"),
    [
        ("channels", ["channels/*/*", "releases/*/*"]),
        ("channels", ["*/*/*"]),
        ("releases-yara", ["releases/*/*"]),
        ("releases-yara", ["releases/sigma/*"]),
        ("fleet", ["*"]),
        ("fleet", ["fleet"]),
    ],
)
def test_a_delegation_is_widened(
    origin: SimFleet, source: SourceServer, client: Host, role: str, paths: list[str]
) -> None:
    client.refresh(source.url)
    delegations = origin.targets().delegations
    assert delegations is not None
    assert delegations.roles is not None
    delegations.roles[role].paths = paths
    origin.publish("targets")
    refuses(client, source, "outside")


@pytest.mark.parametrize("role", ["extra", "releases-", "releases-UPPER", "releases-a/b"])
def test_a_role_that_has_no_place(
    origin: SimFleet, source: SourceServer, client: Host, role: str
) -> None:
    client.refresh(source.url)
    origin.delegate(role, ["extra/*"])
    origin.publish("targets", role)
    refuses(client, source, "no folder")


def test_a_delegation_by_hash_prefixes(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    client.refresh(source.url)
    delegations = origin.targets().delegations
    assert delegations is not None
    assert delegations.roles is not None
    delegations.roles["channels"].paths = None
    delegations.roles["channels"].path_hash_prefixes = ["ab"]
    origin.publish("targets")
    refuses(client, source, "outside")


def test_a_delegation_to_succinct_roles(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    client.refresh(source.url)
    signer = new_signers(1)[0]
    succinct = SuccinctRoles([], 1, 1, "bin")
    origin.targets().delegations = Delegations({}, None, succinct)
    origin.targets().add_key(signer.public_key)
    origin.publish("targets")
    refuses(client, source, "succinct")


def test_channels_names_a_manifest(origin: SimFleet, source: SourceServer, client: Host) -> None:
    # The stolen channels key signs a target in the folder of a product.
    view = client.refresh(source.url)
    view.channel(YARA, STABLE)
    kept = client.kept()
    origin.add_target("channels", "releases/yara/r2.json", b"{}")
    origin.publish("channels")
    with pytest.raises(MetadataError, match=r"channels names 'releases/yara/r2\.json'"):
        client.refresh(source.url).channel(YARA, STABLE)
    assert client.kept()["channels.json"] == kept["channels.json"]


def test_a_product_names_what_is_of_another(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    origin.add_target("releases-yara", "releases/sigma/floor.json", b"{}")
    origin.publish("releases-yara")
    with pytest.raises(MetadataError, match="wrong software"):
        client.refresh(source.url).floor(YARA)


def test_a_role_delegates_further(origin: SimFleet, source: SourceServer, client: Host) -> None:
    # channels hands its folder to another role, with a key that nobody knows.
    origin.delegate("channels-too", ["channels/*/*"], by="channels")
    origin.publish("channels-too", "channels")
    with pytest.raises(MetadataError, match="delegates further"):
        client.refresh(source.url).find("channels/yara/unknown.json")
    assert "channels-too.json" not in client.kept()


@pytest.mark.parametrize(
    "name",
    [
        "releases/sigma/r1.json",
        "releases/yara",
        "releases/yara/a/b.json",
        "releases/../yara/r1.json",
        "channels/yara/deep/stable.json",
        "fleet/",
        "elsewhere/x.json",
        "",
    ],
)
def test_a_name_for_which_no_role_speaks(source: SourceServer, client: Host, name: str) -> None:
    assert client.refresh(source.url).find(name) is None


class TestDocumentsUnderAnotherName:
    """The right role signs the document of another product or channel."""

    def test_a_channel(self, origin: SimFleet, source: SourceServer, client: Host) -> None:
        ref = origin.add_release(2)
        for product, channel in ((SIGMA, STABLE), (YARA, ChannelName("beta"))):
            document = Channel(product=product, channel=channel, release=ref, salt="s")
            origin.add_document("channels", "channels/yara/stable.json", document)
            origin.publish("channels")
            with pytest.raises(MetadataError, match="wrong software"):
                client.refresh(source.url).channel(YARA, STABLE)

    @pytest.mark.parametrize("document", [Floor(product=SIGMA, seq=1), Policy(product=SIGMA)])
    def test_a_floor_or_a_policy(
        self, origin: SimFleet, source: SourceServer, client: Host, document: Floor | Policy
    ) -> None:
        kind = type(document).__name__.lower()
        origin.add_document("releases-yara", f"releases/yara/{kind}.json", document)
        origin.publish("releases-yara")
        view = client.refresh(source.url)
        with pytest.raises(MetadataError, match="wrong software"):
            getattr(view, kind)(YARA)

    def test_what_is_no_document(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        origin.add_target("channels", "channels/yara/stable.json", b"<html>")
        origin.publish("channels")
        with pytest.raises(DocumentError):
            client.refresh(source.url).channel(YARA, STABLE)

    def test_a_document_that_is_too_long(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        origin.add_target("channels", "channels/yara/stable.json", bytes(64 * 1024 + 1))
        origin.publish("channels")
        with pytest.raises(MetadataError, match="bytes long"):
            client.refresh(source.url).channel(YARA, STABLE)

    def test_a_target_without_a_sha256(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        target = origin.add_target("channels", "channels/yara/stable.json", b"x")
        target.hashes = {"md5": "9dd4e461268c8034f5c8564e155c67a6"}
        origin.publish("channels")
        with pytest.raises(MetadataError, match="without a sha256"):
            client.refresh(source.url).channel(YARA, STABLE)


class TestMixAndMatch:
    """The attacker serves parts of two repository states, each rightly signed."""

    @pytest.fixture(params=[True, False], ids=["with digests", "by versions alone"])
    def origin(self, origin: SimFleet, request: pytest.FixtureRequest) -> SimFleet:
        origin.with_digests = request.param
        origin.publish("targets", "fleet", "channels", "releases-yara")
        return origin

    def test_targets_of_yesterday(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        self._swap(origin, source, "targets", client.refresh)

    def test_snapshot_of_yesterday(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        client.clock.advance(timedelta(hours=1))
        self._swap(origin, source, "snapshot", client.refresh)

    @pytest.mark.parametrize("role", ["channels", "releases-yara"])
    def test_a_delegated_role_of_yesterday(
        self, origin: SimFleet, source: SourceServer, client: Host, role: str
    ) -> None:
        def act(url: str) -> None:
            view = client.refresh(url)
            view.channel(YARA, STABLE)
            view.floor(YARA)

        self._swap(origin, source, role, act)
        assert f"{role}.json" not in client.kept()

    def _swap(
        self, origin: SimFleet, source: SourceServer, role: str, act: Callable[[str], Any]
    ) -> None:
        old = origin.files[origin.path(role)]
        origin.publish("targets", "channels", "releases-yara")
        source.scripts[origin.path(role)] = gives(old)
        with pytest.raises((DigestError, MetadataError)) as caught:
            act(source.url)
        assert not isinstance(caught.value, RollbackError)

    def test_the_repository_moves_on_while_a_host_reads(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        # The host has refreshed; before it asks for the channel, the origin publishes.
        view = client.refresh(source.url)
        origin.release(2)

        # The host gets the channel of its own snapshot, since old versions stay public.
        assert view.channel(YARA, STABLE).release.seq == 1
        assert view.versions["channels"] == 3

        # Once it has refreshed, its old view gives nothing more from the network.
        new = client.refresh(source.url)
        with pytest.raises(MetadataError, match="no longer the newest"):
            view.floor(YARA)
        assert new.channel(YARA, STABLE).release.seq == 2


def test_a_role_that_snapshot_does_not_list(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    origin.delegate("releases-sigma", ["releases/sigma/*"])
    origin.publish("targets")
    with pytest.raises(TrustError):
        client.refresh(source.url).floor(SIGMA)
