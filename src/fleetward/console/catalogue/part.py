"""What the catalogue adds to the console."""

from fleetward.console.catalogue import views
from fleetward.console.catalogue.api import products_router, repository_router, roles_router
from fleetward.console.catalogue.figures import figures
from fleetward.console.catalogue.working import work_for_ever
from fleetward.console.parts import Page, Panel, Part, Place

_SEE = {"GET": "products.view"}
_RELEASE = "products/<str:product>/<str:release>/"

PART = Part(
    name="catalogue",
    pages=(
        Page("products/", "products", views.products, _SEE),
        Page("products/<str:product>/", "product", views.product, _SEE),
        Page(_RELEASE, "release", views.release, _SEE),
        Page(f"{_RELEASE}changes/", "changes", views.changes, _SEE),
        Page(f"{_RELEASE}again/", "again", views.compare_again, {"POST": "products.view"}),
        Page("trust/", "trust", views.trust, _SEE),
        Page("panels/releases/", "releases-panel", views.releases_panel, _SEE),
        Page("panels/trust/", "trust-panel", views.trust_panel, _SEE),
    ),
    places=(
        Place(
            title="Products",
            route="catalogue:products",
            action="products.view",
            icon="products",
            order=40,
        ),
        Place(title="Trust", route="catalogue:trust", action="products.view", icon="key", order=45),
    ),
    panels=(
        Panel(
            title="New releases",
            route="catalogue:releases-panel",
            action="products.view",
            order=60,
            wide=True,
        ),
        Panel(title="Trust", route="catalogue:trust-panel", action="products.view", order=70),
    ),
    routers={
        "/products": products_router,
        "/repository": repository_router,
        "/roles": roles_router,
    },
    background=(work_for_ever,),
    metrics=figures,
)
