"""The simulated clients: they post events over the simulated network, and try again what failed, with the same ids.

A client has a queue of requests and one connection at a time; it may pipeline, send slowly, be cut off, or lose its
power in the middle of a request. Invariant: the oracle hears of every attempt before its first byte is sent, and of
every answer. The run starts one task a client; all end by themselves, for each request has so many attempts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from random import Random

import trio

from tests.http_client import Answer, Client
from tests.simulation.network import Network, SimulatedStream
from tests.simulation.oracle import Oracle
from tests.simulation.plan import MOST_EVENTS, ClientPlan
from tests.simulation.requests import Request, Sent, make_event, make_request
from tests.simulation.trace import Trace

_GONE = (EOFError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
_ACKS = (None, "accepted", "durable", "delivered")
_LONGEST_PAUSE = 2.0


class SimulatedClient:
    """One client at work."""

    def __init__(self, plan: ClientPlan, chance: Random, network: Network, oracle: Oracle, trace: Trace) -> None:
        self._plan = plan
        self._chance = chance
        self._network = network
        self._oracle = oracle
        self._trace = trace
        self._made: list[Sent] = []
        self._todo: deque[Request] = deque()

    async def run(self) -> None:
        """Make all the requests of the plan, and send each until it is answered for good or given up."""
        await trio.sleep(self._plan.start)
        left = self._plan.requests
        connection: Client | None = None
        while left or self._todo:
            while left and len(self._todo) < self._plan.pipelined:
                self._todo.append(self._make_request(left))
                left -= 1
            if connection is None:
                connection = await self._connect()
            if connection is not None and not await self._exchange(connection):
                connection = None
            await trio.sleep(self._chance.uniform(0, 2 * self._plan.pause) if connection else self._chance.random())
        if connection is not None:
            await connection.stream.aclose()

    def _make_request(self, number: int) -> Request:
        chance, plan = self._chance, self._plan
        events = []
        for place in range(1 if chance.random() < 0.5 else chance.randint(1, MOST_EVENTS)):
            if self._made and chance.random() < 0.05:
                events.append(chance.choice(self._made))
            else:
                events.append(make_event(chance, f"{plan.number}-{number}-{place}"))
        self._made += events
        ack = chance.choice(_ACKS) if plan.ack == "mixed" else plan.ack
        request = make_request(chance, f"r{plan.number}-{number}", events, ack, plain=plan.plain)
        self._oracle.issue(request)
        return request

    async def _connect(self) -> Client | None:
        weather = self._plan.weather
        if self._chance.random() < self._plan.cut:
            weather = replace(weather, cut_after=self._chance.randint(1, 3000))
        try:
            return Client(await self._network.connect(weather), self._plan.patience)
        except OSError:
            for request in self._todo:
                request.attempts += 1
            self._give_up()
            return None

    async def _exchange(self, client: Client) -> bool:
        """Send what is to be sent at once, and read the answers. False: the connection is over."""
        stream = client.stream
        assert isinstance(stream, SimulatedStream)
        requests = list(self._todo)[: self._plan.pipelined]
        pause = 0.0
        try:
            for request in requests:
                self._oracle.attempt(request)
                request.attempts += 1
                if not await self._send(client, stream, request):
                    return False
            if self._chance.random() < self._plan.half_closes:
                await stream.send_eof()
            for request in requests:
                answer = await client.answer()
                self._trace.note("answer", request.name, answer.status)
                pause = max(pause, self._take(request, answer, stream.life))
                if answer.headers.get("connection") == "close":
                    await stream.aclose()
                    return False
        except _GONE as error:
            self._trace.note("gone", self._plan.number, type(error).__name__)
            with trio.move_on_after(self._plan.patience):
                await stream.aclose()
            return False
        finally:
            self._give_up()
        if pause:
            await trio.sleep(pause)
        return True

    async def _send(self, client: Client, stream: SimulatedStream, request: Request) -> bool:
        chance, data = self._chance, request.data
        if chance.random() < self._plan.vanishes:
            await client.send(data[: chance.randint(1, len(data))])
            stream.vanish()
            self._trace.note("vanished", self._plan.number)
            return False
        if chance.random() < self._plan.slow:
            cut = chance.randint(1, len(data) - 1)
            await client.send(data[:cut])
            await trio.sleep(chance.choice((0.1, 1.0, 4.0)))
            data = data[cut:]
        await client.send(data)
        return True

    def _take(self, request: Request, answer: Answer, life: int) -> float:
        """Note an answer. Returns how long to wait before more is sent."""
        if self._oracle.answer(request, answer, life):
            self._todo.remove(request)
            return 0.0
        wish = float(answer.headers.get("retry-after", "0"))
        return min(_LONGEST_PAUSE, wish) * self._chance.uniform(0.1, 1)

    def _give_up(self) -> None:
        """What has had all its attempts is not tried again."""
        self._todo = deque(request for request in self._todo if request.attempts < self._plan.attempts)
