"""`[[passthrough]]`: a cache of an allow-listed HTTP upstream that Fleetward does not sign.

A ClamAV mirror, an apt repository, the content of a SEP manager (as a Group Update Provider served
it). Nothing of it is verified, and every answer says so. Clients find it

    /passthrough/NAME/PATH      always
    MOUNT/PATH                  where a mount is set: the same path under the upstream
    http://UPSTREAM/PATH        in absolute form, where proxy_requests is on

Rules: nothing outside the allow-list is ever asked (relay.passthrough_rules), and no address that
is not on the open Internet (relay.addresses). The upstream hears nothing of the client: no header
of the request is passed on; of the answer, only Content-Type, ETag and Last-Modified are, so that
no credential and no cookie crosses. Clients get 404 where the upstream says so, and 503 for every
other trouble: 403 and 429 put freshclam to sleep for a day. While the upstream fails, the last
known is served with a warning, up to `max_stale`: an outage must not look like a lost file.
"""

import asyncio
from datetime import timedelta
from typing import Final

from fleetward.config.relay import PassthroughSettings
from fleetward.errors import DiskError, NetworkError, NotFoundError
from fleetward.httpd.message import Answer, FileBody, Request, Response
from fleetward.relay.absent import AbsentNames
from fleetward.relay.addresses import CheckedResolver
from fleetward.relay.flights import Flights
from fleetward.relay.passthrough_answers import (
    UNVERIFIED,
    answer_described,
    answer_kept,
    answer_retrieved,
    client_max_age,
)
from fleetward.relay.passthrough_asking import asked, refusal
from fleetward.relay.passthrough_file import Kept, Version
from fleetward.relay.passthrough_fill import Outcome, Retrieval
from fleetward.relay.passthrough_ground import PassthroughGround, RefusedError
from fleetward.relay.passthrough_rules import Wanted
from fleetward.relay.passthrough_versions import described

_NO_HEAD: Final = frozenset({405, 501})
"""What servers answer that know no HEAD: then the file itself is asked for."""


class Passthrough:
    """One upstream and its cache.

    Attributes:
        settings: as the operator wrote them.
        ground: what its questions share.
        resolver: says where the upstream's name leads.
    """

    def __init__(
        self, settings: PassthroughSettings, ground: PassthroughGround, resolver: CheckedResolver
    ) -> None:
        self.settings = settings
        self.ground = ground
        self.resolver = resolver
        self._limits = ground.limits
        self._flights: Flights[str, None] = Flights()
        self._looks: Flights[str, Version | None] = Flights()
        self._retrievals: dict[str, Retrieval] = {}
        lifetime, most = self._limits.absent_lifetime, self._limits.max_absent
        self._absent = AbsentNames(lifetime, most)
        self._refused = AbsentNames(lifetime, most)
        self._failures = 0
        self._paused_until = ground.clock.monotonic()
        retry = ("Retry-After", str(self._limits.retry_after))
        no_store = ("Cache-Control", "no-store")
        self._unavailable = Response(503, (retry, no_store, UNVERIFIED))
        self._not_found = Response(404, (no_store, UNVERIFIED))

    # -- answering ---------------------------------------------------------------------------------

    def answer(self, request: Request, path: str) -> Answer:
        """Return the answer to GET or HEAD.

        Args:
            request: what the client asks.
            path: under the upstream's base.
        """
        counters = self.ground.counters
        counters.requests += 1
        wanted = self.ground.rules.wanted(path, request.query)
        if wanted is None:
            return self._not_found
        kept = self.ground.store.find(wanted.key)
        if kept is not None and self._is_fresh(request, wanted, kept):
            answer = self._from_kept(request, kept)
            if answer is not None:
                counters.hits += 1
                return answer
            kept = None  # somebody removed the file
        if self._absent.knows(wanted.key):
            return self._not_found
        return self._ask(request, wanted, kept)

    def _is_fresh(self, request: Request, wanted: Wanted, kept: Kept) -> bool:
        if self.ground.rules.is_immutable(wanted):
            return True
        lifetime = self.settings.revalidate.total_seconds()
        wish = client_max_age(request)
        if wish is not None:
            lifetime = min(lifetime, max(wish, self._limits.min_revalidate.total_seconds()))
        return 0 <= self.ground.now() - kept.checked < lifetime

    def _ask(self, request: Request, wanted: Wanted, kept: Kept | None) -> Answer:
        retrieval = self._retrievals.get(wanted.key)
        if retrieval is not None:
            self.ground.counters.coalesced += 1
        elif not self._may_ask(wanted):
            return self._fail(request, kept)
        elif request.method == "HEAD" and kept is None:
            return self._look(request, wanted)
        else:
            retrieval = self._begin(wanted, kept)
        return self._wait(request, wanted, kept, retrieval)

    async def _look(self, request: Request, wanted: Wanted) -> Response:
        """Answer HEAD of a file that is not here with the upstream's word, without fetching it."""
        looks = self._looks
        look = looks.join(wanted.key, lambda: self._look_upstream(wanted))
        version = await asyncio.shield(look)
        if version is None:
            is_absent = self._absent.knows(wanted.key)
            return self._not_found if is_absent else self._fail(request, None)
        answer = answer_described(request, version)
        if answer is not None:
            return answer
        retrieval = self._retrievals.get(wanted.key) or self._begin(wanted, None)
        return await self._wait(request, wanted, None, retrieval)

    async def _look_upstream(self, wanted: Wanted) -> Version | None:
        try:
            async with asked(self.ground, wanted, method="HEAD") as response:
                if response.status in _NO_HEAD:
                    return Version(target=wanted.target, tag="")
                if response.status != 200:
                    raise refusal(self.ground, response)
                return described(response, wanted.target, self.ground.now())
        except NetworkError as error:
            self._judge(wanted, error)
            return None

    def _may_ask(self, wanted: Wanted) -> bool:
        is_known_as_refused = self._refused.knows(wanted.key)
        has_room = self.asking < self._limits.max_fills
        return has_room and not is_known_as_refused and not self.is_paused

    def _begin(self, wanted: Wanted, kept: Kept | None) -> Retrieval:
        retrieval = Retrieval(wanted, kept, self.ground)
        self._retrievals[wanted.key] = retrieval
        self._flights.join(wanted.key, lambda: self._run(retrieval))
        return retrieval

    async def _run(self, retrieval: Retrieval) -> None:
        try:
            await retrieval.run()
        finally:
            del self._retrievals[retrieval.wanted.key]
            self._judge(retrieval.wanted, retrieval.failure)

    def _judge(self, wanted: Wanted, failure: NetworkError | DiskError | None) -> None:
        """Remember what the end of a question says of the file and of the upstream."""
        if failure is None:
            self._failures = 0
        elif isinstance(failure, NotFoundError):
            self._failures = 0
            self.ground.store.remove(wanted.key)
            self._absent.note(wanted.key)
        else:
            self._judge_trouble(wanted, failure)

    def _judge_trouble(self, wanted: Wanted, failure: NetworkError | DiskError) -> None:
        self.ground.counters.failures += 1
        if not isinstance(failure, RefusedError):
            self._pause(0)  # the network's trouble, or the disk's: the WAN is not for the bin
            return
        self._refused.note(wanted.key)
        if failure.is_of_upstream:
            self._pause(failure.pause)

    def _pause(self, told: int) -> None:
        limits = self._limits
        pause = min(limits.failure_pause * 2 ** min(self._failures, 16), limits.max_failure_pause)
        self._failures += 1
        wish = min(timedelta(seconds=told), limits.max_retry_after)
        self._paused_until = self.ground.clock.monotonic() + max(pause, wish)

    async def _wait(
        self, request: Request, wanted: Wanted, kept: Kept | None, retrieval: Retrieval
    ) -> Response:
        with retrieval.held():
            try:
                patience = self._limits.patience.total_seconds() if kept is not None else None
                async with asyncio.timeout(patience):
                    await retrieval.known()
            except TimeoutError:
                return self._fail(request, kept)
            if retrieval.outcome is Outcome.ABSENT:
                return self._not_found
            if retrieval.outcome is Outcome.CONFIRMED:
                confirmed = self.ground.store.find(wanted.key)
                answer = self._from_kept(request, confirmed) if confirmed else None
                return answer or self._fail(request, None)
            if retrieval.is_let_go:
                return await self._wait_again(request, wanted)
            answer = answer_retrieved(request, retrieval)
        return self._fail(request, kept) if answer is None else self._counted(request, answer)

    async def _wait_again(self, request: Request, wanted: Wanted) -> Response:
        """Answer where the content had come and gone before the client's turn to wait for it."""
        kept = self.ground.store.find(wanted.key)
        answer = self._from_kept(request, kept) if kept is not None else None
        if answer is not None:
            return answer
        retrieval = self._retrievals.get(wanted.key) or self._begin(wanted, None)
        return await self._wait(request, wanted, None, retrieval)

    def _from_kept(
        self, request: Request, kept: Kept, *, is_stale: bool = False
    ) -> Response | None:
        descriptor = self.ground.store.open(kept)
        if descriptor is None:
            return None
        answer = answer_kept(request, kept, descriptor, self.ground.now(), is_stale=is_stale)
        return self._counted(request, answer)

    def _fail(self, request: Request, kept: Kept | None) -> Response:
        """Answer with what was known last, where it is not too old; else 503."""
        max_age = self.settings.max_stale.total_seconds()
        if kept is not None and self.ground.now() - kept.checked <= max_age:
            answer = self._from_kept(request, kept, is_stale=True)
            if answer is not None:
                self.ground.counters.stale += 1
                return answer
        self.ground.counters.unavailable += 1
        return self._unavailable

    def _counted(self, request: Request, response: Response) -> Response:
        if request.method == "GET" and isinstance(response.body, FileBody):
            self.ground.counters.unverified_bytes += response.body.length
        return response

    # -- life --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Count what earlier runs left, then wait until cancelled, and end what is under way."""
        store = self.ground.store
        try:
            store.adopt(await asyncio.to_thread(store.load_all))
            await asyncio.Event().wait()
        finally:
            await self._flights.cancel()
            await self._looks.cancel()
            self.ground.client.close()

    @property
    def is_paused(self) -> bool:
        """Return whether the upstream is left alone just now."""
        return self.ground.clock.monotonic() < self._paused_until

    @property
    def asking(self) -> int:
        """Return how many questions are under way."""
        return len(self._retrievals) + len(self._looks)
