"""The broker's client over HTTP: what its protocol on TCP lacks, such as delays, keys, longer leases and attempts.

::

    async with connect_http("http://127.0.0.1:8080") as client:
        await client.produce("orders", {"id": 1}, key="ann", delay="90s")
        await client.consume("orders", "billing", handler)

Invariants: a call ends with its result or with a `hermes.client.BrokerError`; a message whose handler runs keeps its
lease, however long the handler takes.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import trio

from hermes.client.errors import (
    BadRequest,
    BrokerError,
    LeaseGone,
    PayloadTooLarge,
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
)
from hermes.client.message import JSON, RAW, TEXT, encode_payload

# A long poll of `consume`: proxies mostly let a request wait for half a minute at least.
_WAIT_SECONDS = 20
_ANSWER_SECONDS = 10.0
_ATTEMPTS = 3
_PAUSE_SECONDS = 0.1
_AWAY_SECONDS = 1.0
# Of the visibility: two extensions may be lost before a lease ends.
_EXTENSIONS = 3


class LeasedMessage(msgspec.Struct, frozen=True):
    """A polled message. ``attempt`` counts its deliveries, from 1; ``time_ms`` is when it entered the topic."""

    topic: str
    group: str
    lease: int
    offset: int
    priority: int
    attempt: int
    time_ms: int
    payload: bytes
    content_type: int

    def json(self) -> Any:
        """Return the payload decoded from JSON."""
        return msgspec.json.decode(self.payload)


class _Item(msgspec.Struct):
    """A message in an answer. Raw: the payload keeps the producer's own bytes."""

    lease: int
    offset: int
    priority: int
    attempt: int
    time_ms: int
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    base64: bytes = b""


class _Polled(msgspec.Struct):
    messages: list[_Item]


Handler = Callable[[LeasedMessage], Awaitable[object]]


class HttpClient:
    """The calls. `connect_http` makes one; its methods may be called from many tasks at once.

    Durations are texts with a unit: ``"250ms"``, ``"90s"``, ``"2h"``.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def produce(self, topic: str, value: object, **options: Any) -> int | None:
        """Store a message; return its offset, or None if it enters its topic later.

        ``value`` is bytes, text, or anything that becomes JSON. Options: ``key``, ``delay``, ``priority``,
        ``producer_id`` with ``seq``.
        """
        found = await self._post(f"{_path(topic)}/messages", _new_message(value, options))
        return found.get("offset")

    async def schedule(self, topic: str, value: object, delay: str, **options: Any) -> int:
        """Store a message that enters its topic after ``delay``; return the id by which `cancel` knows it."""
        found = await self._post(f"{_path(topic)}/messages", _new_message(value, {**options, "delay": delay}))
        if "id" not in found:
            raise Rejected("a message with this producer_id and seq is in the topic already")
        return int(found["id"])

    async def produce_many(self, topic: str, values: Iterable[object], **options: Any) -> list[int | None]:
        """Store messages with the same options, in one commit if they fit; return the offset of each."""
        body = [_new_message(value, options) for value in values]
        if not body:
            return []
        found = await self._post(f"{_path(topic)}/messages", body)
        for each in found["stored"]:
            if "refused" in each:
                raise Rejected(each["refused"])
        return [each.get("offset") for each in found["stored"]]

    async def cancel(self, topic: str, message_id: int) -> bool:
        """Cancel a message that waits for its time; return whether it still waited."""
        answer = await self._ask("DELETE", f"{_path(topic)}/scheduled/{message_id}", None, missing=True)
        return answer is not None

    async def poll(
        self, topic: str, group: str, *, most: int = 16, visibility: str = "30s", wait_seconds: float = 0
    ) -> list[LeasedMessage]:
        """Lease messages; wait up to ``wait_seconds`` for the first."""
        body = {"max": most, "visibility": visibility, "wait": f"{round(wait_seconds * 1000)}ms"}
        content = await self._ask("POST", f"{_path(topic, group)}/poll", body, within=wait_seconds)
        return [_leased(topic, group, each) for each in msgspec.json.decode(content or b"", type=_Polled).messages]

    async def ack(self, *messages: LeasedMessage) -> None:
        """Acknowledge messages of one group."""
        await self._of_leases("ack", messages)

    async def nack(self, *messages: LeasedMessage, delay: str = "", reason: str = "") -> None:
        """Give messages of one group back, to be delivered again after ``delay``."""
        await self._of_leases("nack", messages, **({"delay": delay} if delay else {}), reason=reason)

    async def extend(self, *messages: LeasedMessage, visibility: str) -> list[int]:
        """Let the leases of messages of one group end so long from now; return the leases that there still are."""
        found = await self._of_leases("extend", messages, visibility=visibility)
        return list(found.get("leases", []))

    async def forward(self, message: LeasedMessage, topic: str, value: object, **options: Any) -> int | None:
        """Acknowledge a message and store another one, both or neither. Raises `LeaseGone`."""
        body = {"lease": message.lease, "topic": topic, "message": _new_message(value, options)}
        # Not tried again: the first try may have succeeded, and the second would say that the lease is gone.
        found = await self._post(f"{_path(message.topic, message.group)}/forward", body, attempts=1)
        return found.get("offset")

    async def peek(self, topic: str, offset: int = 0, limit: int = 10) -> list[Mapping[str, Any]]:
        """Look at messages from an offset on, without a lease."""
        content = await self._ask("GET", f"{_path(topic)}/messages?offset={offset}&limit={limit}", None)
        return list(msgspec.json.decode(content or b"", type=dict[str, Any])["messages"])

    async def consume(
        self,
        topic: str,
        group: str,
        handler: Handler,
        *,
        most: int = 16,
        visibility_seconds: float = 30,
        retry_delay: str = "1s",
    ) -> None:
        """Poll for ever, and run ``handler`` for up to ``most`` messages at once, until cancelled.

        A message is acknowledged when its handler returns, and given back with ``retry_delay`` and the error's text if
        the handler raises. Its lease is extended as long as the handler runs.
        """
        room = trio.Semaphore(most)
        async with trio.open_nursery() as nursery:
            while True:
                # Before the poll: a message that no handler has room for would wait under a lease.
                await room.acquire()
                places = 1
                while room.value:
                    room.acquire_nowait()
                    places += 1
                messages = await self._poll_some(topic, group, places, visibility_seconds)
                for _ in range(places - len(messages)):
                    room.release()
                for message in messages:
                    nursery.start_soon(self._handle, message, handler, visibility_seconds, retry_delay, room)

    async def _poll_some(self, topic: str, group: str, most: int, visibility_seconds: float) -> list[LeasedMessage]:
        """The messages of one poll; none, after a pause, if the broker cannot answer now."""
        visibility = f"{round(visibility_seconds * 1000)}ms"
        try:
            return await self.poll(topic, group, most=most, visibility=visibility, wait_seconds=_WAIT_SECONDS)
        except RateLimited as error:
            await trio.sleep(error.retry_after)
        except Unavailable:
            await trio.sleep(_AWAY_SECONDS)
        return []

    async def _handle(
        self,
        message: LeasedMessage,
        handler: Handler,
        visibility_seconds: float,
        retry_delay: str,
        room: trio.Semaphore,
    ) -> None:
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_lease, message, visibility_seconds)
                try:
                    await handler(message)
                except Exception as error:  # noqa: BLE001 - whatever a handler raises is the message's failure
                    failure = error
                nursery.cancel_scope.cancel()
            if failure is None:
                await self.ack(message)
            else:
                await self.nack(message, delay=retry_delay, reason=f"{type(failure).__name__}: {failure}"[:1000])
        except BrokerError:
            # The broker is away: the lease ends by itself, and the message comes again.
            pass
        finally:
            room.release()

    async def _keep_lease(self, message: LeasedMessage, visibility_seconds: float) -> None:
        while True:
            await trio.sleep(visibility_seconds / _EXTENSIONS)
            try:
                await self.extend(message, visibility=f"{round(visibility_seconds * 1000)}ms")
            except BrokerError:
                # Tried again at the next time, while the lease lasts.
                continue

    async def _of_leases(self, what: str, messages: Sequence[LeasedMessage], **options: Any) -> dict[str, Any]:
        if not messages:
            return {}
        places = {(message.topic, message.group) for message in messages}
        if len(places) != 1:
            raise BadRequest("the messages are of several groups: make a call for each")
        (place,) = places
        leases = [message.lease for message in messages]
        return await self._post(f"{_path(*place)}/{what}", {"leases": leases, **options})

    async def _post(self, path: str, body: object, *, within: float = 0, attempts: int = _ATTEMPTS) -> dict[str, Any]:
        content = await self._ask("POST", path, body, within=within, attempts=attempts)
        found: dict[str, Any] = msgspec.json.decode(content or b"{}", type=dict[str, Any])
        return found

    async def _ask(
        self,
        method: str,
        path: str,
        body: object,
        *,
        within: float = 0,
        attempts: int = _ATTEMPTS,
        missing: bool = False,
    ) -> bytes | None:
        """The body of the answer; None for a 404 with ``missing``."""
        content = None if body is None else msgspec.json.encode(body)
        failure: BrokerError = Unavailable("the broker was not asked")
        for attempt in range(attempts):
            if attempt:
                await trio.sleep(_PAUSE_SECONDS * 2**attempt)
            try:
                answer = await self._client.request(method, path, content=content, timeout=within + _ANSWER_SECONDS)
            except httpx.HTTPError as error:
                failure = Unavailable(f"the broker did not answer: {error or type(error).__name__}")
                continue
            if answer.status_code == 404 and missing:
                return None
            if answer.is_success:
                return answer.content
            failure = _error_of(answer)
            if not isinstance(failure, Unavailable):
                break
        raise failure


@asynccontextmanager
async def connect_http(url: str, *, key: str = "") -> AsyncIterator[HttpClient]:
    """Open a client of the service at ``url``, with one of its API_KEYS if it has any."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # A proxy of the environment is meant for other addresses, and would see the key.
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        yield HttpClient(client)


def _path(topic: str, group: str | None = None) -> str:
    path = f"/topics/{quote(topic, safe='')}"
    return path if group is None else f"{path}/groups/{quote(group, safe='')}"


def _new_message(value: object, options: Mapping[str, Any]) -> dict[str, Any]:
    data, kind = encode_payload(value)
    if kind == JSON:
        return {"payload": msgspec.Raw(data), **options}
    return {"text": data.decode(), **options} if kind == TEXT else {"base64": b64encode(data).decode(), **options}


def _leased(topic: str, group: str, item: _Item) -> LeasedMessage:
    if isinstance(item.payload, msgspec.Raw):
        data, kind = bytes(item.payload), JSON
    elif isinstance(item.text, str):
        data, kind = item.text.encode(), TEXT
    else:
        data, kind = item.base64, RAW
    place = (item.lease, item.offset, item.priority, item.attempt, item.time_ms)
    return LeasedMessage(topic, group, *place, data, kind)


def _error_of(answer: httpx.Response) -> BrokerError:
    try:
        problem = msgspec.json.decode(answer.content, type=dict[str, Any])
    except msgspec.DecodeError:
        problem = {}
    words = str(problem.get("detail", f"the broker answered {answer.status_code}"))
    match answer.status_code:
        case 401 | 403:
            return Unauthorized(f"{words}; give connect_http() one of the service's API_KEYS as the key")
        case 409:
            return Rejected(words)
        case 410:
            return LeaseGone(words)
        case 413:
            return PayloadTooLarge(words)
        case 429:
            return RateLimited(words, float(problem.get("retry_after_ms", 1000)) / 1000)
        case status if status >= 500:
            return Unavailable(words)
    return BadRequest(words)
