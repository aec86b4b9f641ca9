"""The Audit page: search, and whether the chain holds."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import render

from fleetward.console.audit.chain import verify_log
from fleetward.console.audit.models import Entry
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.web.paging import cursor_in, slice_after

ROWS = 50
"""Entries on a page."""


def trail(request: AskedByPerson) -> HttpResponse:
    """List entries, the newest first, by what is searched for."""
    asked = {key: request.GET.get(key, "").strip() for key in _FILTERS}
    cursor = cursor_in(request.GET.get("after", ""))
    shown = slice_after(filtered(asked), cursor, ROWS, descending=True)
    words = {"shown": shown, "asked": asked, "is_filtered": any(asked.values())}
    words["query"] = urlencode({key: value for key, value in asked.items() if value})
    return render(request, "administration/trail.html", words)


_FILTERS = ("actor", "action", "subject", "since", "until")


def filtered(asked: dict[str, str]) -> QuerySet[Entry]:
    """Return the entries that fit.

    Args:
        asked: any of actor (exact), action (a beginning), subject (a part), since and until (days
            as YYYY-MM-DD, both included); empty or unreadable ones count as absent.
    """
    rows = Entry.objects.all()
    if asked.get("actor"):
        rows = rows.filter(actor=asked["actor"])
    if asked.get("action"):
        rows = rows.filter(action__startswith=asked["action"])
    if asked.get("subject"):
        rows = rows.filter(subject__icontains=asked["subject"])
    since, until = _day(asked.get("since", "")), _day(asked.get("until", ""))
    if since:
        rows = rows.filter(at__gte=since)
    if until:
        rows = rows.filter(at__lt=until + timedelta(days=1))
    return rows


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def verdict(request: AskedByPerson) -> HttpResponse:
    """Verify the whole chain now; a part of the page."""
    return render(request, "administration/verdict.html", {"verdict": verify_log()})
