"""The channel and the host that somebody names."""

import re
from typing import Final

from django.db.models import QuerySet
from django.http import Http404

from fleetward.console.access import Reach
from fleetward.console.catalogue.models import Channel
from fleetward.console.fleet.models import Host
from fleetward.console.rollouts.showing import RolloutFilter, channels
from fleetward.console.web.reaching import within

HOST_CHARS: Final = 200
"""Characters of what names a host, at most."""

_RECORD: Final = re.compile(r"[0-9a-f]{16}")
_KEY: Final = re.compile(r"[0-9a-f]{64}")


def channel_named(product: str, channel: str) -> Channel:
    """Return a channel. Raises Http404: there is none."""
    if "\0" in product + channel:
        raise Http404
    row = channels(RolloutFilter()).filter(product__name=product, name=channel).first()
    if row is None:
        raise Http404(f"there is no channel {product}@{channel}")
    return row


def hosts_named(text: str, reach: Reach) -> QuerySet[Host]:
    """Return the hosts at the sites of `reach` that `text` names.

    By the id of the record, by the host's own id (as `fleetward agent status` says it), else by
    name, which several may have.
    """
    rows = within(Host.objects.select_related("site", "key__presence"), reach)
    if _RECORD.fullmatch(text) and rows.filter(record=text).exists():
        return rows.filter(record=text)
    if _KEY.fullmatch(text):
        return rows.filter(keys__key=text).distinct()
    name = text.replace("\0", "")[:HOST_CHARS]
    exact = rows.filter(name=name).order_by("pk")
    # The index knows names as they are written; else every host is looked at.
    return exact if exact.exists() else rows.filter(name__iexact=name).order_by("pk")
