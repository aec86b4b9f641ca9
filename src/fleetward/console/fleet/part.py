"""What the fleet adds to the console."""

from collections.abc import MutableMapping
from typing import Any

from fleetward.console.fleet import pages, token_pages
from fleetward.console.fleet.api import router
from fleetward.console.fleet.care import care_for_ever
from fleetward.console.ingest.wiring import ingest
from fleetward.console.parts import AsgiApplication, Page, Part, Place


def _ingest() -> AsgiApplication:
    async def serve(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI's callables)
        await ingest()(scope, receive, send)

    return serve


def _metrics() -> str:
    return ingest().metrics() if ingest.cache_info().currsize else ""


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
    mounts=dict.fromkeys(("/v1/checkins", "/v1/inbox", "/v1/enroll"), _ingest),
    background=(care_for_ever,),
    metrics=_metrics,
)
