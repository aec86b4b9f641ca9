"""Asking hosts to do something: the ticked ones, or all that fit; confirmed, and seen to its end."""

from datetime import timedelta
from typing import Final

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse

from fleetward.console.fleet.asks import KINDS, MEANS
from fleetward.console.fleet.bulk import (
    CAREFUL,
    Order,
    ask,
    crowd_of,
    draw_nonce,
    progress,
    withdraw_all,
)
from fleetward.console.fleet.directives import MAX_HOSTS, Wish, direct, end_of
from fleetward.console.fleet.models import BulkDirective, Directive, Host
from fleetward.console.fleet.pages import filter_in, line, query_of, to_page
from fleetward.console.fleet.queries import hosts
from fleetward.console.fleet.standings import DirectiveState
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.web.paging import cursor_in, slice_after
from fleetward.console.web.reaching import within
from fleetward.console.wiring import wired
from fleetward.core.inbox import DirectiveKind
from fleetward.errors import UsageError

ROWS: Final = 50


def ask_hosts(request: AskedByPerson) -> HttpResponse:
    """Ask one host or the ticked ones; put the question about all that fit."""
    try:
        wish = _wish(request.POST)
        end_of(wish, wired().clock.now())
        if request.POST.get("whom") == "fit":
            return _question(request, wish)
        return _ask_ticked(request, wish)
    except (UsageError, ValueError) as error:
        messages.error(request, f"Nothing was asked of any host: {error}.")
        return _back(request)


def _wish(said: QueryDict) -> Wish:
    kind = DirectiveKind(said.get("kind", ""))
    minutes = _number(said.get("minutes", "") or "60", "a pause is so many minutes long")
    pause = timedelta(minutes=minutes) if kind is DirectiveKind.PAUSE else None
    return Wish(kind=kind, product=line(said.get("product", "")), pause=pause)


def _number(said: str, advice: str) -> int:
    """Return a number that was typed, perhaps as 50,000. Raises UsageError: it is none."""
    digits = said.replace(",", "").replace(" ", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 9):
        raise UsageError(advice)
    return int(digits)


def _ask_ticked(request: AskedByPerson, wish: Wish) -> HttpResponse:
    reach = request.access.reach("hosts.direct")
    records = [line(record) for record in request.POST.getlist("record")][:ROWS]
    chosen = within(Host.objects.filter(record__in=records), reach)
    if len(records) > CAREFUL and wish.kind in (DirectiveKind.PAUSE, DirectiveKind.ROLL_BACK):
        raise UsageError(f"tick {CAREFUL} hosts at most for this, or filter and agree by number")
    found = list(chosen[:ROWS])
    if len(found) > 1:
        order = Order(
            wish=wish,
            nonce=request.POST.get("nonce", ""),
            most=len(found),
            records=tuple(host.record for host in found),
        )
        with transaction.atomic():  # whole or not at all: its filter could not tell who is left
            return _to_act(ask(request.actor, chosen, order))
    made = direct(request.actor, found, wish) if found else []
    say = messages.success if made else messages.warning
    say(request, f"Asked {len(made)} host{'' if len(made) == 1 else 's'}.")
    return to_page(found[0]) if len(records) == 1 and found else _back(request)


def _question(request: AskedByPerson, wish: Wish) -> HttpResponse:
    """Show whom it is about and what it means, before anything is asked."""
    wanted = filter_in(QueryDict(request.POST.get("query", "")[:2000]))
    chosen = hosts(request.access.reach("hosts.direct"), wanted, wired().clock.now())
    crowd = crowd_of(chosen)
    if not crowd.active:
        raise UsageError("no active host fits")
    if crowd.active > MAX_HOSTS:
        raise UsageError(f"a directive goes to {MAX_HOSTS} hosts at most")
    words = {
        "wish": wish,
        "minutes": int(wish.pause.total_seconds() // 60) if wish.pause else 0,
        "title": dict(KINDS)[wish.kind],
        "means": MEANS[wish.kind],
        "crowd": crowd,
        "is_careful": crowd.active > CAREFUL,
        "query": query_of(wanted),
        "nonce": draw_nonce(),
    }
    return render(request, "fleet/ask.html", words)


def ask_all(request: AskedByPerson) -> HttpResponse:
    """Ask all hosts that fit, as was agreed to."""
    wanted = filter_in(QueryDict(request.POST.get("query", "")[:2000]))
    chosen = hosts(request.access.reach("hosts.direct"), wanted, wired().clock.now())
    try:
        order = Order(
            wish=_wish(request.POST),
            nonce=request.POST.get("nonce", ""),
            most=_number(request.POST.get("most", ""), "type the number of hosts to agree"),
            query=query_of(wanted),
        )
        return _to_act(ask(request.actor, chosen, order))
    except (UsageError, ValueError) as error:
        messages.error(request, f"Nothing was asked of any host: {error}.")
        return _back(request)


def _back(request: AskedByPerson) -> HttpResponse:
    query = query_of(filter_in(QueryDict(request.POST.get("query", "")[:2000])))
    return HttpResponseRedirect(f"{reverse('fleet:hosts')}{'?' if query else ''}{query}")


def _to_act(act: BulkDirective) -> HttpResponse:
    return HttpResponseRedirect(reverse("fleet:act", args=[act.nonce]))


# -- what became of it -------------------------------------------------------------------------------


def acts_page(request: AskedByPerson) -> HttpResponse:
    """List what was asked of many hosts, the newest first."""
    reach = request.access.reach("hosts.view")
    cursor = cursor_in(request.GET.get("after", ""))
    found = slice_after(BulkDirective.objects.all(), cursor, ROWS, descending=True)
    rows = [{"act": act, **_shares(act, progress(act, reach))} for act in found.rows]
    words = {"rows": rows, "after": found.after, "titles": dict(KINDS)}
    return render(request, "fleet/acts.html", words)


def act_page(request: AskedByPerson, nonce: str) -> HttpResponse:
    """Show how far an act has come; htmx gets what changes by itself alone."""
    act = _act(nonce)
    reach = request.access.reach("hosts.view")
    if not (reach.every or act.created_by == request.actor.name[:200]):
        act.query = act.created_by = ""  # they may name what another site is called
    rows = within(Directive.objects.filter(bulk=act).select_related("host"), reach, "host__site_id")
    states = progress(act, reach)
    wanted = request.GET.get("state", "")
    if wanted in set(DirectiveState):
        rows = rows.filter(state=wanted)
    found = slice_after(rows, cursor_in(request.GET.get("after", "")), ROWS)
    words = {
        "act": act,
        "title": dict(KINDS).get(DirectiveKind(act.kind), act.kind),
        "states": states.items(),
        "wanted": wanted,
        "found": found,
        "here": request.get_full_path(),
        **_shares(act, states),
    }
    part = "fleet/act_live.html" if request.htmx else "fleet/act.html"
    return render(request, part, words)


def _shares(act: BulkDirective, states: dict[DirectiveState, int]) -> dict[str, object]:
    """Return how many have answered, wait, and will not answer."""
    done, refused = states[DirectiveState.DONE], states[DirectiveState.REFUSED]
    waits = states[DirectiveState.QUEUED] + states[DirectiveState.CARRIED]
    return {
        "seen": sum(states.values()),
        "done": done,
        "refused": refused,
        "waits": waits,
        "lost": states[DirectiveState.EXPIRED] + states[DirectiveState.WITHDRAWN],
        "title_of": dict(KINDS).get(DirectiveKind(act.kind), act.kind),
    }


def go_on(request: AskedByPerson, nonce: str) -> HttpResponse:
    """Ask the rest of an act that was cut off."""
    act = _act(nonce)
    pause = act.until - act.created if act.until else None
    chosen = hosts(
        request.access.reach("hosts.direct"),
        filter_in(QueryDict(act.query)),
        wired().clock.now(),
    )
    try:
        wish = Wish(kind=DirectiveKind(act.kind), product=act.product, pause=pause)
        ask(request.actor, chosen, Order(wish=wish, nonce=nonce, most=act.most, query=act.query))
    except (UsageError, ValueError) as error:
        messages.error(request, f"It cannot go on: {error}.")
    return _to_act(act)


def take_back(request: AskedByPerson, nonce: str) -> HttpResponse:
    """Withdraw what no host has answered."""
    act = _act(nonce)
    taken = withdraw_all(request.actor, act, request.access.reach("hosts.direct"))
    messages.success(request, f"Taken back from {taken:,} host{'' if taken == 1 else 's'}.")
    return _to_act(act)


def _act(nonce: str) -> BulkDirective:
    act = BulkDirective.objects.filter(nonce=line(nonce)).first()
    if act is None:
        raise Http404("nothing was asked under this name")
    return act
