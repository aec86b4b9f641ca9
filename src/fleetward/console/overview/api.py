"""The API of the overview."""

from datetime import datetime

from ninja import Router, Schema

from fleetward.console.api.problems import answers
from fleetward.console.api.security import needs
from fleetward.console.overview.deciding import Freshness
from fleetward.console.overview.showing import figures, last_count, products
from fleetward.console.web.asking import Asked
from fleetward.console.wiring import wired

router = Router(tags=["overview"])


class StandingOut(Schema):
    """How many hosts stand alike with a product."""

    freshness: Freshness
    hosts: int


class RunningOut(Schema):
    """How many hosts run a release; the empty one is none."""

    release: str
    hosts: int
    current: bool


class PaceOut(Schema):
    """How far a release has come."""

    release: str
    created: datetime
    percent: float


class ProductShareOut(Schema):
    """A product in the fleet."""

    product: str
    hosts: int
    protected: int
    freshness: list[StandingOut]
    releases: list[RunningOut]
    paces: list[PaceOut]


class OverviewOut(Schema):
    """The fleet at the token's sites, as it was last counted."""

    counted: datetime | None
    hosts: int
    protected: int
    silent: int
    without_products: int
    products: list[ProductShareOut]


@router.get("/overview", auth=needs("overview.view"), response=answers(OverviewOut))
def show_overview(request: Asked) -> OverviewOut:
    """Show how well the fleet is protected."""
    reach = request.access.reach("overview.view")
    counted, hosts = last_count(), figures(reach)
    return OverviewOut(
        counted=counted.at if counted else None,
        hosts=hosts.hosts,
        protected=hosts.protected,
        silent=hosts.silent,
        without_products=hosts.bare,
        products=[
            ProductShareOut(
                product=each.name,
                hosts=each.hosts,
                protected=each.protected,
                freshness=[
                    StandingOut(freshness=Freshness(row.word), hosts=row.hosts)
                    for row in each.standings
                ],
                releases=[
                    RunningOut(release=row.release, hosts=row.hosts, current=row.is_current)
                    for row in each.releases
                ],
                paces=[
                    PaceOut(release=row.release, created=row.created, percent=row.percent)
                    for row in each.paces
                ],
            )
            for each in products(reach, wired().clock.now())
        ],
    )
