"""Spans on their way out: a bounded buffer, and one task that sends what is in it, again and again within bounds.

Invariants: making a span never waits and never fails; every span that has ended is exported, or counted as dropped with
a reason; a receiver that is down costs spans and nothing else. The spans' processor calls `offer`; the app runs `run`
and calls `close`, which bounds the rest of it.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog
import trio

from hermes.dispatch import Dispatcher, QueueFull, ShuttingDown, Stopped
from hermes.traces.span_metrics import TraceMetrics

_log = structlog.get_logger("hermes.traces")

SpanT = TypeVar("SpanT")

MOST_BUFFERED = 4096
"""Spans that wait: some 12 MB, and what 400 traced requests a second give rise to in a few seconds."""

MOST_AT_ONCE = 512
INTERVAL = 1.0
ATTEMPTS = 4
_BACKOFF = 1.0  # seconds; doubled with every attempt
_MOST_PAUSE = 30.0  # seconds; a receiver may ask for more, and does not get it
_SAY_AGAIN = 60.0  # a receiver that stays away is said to do so as often as this, in seconds


class NotExported(Exception):
    """The receiver has not taken the spans. ``again``: it may, if asked again, ``after`` seconds at the earliest."""

    def __init__(self, words: str, *, again: bool, after: float = 0.0) -> None:
        super().__init__(words)
        self.again = again
        self.after = after


class SpanExport(Generic[SpanT]):
    """Takes spans and has ``send`` export them.

    ``send(spans)`` returns how many of them the receiver has refused for good, and raises `NotExported`.
    """

    def __init__(self, send: Callable[[Sequence[SpanT]], Awaitable[int]], metrics: TraceMetrics) -> None:
        self._send = send
        self._metrics = metrics
        self._buffer: Dispatcher[SpanT] = Dispatcher(
            interval=INTERVAL,
            max_batch_items=MOST_AT_ONCE,
            max_buffered_items=MOST_BUFFERED,
            max_buffered_bytes=0,
            size=lambda _span: 0,
        )
        self._running = trio.CancelScope()
        self._draining = trio.Event()
        self._in_hand = 0
        self._failing = False
        self._say_again_at = 0.0

    def offer(self, span: SpanT) -> None:
        """Take a span that has ended."""
        try:
            self._buffer.enqueue(span)
        except QueueFull:
            self._metrics.dropped["buffer_full"] += 1
        except (ShuttingDown, Stopped):
            self._metrics.dropped["shutdown"] += 1

    def close(self, within: float) -> None:
        """No more will be offered, or what is will be dropped: send the rest, for ``within`` seconds at most."""
        self._running.deadline = trio.current_time() + within
        self._buffer.close()
        self._draining.set()

    async def run(self) -> None:
        """Export until `close` was called and all is sent or given up, or until cancelled."""
        try:
            with self._running:
                async for spans in self._buffer:
                    self._in_hand = len(spans)
                    await self._export(spans)
                    self._in_hand = 0
        finally:
            self._buffer.close()
            left = self._in_hand + self._buffer.statistics().buffered_items
            self._metrics.dropped["shutdown"] += left

    async def _export(self, spans: Sequence[SpanT]) -> None:
        """Send spans until they are taken, or there is no point in asking again."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                refused = await self._send(spans)
            except NotExported as failure:
                self._log_failure(failure)
                if not failure.again:
                    self._metrics.dropped["refused"] += len(spans)
                    return
                if attempt == ATTEMPTS or self._draining.is_set():
                    break
                await self._back_off(attempt, failure.after)
            else:
                self._metrics.exported += len(spans) - refused
                self._metrics.dropped["refused"] += refused
                self._recover()
                return
        self._metrics.dropped["unreachable"] += len(spans)

    async def _back_off(self, attempt: int, at_least: float) -> None:
        """Pause after a failed attempt: exponential backoff with jitter, but no shorter than the receiver asked for."""
        pause = _BACKOFF * 2 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing
        with trio.move_on_after(min(max(pause, at_least), _MOST_PAUSE)):
            await self._draining.wait()

    def _log_failure(self, failure: NotExported) -> None:
        now = trio.current_time()
        if not self._failing or now >= self._say_again_at:
            self._say_again_at = now + _SAY_AGAIN
            _log.warning("traces cannot be exported", reason=str(failure), dropped=sum(self._metrics.dropped.values()))
        self._failing = True

    def _recover(self) -> None:
        if self._failing:
            self._failing = False
            _log.info("traces are exported again", dropped=sum(self._metrics.dropped.values()))
