"""The state that the data routes of all parts share in both lanes: keys, room, decoding, counts.

Invariant: a service has one `Ingress`, made before its parts are opened, because the parts make their routes with it.
"""

from __future__ import annotations

import trio

from hermes.base.repeated_event import RepeatedEvent
from hermes.net.http.access import Access
from hermes.net.http.lane import BodyBudget, make_request_ids
from hermes.net.http.rejected_feed import RejectedFeed
from hermes.net.http.request_metrics import RequestMetrics
from hermes.net.http.work import Workshop
from hermes.net.settings import AccessSettings, HttpSettings

# After some milliseconds of a large request the other tasks get so many turns, of up to 2 ms each.
_TURNS_OF_OTHERS = 3
_TIMES_ITS_BODY = 6
"""Memory of the largest request while it is decoded, in bodies: as sent, decompressed, in pieces, and as events."""


class Ingress:
    """The shared state of the data routes. `decode_large` has to run while they are served.

    ``access`` has the keys, ``budget`` bounds the bodies that are held, ``workshop`` decodes large bodies in turns,
    ``requests`` counts, ``rejected_feed`` has the latest rejected events, and ``new_request_id()`` makes an id that no
    other request has.

    Raises `ConfigError` for a certificate that cannot be used.
    """

    def __init__(self, http: HttpSettings, access: AccessSettings) -> None:
        self.access = Access(access)
        self.requests = RequestMetrics()
        self.rejected_feed = RejectedFeed()
        largest = _TIMES_ITS_BODY * http.max_body_bytes
        # Twice the largest, so that the share of the keyless clients is never the whole.
        self.budget = BodyBudget(max(http.queue_bytes, 2 * largest), largest)
        # Made here and not by the edge: the parts make their routes with the workshop, before an edge is open.
        self._large_came = RepeatedEvent()
        self.workshop = Workshop(self.budget, self._large_came.set)
        self.new_request_id = make_request_ids()

    async def decode_large(self) -> None:
        """Decode the large requests of both lanes, a piece at a time, until cancelled."""
        while True:
            if self.workshop.turn():
                # At each checkpoint the loop looks at every socket and timer.
                for _ in range(_TURNS_OF_OTHERS):
                    await trio.lowlevel.checkpoint()
            else:
                await self._large_came.wait()
