"""Exports spans: a bounded buffer, and one task that sends batches of spans and retries within bounds.

Invariants: making a span never waits and never fails; every span that has ended is exported, or counted as dropped with
a reason; a receiver that is down costs spans and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog
import trio

from hermes.base.dispatch import Dispatcher, QueueFull, ShuttingDown, Stopped
from hermes.traces.span_metrics import TraceMetrics

_log = structlog.get_logger("hermes.traces")

SpanT = TypeVar("SpanT")

MOST_BUFFERED = 4096
"""The most spans that wait: some 12 MB, or a few seconds of 400 traced requests a second."""

# The default of OpenTelemetry's own batches (OTEL_BSP_MAX_EXPORT_BATCH_SIZE).
MOST_AT_ONCE = 512
INTERVAL = 1.0
ATTEMPTS = 4
_BACKOFF = 1.0  # seconds; doubled with every attempt
# A receiver may ask for a longer pause, and does not get one.
_MOST_PAUSE = 30.0
_SAY_AGAIN = 60.0  # seconds between log lines while the receiver does not answer


class NotExported(Exception):
    """The receiver has not taken the spans. ``again``: a retry may succeed, ``after`` seconds at the earliest."""

    def __init__(self, words: str, *, again: bool, after: float = 0.0) -> None:
        super().__init__(words)
        self.again = again
        self.after = after


class SpanExport(Generic[SpanT]):
    """Buffers spans and exports them with ``send``.

    ``send(spans)`` returns how many spans the receiver has refused for good, and raises `NotExported`. ::

        export = SpanExport(send, TraceMetrics())
        nursery.start_soon(export.run)
        export.offer(span)
        export.close(within=5.0)
    """

    def __init__(self, send: Callable[[Sequence[SpanT]], Awaitable[int]], metrics: TraceMetrics) -> None:
        self._send = send
        self._metrics = metrics
        self._buffer: Dispatcher[SpanT] = Dispatcher(
            interval=INTERVAL,
            max_batch_items=MOST_AT_ONCE,
            max_buffered_items=MOST_BUFFERED,
            # 0: no bound in bytes. `MOST_BUFFERED` spans are some 12 MB.
            max_buffered_bytes=0,
            size=lambda _span: 0,
        )
        self._running = trio.CancelScope()
        self._draining = trio.Event()
        self._in_hand = 0
        self._failing = False
        self._say_again_at = 0.0

    def offer(self, span: SpanT) -> None:
        """Take a span that has ended. Drops and counts the span if there is no room."""
        # Called where the span ends, in the request's own path: to wait or to raise here would fail the request.
        try:
            self._buffer.enqueue(span)
        except QueueFull:
            self._metrics.dropped["buffer_full"] += 1
        except (ShuttingDown, Stopped):
            self._metrics.dropped["shutdown"] += 1

    def close(self, within: float) -> None:
        """Take no more spans and send the buffered ones, for at most ``within`` seconds. Later offers are dropped."""
        self._running.deadline = trio.current_time() + within
        self._buffer.close()
        # Ends a pause between attempts, so that a stop tries once more at once.
        self._draining.set()

    async def run(self) -> None:
        """Export until `close` was called and every span is sent or dropped, or until cancelled."""
        try:
            with self._running:
                async for spans in self._buffer:
                    # A batch that a stop interrupts is in the buffer no more, and must be counted too.
                    self._in_hand = len(spans)
                    await self._export(spans)
                    self._in_hand = 0
        finally:
            # Closed first, so that a span which ends later is counted by `offer`. Also when cancelled or out of time:
            # every span that has ended is exported or counted.
            self._buffer.close()
            left = self._in_hand + self._buffer.statistics().buffered_items
            self._metrics.dropped["shutdown"] += left

    async def _export(self, spans: Sequence[SpanT]) -> None:
        """Send spans until the receiver takes them, refuses them for good, or the attempts are used up."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                refused = await self._send(spans)
            except NotExported as failure:
                self._log_failure(failure)
                if not failure.again:
                    self._metrics.dropped["refused"] += len(spans)
                    return
                # In a stop no pause follows: the time that is left is for the other batches.
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
        # Every batch of an outage fails. One line when it begins and one a minute are enough.
        if not self._failing or now >= self._say_again_at:
            self._say_again_at = now + _SAY_AGAIN
            _log.warning("traces cannot be exported", reason=str(failure), dropped=sum(self._metrics.dropped.values()))
        self._failing = True

    def _recover(self) -> None:
        if self._failing:
            self._failing = False
            _log.info("traces are exported again", dropped=sum(self._metrics.dropped.values()))
