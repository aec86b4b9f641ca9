"""Which relays there are: those of the signed list, and those of the settings."""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from fleetward.config.console import KnownRelay
from fleetward.console.organisation.models import Site
from fleetward.console.relays.models import Listed, Relay
from fleetward.core.fleet import Relays


def name_of(url: str) -> str:
    """Return a relay as hosts name it in check-ins: host and port, no scheme, no password."""
    rest = url.partition("://")[2].rstrip("/")
    return rest.rpartition("@")[2]


def take_settings(known: Iterable[KnownRelay], now: datetime) -> None:
    """Make rows of the relays that the settings name."""
    _take({relay.url: relay.site for relay in known}, Listed.SETTINGS, now)


def take_signed(listed: Relays | None, now: datetime) -> None:
    """Make rows of the relays that the fleet's signed list names.

    Args:
        listed: from `trust.VerifiedView.relays`; None where none is signed.
        now: the console's clock.
    """
    urls: dict[str, str] = {}
    if listed is not None:
        urls |= dict.fromkeys(listed.default, "")
        urls |= {url: site.name for site in listed.sites for url in site.relays}
    _take(urls, Listed.SIGNED, now)


def _take(urls: dict[str, str], by: Listed, now: datetime) -> None:
    rows = {row.url: row for row in Relay.objects.all()}
    sites = {site.name: site.pk for site in Site.objects.all()}
    with transaction.atomic():
        for url, site in urls.items():
            row = rows.get(url) or Relay(url=url, name=name_of(url), added=now)
            wanted = sites.get(site)
            # The settings do not take a relay out of the signed list.
            is_settled = row.pk and by is Listed.SETTINGS and row.listed == Listed.SIGNED
            if is_settled or (row.pk and (row.listed, row.site_id) == (by, wanted)):
                continue
            row.listed, row.site_id = by, wanted
            row.save()
        gone = [row.pk for row in rows.values() if row.listed == by and row.url not in urls]
        Relay.objects.filter(pk__in=gone).update(listed=Listed.NOBODY)
