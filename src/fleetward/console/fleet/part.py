"""What the fleet adds to the console."""

from fleetward.console.fleet import pages, token_pages
from fleetward.console.fleet.api import router
from fleetward.console.fleet.care import care_for_ever
from fleetward.console.parts import Page, Part, Place

PART = Part(
    name="fleet",
    pages=(
        Page("hosts/", "hosts", pages.hosts_page, {"GET": "hosts.view"}),
        Page("hosts.csv", "hosts-csv", pages.hosts_csv, {"GET": "hosts.view"}),
        Page("hosts/ask/", "direct", pages.direct_hosts, {"POST": "hosts.direct"}),
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
    routers={"": router},
    background=(care_for_ever,),
)
