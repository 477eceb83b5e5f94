"""Clients that post without end and note every answer: a crowd that does not mind when the service dies.

Invariant: whatever ends a connection, its request is noted as unanswered; requests that were not taken, or not
answered, are sent again, with the same ids, now or to the next process. Used by the tests of durability.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import httpx
import trio

from tests.http_client import Client, post
from tests.integration.owed import Owed, Request

PATIENCE = 30.0
LOOK_SECONDS = 0.02


class Crowd:
    """Clients over one `Owed`. ``sizes`` are the events a request may have; ``codes`` counts the answers."""

    def __init__(
        self,
        owed: Owed,
        *,
        sizes: Sequence[int] = (1, 20),
        acks: Sequence[str | None] = (None,),
        filling: int = 0,
        pause: float = 0.0,
        again: float = 1.0,
    ) -> None:
        self.owed = owed
        self.sizes = sizes
        self.acks = acks
        self.filling = filling
        self.pause = pause
        self.again = again
        """The share of requests that are sent again when they were refused, or got no answer."""
        self.codes: Counter[int] = Counter()
        self.longest = 0.0
        """Seconds that the slowest answer took."""
        self.last_refusal = ""
        """What the last 503 said."""
        self._left: deque[Request] = deque()

    async def post(
        self, url: str, clients: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Post until cancelled, or until the service is gone."""
        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(self._post, httpx.URL(url))
            task_status.started()

    async def wait_taken(self, requests: int) -> None:
        """Return when as many requests more have been answered with 202."""
        await self._wait(202, requests)

    async def wait_refused(self, requests: int) -> None:
        """Return when as many requests more have been answered with 503."""
        await self._wait(503, requests)

    async def _wait(self, status: int, requests: int) -> None:
        enough = self.codes[status] + requests
        with trio.fail_after(PATIENCE):
            while self.codes[status] < enough:  # noqa: ASYNC110 - nobody else waits for it
                await trio.sleep(LOOK_SECONDS)

    async def _post(self, url: httpx.URL) -> None:
        assert url.port
        try:
            stream = await trio.open_tcp_stream(url.host, url.port)
        except OSError:
            return
        async with stream:
            client = Client(stream, PATIENCE)
            goes_on = True
            while goes_on:
                goes_on = await self._ask(client, self._next())
                await trio.sleep(self.pause)

    async def _ask(self, client: Client, request: Request) -> bool:
        """Send a request and note what comes of it. False: the connection has ended."""
        lines = [b"Content-Type: application/x-ndjson"]
        if request.ack is not None:
            lines.append(b"Hermes-Ack: " + request.ack.encode())
        began = trio.current_time()
        answered = False
        try:
            answer = await client.ask(post(request.body, *lines))
            answered = True
        except (EOFError, trio.BrokenResourceError):
            return False
        finally:
            if not answered:
                request.note_silence()
                self._leave(request)
        self.longest = max(self.longest, trio.current_time() - began)
        self.codes[answer.status] += 1
        request.note(answer.status, answer.json)
        if answer.status == 503:
            self.last_refusal = answer.json["detail"]
            assert 1 <= int(answer.headers["retry-after"]) <= 30
            self._leave(request)
        return answer.headers.get("connection") != "close"

    def _next(self) -> Request:
        random = self.owed.random
        if self._left and random.random() < 0.5:
            return self._left.popleft()
        return self.owed.request(random.choice(self.sizes), ack=random.choice(self.acks), filling=self.filling)

    def _leave(self, request: Request) -> None:
        if self.owed.random.random() < self.again:
            self._left.append(request)
