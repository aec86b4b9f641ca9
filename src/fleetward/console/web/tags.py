"""Tags that every template has: icons, tabs, times."""

import json
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from fleetward.console.web.frame import Link, tabs
from fleetward.console.web.middleware import POLL
from fleetward.console.wiring import wired

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """Return a decorative symbol of static/icons.svg, which readers aloud skip."""
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        static("icons.svg"),
        name,
    )


@register.simple_tag(takes_context=True)
def tabs_of(context: dict[str, Any], title: str) -> list[Link]:
    """Return the tabs below an entry of the navigation."""
    return tabs(context["request"], title)


@register.simple_tag(takes_context=True)
def may(context: dict[str, Any], action: str) -> bool:
    """Return whether whoever looks may do an action: `{% may "users.manage" as manages %}`."""
    return bool(context["request"].access.may(action))


@register.simple_tag
def live(url: str, seconds: int = 10) -> SafeString:
    """Return attributes that make an element fetch itself anew: `<section {% live url 10 %}>`."""
    return format_html(
        'hx-get="{}" hx-trigger="every {}s" hx-swap="outerHTML" hx-headers=\'{{"{}": "1"}}\'',
        url,
        seconds,
        POLL,
    )


@register.simple_tag
def live_from_load(url: str, seconds: int = 30) -> SafeString:
    """Return attributes that fill an element once the page is there, and again and again."""
    return format_html(
        'hx-get="{}" hx-trigger="load, every {}s" hx-headers=\'{{"{}": "1"}}\'',
        url,
        seconds,
        POLL,
    )


@register.filter
def instant(moment: datetime | None) -> SafeString:
    """Return a time element: how long ago, with the exact instant when pointed at."""
    if moment is None:
        return format_html('<span class="dim">{}</span>', "never")
    exact = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(),
        exact,
        distance(moment, wired().clock.now()),
    )


@register.filter
def coded(text: str) -> SafeString:
    """Return a sentence whose commands stand between backticks, with these as code."""
    parts = ((part,) for part in text.split("`"))
    plain, code = "{}", "<code>{}</code>"
    return mark_safe(  # noqa: S308 (format_html has escaped every part)
        "".join(
            format_html(code if place % 2 else plain, *part) for place, part in enumerate(parts)
        )
    )


@register.filter
def duration(span: timedelta) -> str:
    """Return a duration in its largest whole unit: `30 minutes`."""
    seconds = int(span.total_seconds())
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size and seconds % size == 0:
            count = seconds // size
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"


@register.filter
def pretty(document: str) -> str:
    """Return JSON text indented for reading; other text as it is."""
    try:
        return json.dumps(json.loads(document), indent=2, ensure_ascii=False)
    except ValueError:
        return document


_STEPS = (
    (timedelta(days=1), "d"),
    (timedelta(hours=1), "h"),
    (timedelta(minutes=1), "min"),
    (timedelta(seconds=1), "s"),
)


def distance(moment: datetime, now: datetime) -> str:
    """Return how far `moment` lies from `now`, in its largest unit: `3 h ago`, `in 5 d`."""
    gap = abs(now - moment)
    for step, unit in _STEPS:
        if gap >= step:
            words = f"{gap // step} {unit}"
            return f"{words} ago" if moment <= now else f"in {words}"
    return "now"
