"""What the fleet adds to the console."""

from fleetward.console.fleet import asking_pages, pages, token_pages, view_pages
from fleetward.console.fleet.api import router
from fleetward.console.fleet.bulk_api import router as bulk_router
from fleetward.console.fleet.care import care_for_ever
from fleetward.console.parts import Page, Part, Place

PART = Part(
    name="fleet",
    pages=(
        Page("hosts/", "hosts", pages.hosts_page, {"GET": "hosts.view"}),
        Page("hosts.csv", "hosts-csv", pages.hosts_csv, {"GET": "hosts.view"}),
        Page("hosts/ask/", "direct", asking_pages.ask_hosts, {"POST": "hosts.direct"}),
        Page("hosts/ask/all/", "ask-all", asking_pages.ask_all, {"POST": "hosts.direct"}),
        Page("hosts/asked/", "acts", asking_pages.acts_page, {"GET": "hosts.view"}),
        Page("hosts/asked/<str:nonce>/", "act", asking_pages.act_page, {"GET": "hosts.view"}),
        Page("hosts/asked/<str:nonce>/on/", "act-on", asking_pages.go_on, {"POST": "hosts.direct"}),
        Page(
            "hosts/asked/<str:nonce>/back/",
            "act-back",
            asking_pages.take_back,
            {"POST": "hosts.direct"},
        ),
        Page("hosts/views/", "view-save", view_pages.save, {"POST": "hosts.view"}),
        Page("hosts/views/<int:pk>/", "view-remove", view_pages.remove, {"POST": "hosts.view"}),
        Page("hosts/<str:record>/", "host", pages.host_page, {"GET": "hosts.view"}),
        Page(
            "hosts/<str:record>/decide/<str:act>/", "decide", pages.decide, {"POST": "hosts.enrol"}
        ),
        Page("hosts/<str:record>/end/<str:act>/", "end", pages.end, {"POST": "hosts.revoke"}),
        Page(
            "settings/enrolment/",
            "tokens",
            token_pages.tokens_page,
            {"GET": "hosts.enrol", "POST": "hosts.enrol"},
        ),
        Page(
            "settings/enrolment/<str:token>/file/",
            "token-file",
            token_pages.download,
            {"POST": "hosts.enrol"},
        ),
        Page(
            "settings/enrolment/<str:token>/end/",
            "token-end",
            token_pages.end_token,
            {"POST": "hosts.enrol"},
        ),
    ),
    places=(
        Place(title="Hosts", route="fleet:hosts", action="hosts.view", icon="hosts", order=20),
        Place(
            title="Enrolment",
            route="fleet:tokens",
            action="hosts.enrol",
            order=45,
            below="Settings",
        ),
    ),
    routers={"": router, "/bulk-directives": bulk_router},
    background=(care_for_ever,),
)
