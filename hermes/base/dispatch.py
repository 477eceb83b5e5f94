"""The dispatcher: takes items one at a time and hands out bounded batches. Needs Trio and the standard library.

`Dispatcher.enqueue` is synchronous and never blocks: an item is accepted, or refused by name. Any number of tasks
iterate over the dispatcher, and each batch goes to exactly one of them. Invariants, at every moment:

- enqueued = taken + buffered + abandoned, in items and in bytes; items leave in the order in which they came,
  but by `Dispatcher.take_newest_nowait`;
- no batch is above `max_batch_items` or `max_batch_bytes`, the buffer never above `max_buffered_*`;
- the k-th consumer in line waits for the k-th batch: a consumer is woken when a batch is due for it and not before,
  first come first served, and one that is cancelled leaves its batch to the next.

There is no background task and no nursery: the timer of the batch being filled is the deadline of the cancel scope in
which a consumer waits. There are no locks: call the dispatcher in Trio's thread (`trio.from_thread.run_sync` from
other threads). The engine has one for each sink, and batches chunks of events.
"""

import math
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import trio

T = TypeVar("T")

# A number instead of None, so that the hot path compares without a case of its own.
_NO_LIMIT = sys.maxsize
_length: Callable[[Any], int] = len


class DispatchError(Exception):
    """The base of every refusal of `Dispatcher.enqueue`. The refused item was not taken and changed nothing."""


class QueueFull(DispatchError):
    """The buffer has no room now. Try again after a consumer has taken a batch, or pass the pressure on."""


class PayloadTooLarge(DispatchError):
    """The item does not fit even into an empty dispatcher. Split the item or drop it: trying again is useless."""


class ShuttingDown(DispatchError):
    """The intake is closed; consumers still take the items that were accepted before."""


class Stopped(DispatchError):
    """The intake is closed, and no batch will be handed out any more."""


@dataclass(frozen=True, slots=True)
class DispatcherStatistics:
    """The contents and the counters of a dispatcher. Items are weighed by `count`, bytes by `size`."""

    buffered_items: int
    """Accepted and not yet taken."""
    buffered_bytes: int
    enqueued_items: int
    """Accepted since the beginning: taken + buffered + abandoned."""
    enqueued_bytes: int
    taken_items: int
    taken_bytes: int
    taken_batches: int
    abandoned_items: int
    """Accepted, but still untaken at the deadline of `shutdown()`: lost to the consumers."""
    abandoned_bytes: int
    refused_full: int
    """Items refused with `QueueFull`."""
    refused_too_large: int
    """Items refused with `PayloadTooLarge`."""
    refused_closed: int
    """Items refused with `ShuttingDown` or `Stopped`."""
    consumers_waiting: int
    """Tasks that wait for a batch."""


class Dispatcher(Generic[T]):
    """Gathers items into batches, bounded in time, items and bytes.

    ::

        async def consume(dispatcher: Dispatcher[bytes]) -> None:
            async for batch in dispatcher:
                print(len(batch), "items")

        async with trio.open_nursery() as nursery:
            async with Dispatcher[bytes](interval=0.1, max_batch_bytes=1 << 20) as dispatcher:
                nursery.start_soon(consume, dispatcher)
                dispatcher.enqueue(b"payload")

    A batch is due `interval` after its first item, or at once when it reaches a target: `flush_items`, `flush_bytes`,
    or one of its caps. The batch goes to the consumer that has waited longest. While no consumer is ready, a due batch
    goes on growing up to its caps, and behind it the next one begins; so batches grow under load. An item that would
    lift a batch above a cap starts the next one. Buffered items count against `max_buffered_*` until they are taken.

    Leaving the `async with` block, in whatever way, is `close()`: no accepted item is discarded, consumers take the
    rest, and then their loops end by themselves. To know that everything was taken, `await shutdown()` first; items
    that no consumer took stay in `statistics().buffered_items`.

    Args:
        interval: how long a batch waits for more items, in seconds; 0 = due at once, `math.inf` = for ever.
        max_batch_items: items that a batch holds at most; 0 = no limit.
        max_batch_bytes: bytes that a batch holds at most; 0 = no limit.
        max_buffered_items: items that wait in all, in whatever number of batches; 0 = no limit.
        max_buffered_bytes: bytes that wait in all; 0 = no limit. A full buffer is a target too: with the first
            `QueueFull`, the gathered items are due.
        flush_items: a batch of this many items is due, but goes on growing (a trigger, not a cap);
            0 = `max_batch_items`.
        flush_bytes: the same in bytes; 0 = `max_batch_bytes`.
        size: bytes of an item, 0 or more; `len` unless told.
        count: how many items an item stands for, 1 or more, such as the events of a chunk; None = each is one.

    Raises:
        ValueError: a limit is negative, or `flush_items` is above `max_batch_items`, or so in bytes.

    """

    # Attributes: 29, because an item costs less than a microsecond, and each look into another object adds to that.
    # Parameters: 9, because each is a bound or a weight that its user chooses, by keyword.
    def __init__(
        self,
        interval: float = 0.1,
        max_batch_items: int = 0,
        max_batch_bytes: int = 0,
        max_buffered_bytes: int = 64 * 1024 * 1024,
        *,
        max_buffered_items: int = 0,
        flush_items: int = 0,
        flush_bytes: int = 0,
        size: Callable[[T], int] = _length,
        count: Callable[[T], int] | None = None,
    ) -> None:
        limits = {
            "interval": interval,
            "max_batch_items": max_batch_items,
            "max_batch_bytes": max_batch_bytes,
            "max_buffered_items": max_buffered_items,
            "max_buffered_bytes": max_buffered_bytes,
            "flush_items": flush_items,
            "flush_bytes": flush_bytes,
        }
        for name, value in limits.items():
            # Not `<`: NaN compares false with everything, and must be refused.
            if not value >= 0:
                raise ValueError(f"{name} is {value}; give 0 or more")
        if flush_items > max_batch_items > 0:
            raise ValueError(f"flush_items is {flush_items}; give at most max_batch_items, {max_batch_items}")
        if flush_bytes > max_batch_bytes > 0:
            raise ValueError(f"flush_bytes is {flush_bytes}; give at most max_batch_bytes, {max_batch_bytes}")
        self._interval = interval
        self._max_batch_items = max_batch_items or _NO_LIMIT
        self._max_batch_bytes = max_batch_bytes or _NO_LIMIT
        self._max_buffered_items = max_buffered_items or _NO_LIMIT
        self._max_buffered_bytes = max_buffered_bytes or _NO_LIMIT
        self._flush_items = flush_items or self._max_batch_items
        self._flush_bytes = flush_bytes or self._max_batch_bytes
        self._size = size
        self._count = count

        # Batches that take no more items, oldest first, each with its items and bytes. Behind them is the batch being
        # filled.
        self._full: deque[tuple[list[T], int, int]] = deque()
        self._full_items = 0
        self._full_bytes = 0
        self._batch: list[T] = []
        self._batch_items = 0
        self._batch_bytes = 0
        # The moment at which the batch being filled is due, in Trio's time; -inf: the batch has reached a target.
        self._due = math.inf
        # Below both horizons nothing needs a decision: the item is not the first of its batch, reaches no target,
        # meets no limit, and the intake is open. A horizon may be too near, never too far.
        # An empty batch has no horizon: its first item is always decided.
        self._items_horizon = 0
        self._bytes_horizon = 0

        # Waiting consumers, first come first served.
        self._line: deque[trio.CancelScope] = deque()
        self._closed = False
        # Set once the intake is closed and no batch is left to take.
        self._stopped = trio.Event()

        self._taken_items = self._taken_bytes = self._taken_batches = 0
        self._abandoned_items = self._abandoned_bytes = 0
        self._refused_full = self._refused_too_large = self._refused_closed = 0

    # Control-C must not arrive between two counters. Trio protects its own channels in the same way.
    @trio.lowlevel.enable_ki_protection
    def enqueue(self, item: T) -> None:
        """Accept one item. Never blocks.

        Raises:
            QueueFull: no room for it now (`max_buffered_items`, `max_buffered_bytes`).
            PayloadTooLarge: alone, it is above a limit of a batch or of the buffer.
            ShuttingDown: the intake is closed, and batches are left to take.
            Stopped: the intake is closed, and none is left.

        """
        size = self._size(item)
        items = self._batch_items + (1 if self._count is None else self._count(item))
        total = self._batch_bytes + size
        # The hot path: two comparisons and an append, under a microsecond.
        if items < self._items_horizon and total < self._bytes_horizon:
            self._batch.append(item)
            self._batch_items = items
            self._batch_bytes = total
        else:
            self._decide(item, items - self._batch_items, size)

    def has_room(self, items: int, size: int) -> bool:
        """Whether ``items`` items of ``size`` bytes together, none too large alone, would all be accepted now."""
        return (
            not self._closed
            and self._full_items + self._batch_items + items <= self._max_buffered_items
            and self._full_bytes + self._batch_bytes + size <= self._max_buffered_bytes
        )

    def peek(self) -> T | None:
        """Return the item that leaves next, without taking it; None if the buffer is empty."""
        batch = self._full[0][0] if self._full else self._batch
        return batch[0] if batch else None

    def _decide(self, item: T, items: int, size: int) -> None:
        """Accept or refuse an item that starts a batch, reaches a target, meets a limit or finds the intake closed."""
        if self._closed:
            self._refused_closed += items
            if self._stopped.is_set():
                raise Stopped("the intake is closed, and no batch will be handed out any more")
            raise ShuttingDown("the intake is closed; only what was accepted before is handed out")
        # Before the check for room: an item that is too large would hear `QueueFull`, and be offered again without end.
        most_items = min(self._max_batch_items, self._max_buffered_items)
        most_bytes = min(self._max_batch_bytes, self._max_buffered_bytes)
        if items > most_items or size > most_bytes:
            self._refused_too_large += items
            if size > most_bytes:
                raise PayloadTooLarge(f"{size} bytes in one item, the limit is {most_bytes}; split it")
            raise PayloadTooLarge(f"an item that counts as {items}, the limit is {most_items}; split it")
        if (
            self._full_items + self._batch_items + items > self._max_buffered_items
            or self._full_bytes + self._batch_bytes + size > self._max_buffered_bytes
        ):
            self._refused_full += items
            # The waiting items make the buffer full, so they are due now.
            if self._batch:
                self._due = -math.inf
                self._call()
            raise QueueFull("the buffer is full; try again when a consumer has taken a batch")

        if self._batch_items + items > self._max_batch_items or self._batch_bytes + size > self._max_batch_bytes:
            self._fill()
        if not self._batch:
            # The first item sets the moment: if each later item moved it, a steady stream would never be due.
            self._due = trio.current_time() + self._interval
        self._batch.append(item)
        self._batch_items += items
        self._batch_bytes += size
        if self._batch_items >= self._flush_items or self._batch_bytes >= self._flush_bytes:
            self._due = -math.inf
        if self._batch_items >= self._max_batch_items or self._batch_bytes >= self._max_batch_bytes:
            self._fill()
        self._look_ahead()
        self._call()

    def _look_ahead(self) -> None:
        """Compute the horizons of the batch being filled, after any change that brought a decision nearer."""
        if not self._batch:
            return
        due = self._due == -math.inf
        # A batch that is due has passed a target, and has only its caps before it.
        items, size = (self._max_batch_items, self._max_batch_bytes) if due else (self._flush_items, self._flush_bytes)
        self._items_horizon = min(items, self._max_buffered_items - self._full_items)
        self._bytes_horizon = min(size, self._max_buffered_bytes - self._full_bytes)

    def _fill(self) -> None:
        """Put the batch being filled behind the full ones and begin an empty one."""
        self._full.append((self._batch, self._batch_items, self._batch_bytes))
        self._full_items += self._batch_items
        self._full_bytes += self._batch_bytes
        self._batch = []
        self._batch_items = self._batch_bytes = 0
        self._due = math.inf
        # One horizon is enough: on the hot path an item has to be below both.
        self._items_horizon = 0

    def _call(self) -> None:
        """Wake the k-th consumer in line when the k-th batch is due; after the stop, wake all at once."""
        line = iter(self._line)
        for place in line if self._stopped.is_set() else islice(line, len(self._full)):
            # A scope that was cancelled already ignores this, so waking twice is harmless.
            place.cancel()
        # The next in line waits for the batch being filled: its deadline is the timer.
        for place in islice(line, 1):
            place.deadline = self._due

    def _take(self) -> list[T]:
        # Woken by the timer or by a target: the batch may still take items.
        if not self._full:
            self._fill()
        batch, items, size = self._full.popleft()
        self._full_items -= items
        self._full_bytes -= size
        self._taken_items += items
        self._taken_bytes += size
        self._taken_batches += 1
        # The last batch: the other consumers' loops end now.
        if self._closed and not self._full:
            self._stop()
        return batch

    def take_newest_nowait(self) -> list[T] | None:
        """Take the batch that was begun last, due or not.

        Returns None if nothing is buffered, or a consumer waits for the batch.
        """
        # A consumer in line may have been woken for this batch already, and would run into an empty buffer.
        if self._line or not (self._full or self._batch):
            return None
        if self._batch:
            self._fill()
        # `_fill` put the batch at the end; one rotation brings it to the front, where `_take` takes it.
        self._full.rotate(1)
        return self._take()

    def __aiter__(self) -> Self:
        return self

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> list[T]:
        """Wait for a batch that is due and take it.

        Raises:
            StopAsyncIteration: the intake is closed and nothing is left.

        """
        place = trio.CancelScope()
        self._line.append(place)
        self._call()
        try:
            with place:
                await trio.sleep_forever()
            # This scope was cancelled or its deadline has passed, so a batch is due for this consumer, or the
            # dispatcher has stopped. Cancellation from outside leaves through `finally`, which gives the batch to the
            # next in line.
            if self._stopped.is_set():
                raise StopAsyncIteration
            return self._take()
        finally:
            # Before `_call`, so that the next in line moves up to this place.
            self._line.remove(place)
            self._call()

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Close the intake without waiting. Accepted items are due at once; once they are taken, every loop ends."""
        if self._closed:
            return
        self._closed = True
        # Also takes the horizon away, so that each later item comes to `_decide` and is refused.
        if self._batch:
            self._fill()
        if self._full:
            self._call()
        else:
            self._stop()

    async def shutdown(self, deadline: float = math.inf) -> bool:
        """Close the intake and wait until consumers have taken all items, but no longer than `deadline`.

        `deadline` is a moment of Trio's clock, such as `trio.current_time() + 5`, not a duration. Items that are
        untaken by then are abandoned and counted. Cancelling this call abandons nothing: consumers go on.

        Returns True if every accepted item was taken. Whether consumers have finished their last batch is not known
        here.
        """
        self.close()
        # This scope ends the wait at its own deadline alone: a cancelled caller leaves here, before an item is
        # abandoned.
        with trio.CancelScope(deadline=deadline):
            await self._stopped.wait()
        # If consumers took everything, the dispatcher has stopped already, and nothing is left to abandon.
        self._stop()
        return self._abandoned_items == 0

    def _stop(self) -> None:
        """End every consumer's loop, and abandon the remaining items."""
        self._abandoned_items += self._full_items
        self._abandoned_bytes += self._full_bytes
        self._full.clear()
        self._full_items = self._full_bytes = 0
        self._stopped.set()
        self._call()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def statistics(self) -> DispatcherStatistics:
        """Return the counters so far. Cheap: nothing is summed up."""
        buffered_items = self._full_items + self._batch_items
        buffered_bytes = self._full_bytes + self._batch_bytes
        return DispatcherStatistics(
            buffered_items=buffered_items,
            buffered_bytes=buffered_bytes,
            enqueued_items=self._taken_items + buffered_items + self._abandoned_items,
            enqueued_bytes=self._taken_bytes + buffered_bytes + self._abandoned_bytes,
            taken_items=self._taken_items,
            taken_bytes=self._taken_bytes,
            taken_batches=self._taken_batches,
            abandoned_items=self._abandoned_items,
            abandoned_bytes=self._abandoned_bytes,
            refused_full=self._refused_full,
            refused_too_large=self._refused_too_large,
            refused_closed=self._refused_closed,
            consumers_waiting=len(self._line),
        )
