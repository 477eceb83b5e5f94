"""How many items a second go through a `Dispatcher`: one producer, one consumer, 150-byte items, batches of 1 MiB.

Counts what the consumer took, not what was enqueued. Run by `make bench`, or alone: `python -m tests.perf.dispatcher`.
"""

import time

import trio

from hermes.base.dispatch import Dispatcher, QueueFull

ITEM = bytes(150)
BATCH_BYTES = 1 << 20
BURST = 1000  # items that the producer enqueues between two checkpoints, as a busy server would


async def _run(seconds: float) -> tuple[int, float]:
    taken = 0

    async def consume() -> None:
        nonlocal taken
        async for batch in dispatcher:
            taken += len(batch)

    begin = time.perf_counter()
    end = begin + seconds
    async with trio.open_nursery() as nursery, Dispatcher[bytes](max_batch_bytes=BATCH_BYTES) as dispatcher:
        nursery.start_soon(consume)
        enqueue = dispatcher.enqueue
        while time.perf_counter() < end:
            try:
                for _ in range(BURST):
                    enqueue(ITEM)
            except QueueFull:
                pass  # the checkpoint lets the consumer make room
            await trio.lowlevel.checkpoint()
        drained = await dispatcher.shutdown()
    assert drained
    return taken, time.perf_counter() - begin


def measure(seconds: float = 2.0) -> dict[str, float]:
    """Push items through for so many seconds; `items_per_second` and `mib_per_second` that were taken."""
    taken, elapsed = trio.run(_run, seconds)
    return {
        "items_per_second": taken / elapsed,
        "mib_per_second": taken * len(ITEM) / elapsed / (1 << 20),
    }


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:>20} {value:14,.0f}")
