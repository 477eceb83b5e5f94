"""The Python client over HTTP against a real service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from hermes.client import BadRequest, LeaseGone, PayloadTooLarge, RateLimited, Unauthorized, Unavailable
from hermes.client.http import HttpClient, LeasedMessage, connect_http
from tests.integration.broker.daemon import free_port
from tests.integration.program import Program, Start


class Operator:
    """Asks the admin address."""

    def __init__(self, program: Program, client: httpx.AsyncClient) -> None:
        self.program = program
        self._client = client

    async def send(self, method: str, path: str, body: object) -> None:
        (await self._client.request(method, path, json=body)).raise_for_status()

    async def until(self, path: str, found: Callable[[Any], Any]) -> Any:
        """Look at a path until there is something."""
        while True:
            answer = found((await self._client.get(path)).json())
            if answer:
                return answer
            await trio.sleep(0.1)


@asynccontextmanager
async def connected(start: Start, **settings: str) -> AsyncIterator[tuple[HttpClient, Operator]]:
    program = start(PARTS="broker", HERMESMQ_CLIENT_ADDR=f"127.0.0.1:{free_port()}", **settings)
    with trio.fail_after(50):
        async with connect_http(program.url) as client, httpx.AsyncClient(base_url=program.admin_url) as admin:
            yield client, Operator(program, admin)


async def test_its_calls_work(start: Start) -> None:
    async with connected(start) as (client, _):
        assert await client.produce("orders", {"n": 1.0}, key="ann") == 0
        assert await client.produce_many("orders", ["text", b"\0\xff"]) == [1, 2]
        later = await client.schedule("orders", "later", "1h")
        assert (await client.cancel("orders", later), await client.cancel("orders", later)) == (True, False)
        messages = await client.poll("orders", "billing")
        assert [(m.payload, m.content_type, m.attempt) for m in messages] == [
            (b'{"n":1.0}', 2, 1),
            (b"text", 1, 1),
            (b"\0\xff", 0, 1),
        ]
        assert await client.extend(*messages, visibility="1m") == [m.lease for m in messages]
        assert await client.forward(messages[0], "next", messages[0].json()) == 0
        with pytest.raises(LeaseGone):
            await client.forward(messages[0], "next", "again")
        await client.ack(messages[1])
        await client.nack(messages[2], delay="200ms", reason="busy")
        assert await client.poll("orders", "billing") == []
        (again,) = await client.poll("orders", "billing", wait_seconds=5)
        assert (again.offset, again.attempt) == (2, 2)
        assert [m["offset"] for m in await client.peek("next")] == [0]


async def test_its_errors_say_what_to_do(start: Start) -> None:
    async with connected(start, API_KEYS="k" * 20) as (client, operator):
        with pytest.raises(Unauthorized, match="API_KEYS"):
            await client.produce("t", "x")
        async with connect_http(operator.program.url, key="k" * 20) as keyed:
            with pytest.raises(PayloadTooLarge):
                await keyed.produce("t", "x" * (2**20 + 1))
            with pytest.raises(BadRequest, match="no duration"):
                await keyed.produce("t", "x", delay="soon")
            await operator.send("PUT", "/topics/t", {"rate": 0.1, "burst": 1})
            await keyed.produce_many("t", ["x", "y"])
            assert len(await keyed.poll("t", "g")) == 1
            with pytest.raises(RateLimited) as limited:
                await keyed.poll("t", "g")
            assert 5 < limited.value.retry_after <= 10
        operator.program.kill()
        with pytest.raises(Unavailable):
            await client.produce("t", "x")


async def test_a_slow_handler_keeps_its_message_and_one_that_fails_gets_it_again(start: Start) -> None:
    async with connected(start) as (client, operator):
        await operator.send("PUT", "/topics/t", {})
        await operator.send("PATCH", "/topics/t/groups/g", {"max_attempts": 2})
        await client.produce_many("t", ["slow", "fails once", "fails always"])
        seen: list[tuple[bytes, int]] = []
        running, most = 0, 0

        async def handle(message: LeasedMessage) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            seen.append((message.payload, message.attempt))
            try:
                # Five times the visibility.
                await trio.sleep(2.5 if message.payload == b"slow" else 0.05)
                if message.payload == b"fails always" or seen.count((b"fails once", 1)) == len(seen):
                    raise ValueError("no")
                if message.payload == b"fails once" and message.attempt == 1:
                    raise ValueError("not yet")
            finally:
                running -= 1

        async with trio.open_nursery() as nursery:

            async def consume() -> None:
                await client.consume("t", "g", handle, most=2, visibility_seconds=0.5, retry_delay="100ms")

            nursery.start_soon(consume)
            letters = await operator.until("/dead-letters", lambda found: found["letters"])
            await operator.until("/topics/t/groups/g", lambda found: found["group"]["lag"] == 0)
            nursery.cancel_scope.cancel()
        assert sorted(seen) == [
            (b"fails always", 1),
            (b"fails always", 2),
            (b"fails once", 1),
            (b"fails once", 2),
            (b"slow", 1),
        ]
        assert most == 2
        assert [letter["reason"] for letter in letters] == ["ValueError: no"]
