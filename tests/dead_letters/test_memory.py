"""The bounded store of dead letters, and the ledger's arithmetic."""

from __future__ import annotations

import pytest

from hermes.dead_letters import DeadLetter, MemoryDeadLetters
from hermes.events.letters import to_event
from tests.dead_letters.kit import make_letter


def letter(n: int, *, size: int = 2, reason: str = "") -> DeadLetter:
    payload = b'{"v":"' + b"x" * (size - 8) + b'"}' if size > 8 else b"{}"
    return make_letter(n, payload=payload, reason=reason, rejected_at=float(n), received_at=float(n))


def kept(store: MemoryDeadLetters) -> list[str]:
    return [to_event(letter).id for letter in store]


async def test_letters_are_kept_oldest_first() -> None:
    store = MemoryDeadLetters(10)
    for n in range(3):
        await store.add([letter(n)])
    assert kept(store) == ["event-0", "event-1", "event-2"]
    assert len(store) == 3
    assert store.evictions.total == 0


async def test_the_oldest_makes_room_and_is_counted() -> None:
    store = MemoryDeadLetters(2)
    for n in range(5):
        await store.add([letter(n)])
    assert kept(store) == ["event-3", "event-4"]
    assert store.evictions.total == 3


async def test_payloads_are_bounded_in_bytes() -> None:
    store = MemoryDeadLetters(100, max_bytes=1000)
    for n in range(4):
        await store.add([letter(n, size=400)])
    assert kept(store) == ["event-2", "event-3"]
    assert store.evictions.total == 2
    await store.add([letter(4, size=1000)])
    assert kept(store) == ["event-4"]


async def test_a_reason_takes_room_as_a_payload_does() -> None:
    store = MemoryDeadLetters(100, max_bytes=1000)
    await store.add([letter(0, reason="x" * 900)])
    await store.add([letter(1, reason="x" * 900)])
    assert kept(store) == ["event-1"]


@pytest.mark.parametrize("store", [MemoryDeadLetters(0), MemoryDeadLetters(10, max_bytes=100)])
async def test_a_letter_that_never_fits_is_counted_and_nothing_breaks(store: MemoryDeadLetters) -> None:
    await store.add([letter(0, size=500)])
    assert (kept(store), store.evictions.total, len(store)) == ([], 1, 0)
