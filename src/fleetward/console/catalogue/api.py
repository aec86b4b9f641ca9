"""The API of the catalogue: products, channels, releases, changes, the repository and its roles."""

from datetime import datetime
from typing import Annotated, Any, Literal

from django.db.models import Prefetch
from django.http import Http404
from ninja import Path, Query, Router, Schema
from ninja.errors import HttpError
from pydantic import Field

from fleetward.console.api.paging import Listing, Rows, listing
from fleetward.console.api.problems import answers
from fleetward.console.api.security import needs
from fleetward.console.catalogue.comparing import ask
from fleetward.console.catalogue.models import (
    Channel,
    Comparison,
    Delta,
    Move,
    Product,
    Release,
    Repository,
    Role,
    Stage,
)
from fleetward.console.catalogue.standing import fault_of, problems, role_line
from fleetward.console.catalogue.views import WAITING
from fleetward.console.web.asking import Asked
from fleetward.console.wiring import wired

products_router = Router(tags=["products"])
repository_router = Router(tags=["repository"])
roles_router = Router(tags=["repository"])

_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
Name = Annotated[str, Path(max_length=64, pattern=_PATTERN)]


class ChannelOut(Schema):
    """A channel; `release` is what it points at, `fault` why hosts refuse that (or empty)."""

    name: str
    release: str
    seq: int | None
    previous: str | None
    since: datetime
    plan: str
    state: str
    open: int
    waves: list[dict[str, Any]]
    fault: str


class RampStepOut(Schema):
    """From this age of a release on, in seconds, this percentage of hosts may take it."""

    age: int
    percent: float


class CataloguedProductOut(Schema):
    """A product with its channels."""

    name: str
    floor: int
    ramp: list[RampStepOut]
    when_nothing_is_allowed: str
    listed: bool
    problem: str
    channels: list[ChannelOut]


class DeltaOut(Schema):
    """What turns another release into this one; lengths and memory in bytes."""

    base: str
    codec: str
    encoder: str
    memory: int
    sha256: str
    length: int


class ReleaseOut(Schema):
    """A release; lengths in bytes."""

    name: str
    seq: int
    created: datetime
    engine: str
    engine_min: str
    engine_max: str
    manifest: str
    tree: str
    tree_length: int
    files: int
    pack: str
    pack_length: int
    urgent: bool
    listed: bool
    revoked: bool
    reason: str
    under_floor: bool
    deltas: list[DeltaOut]


class MoveOut(Schema):
    """What a channel's document said from an instant on."""

    at: datetime
    issued: datetime
    timestamp: int
    kind: str
    release: str
    seq: int
    previous: str
    state: str
    open: int
    waves: int


class ChangesOut(Schema):
    """What changed from one release to another; `changes` is null until `stage` is `done`."""

    old: str
    new: str
    stage: Literal["queued", "computing", "done", "failed"]
    reason: str
    changes: dict[str, Any] | None


class RoleOut(Schema):
    """A role of the repository; `standing` is good, warn or bad by what is left."""

    role: str
    version: int
    expires: datetime | None
    threshold: int
    keyids: list[str]
    standing: str


class ProblemOut(Schema):
    """Something that is wrong with the repository, and what to do next."""

    severity: str
    about: str
    words: str
    step: str


class RepositoryOut(Schema):
    """The repository that this console follows."""

    url: str
    checked: datetime | None
    refreshed: datetime | None
    root: int
    timestamp: int
    issued: datetime | None
    frozen: bool
    problems: list[ProblemOut]


class ReleaseFilter(Schema):
    """Which releases; absent fields limit nothing."""

    listed: bool | None = None
    revoked: bool | None = None


class Against(Schema):
    """The release to compare with."""

    against: Annotated[str, Field(max_length=64, pattern=_PATTERN)]


@products_router.get(
    "", response=answers(Listing[CataloguedProductOut]), auth=needs("products.view")
)
def list_products(request: Asked, paging: Rows) -> Listing[CataloguedProductOut]:
    """List products."""
    return listing(_products(), paging, _product_out)


@products_router.get(
    "/{product}", response=answers(CataloguedProductOut, 404), auth=needs("products.view")
)
def get_product(request: Asked, product: Name) -> CataloguedProductOut:
    """Give one product."""
    row = _products().filter(name=product).first()
    if row is None:
        raise Http404
    return _product_out(row)


@products_router.get(
    "/{product}/channels/{channel}/moves",
    response=answers(Listing[MoveOut], 404),
    auth=needs("products.view"),
)
def list_moves(request: Asked, product: Name, channel: Name, paging: Rows) -> Listing[MoveOut]:
    """List what a channel pointed at, the newest first."""
    row = Channel.objects.filter(product__name=product, name=channel).first()
    if row is None:
        raise Http404
    return listing(Move.objects.filter(channel=row), paging, _move_out, descending=True)


@products_router.get(
    "/{product}/releases",
    response=answers(Listing[ReleaseOut], 404),
    auth=needs("products.view"),
)
def list_releases(
    request: Asked, product: Name, paging: Rows, asked: Annotated[ReleaseFilter, Query()]
) -> Listing[ReleaseOut]:
    """List a product's releases, the one that was seen last first."""
    row = Product.objects.filter(name=product).first()
    if row is None:
        raise Http404
    wanted = {key: value for key, value in asked.dict().items() if value is not None}
    rows = _releases().filter(product=row, **wanted)
    return listing(rows, paging, _release_out, descending=True)


@products_router.get(
    "/{product}/releases/{release}",
    response=answers(ReleaseOut, 404),
    auth=needs("products.view"),
)
def get_release(request: Asked, product: Name, release: Name) -> ReleaseOut:
    """Give one release with its deltas."""
    return _release_out(_release(product, release))


@products_router.get(
    "/{product}/releases/{release}/changes",
    response=answers(ChangesOut, 404, 503),
    auth=needs("products.view"),
)
def get_changes(
    request: Asked, product: Name, release: Name, asked: Annotated[Against, Query()]
) -> ChangesOut:
    """Give what changed from another release to this one; ask again until `stage` is `done`."""
    new, old = _release(product, release), _release(product, asked.against)
    found = Comparison.objects.filter(old=old, new=new).first()
    if found is None and Comparison.objects.filter(stage=Stage.QUEUED).count() >= WAITING:
        raise HttpError(503, "too many comparisons wait: ask again later")
    row = ask(old, new, wired().clock.now())
    return ChangesOut(
        old=old.name,
        new=new.name,
        stage=row.stage,  # type: ignore[arg-type]
        reason=row.reason,
        changes=row.result,
    )


@repository_router.get("", response=answers(RepositoryOut, 404), auth=needs("products.view"))
def get_repository(request: Asked) -> RepositoryOut:
    """Give how the repository stands; 404 where this console follows none."""
    row = Repository.objects.first()
    if row is None:
        raise Http404
    found = [
        ProblemOut(severity=p.tone, about=p.key, words=p.words, step=p.step)
        for p in problems(wired().clock.now())
    ]
    return RepositoryOut(
        url=row.url,
        checked=row.checked,
        refreshed=row.refreshed,
        root=row.root,
        timestamp=row.timestamp,
        issued=row.issued,
        frozen=row.frozen,
        problems=found,
    )


@roles_router.get("", response=answers(Listing[RoleOut]), auth=needs("products.view"))
def list_roles(request: Asked, paging: Rows) -> Listing[RoleOut]:
    """List the roles of the repository with their keys and expiries."""
    return listing(Role.objects.all(), paging, _role_out)


def _products() -> Any:  # noqa: ANN401 (a query that carries its prefetches)
    channels = Channel.objects.filter(listed=True).select_related("product", "release", "previous")
    return Product.objects.prefetch_related(Prefetch("channels", channels))


def _releases() -> Any:  # noqa: ANN401 (a query that carries its prefetches)
    deltas = Prefetch("deltas", Delta.objects.order_by("length"))
    return Release.objects.select_related("product").prefetch_related(deltas)


def _release(product: str, name: str) -> Release:
    row: Release | None = _releases().filter(product__name=product, name=name).first()
    if row is None:
        raise Http404
    return row


def _product_out(row: Product) -> CataloguedProductOut:
    return CataloguedProductOut(
        name=row.name,
        floor=row.floor,
        ramp=[RampStepOut(**step) for step in row.ramp],
        when_nothing_is_allowed=row.when_nothing_is_allowed,
        listed=row.listed,
        problem=row.problem,
        channels=[_channel_out(channel) for channel in row.channels.all()],
    )


def _channel_out(row: Channel) -> ChannelOut:
    return ChannelOut(
        name=row.name,
        release=row.points_at,
        seq=row.release.seq if row.release else None,
        previous=row.previous.name if row.previous else None,
        since=row.since,
        plan=row.plan,
        state=row.state,
        open=row.open,
        waves=row.waves,
        fault=fault_of(row),
    )


def _release_out(row: Release) -> ReleaseOut:
    deltas = [
        DeltaOut(
            base=delta.base,
            codec=delta.codec,
            encoder=delta.encoder,
            memory=delta.memory,
            sha256=delta.sha256,
            length=delta.length,
        )
        for delta in row.deltas.all()
    ]
    plain = {
        name: getattr(row, name)
        for name in ReleaseOut.model_fields
        if name not in {"deltas", "under_floor"}
    }
    return ReleaseOut(**plain, deltas=deltas, under_floor=row.seq < row.product.floor)


def _move_out(row: Move) -> MoveOut:
    return MoveOut(**{name: getattr(row, name) for name in MoveOut.model_fields})


def _role_out(row: Role) -> RoleOut:
    line = role_line(row, wired().clock.now())
    return RoleOut(
        role=row.role,
        version=row.version,
        expires=row.expires,
        threshold=row.threshold,
        keyids=list(row.keyids),
        standing=line.tone,
    )
