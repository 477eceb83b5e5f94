"""Any sequence of entries for the machine, and bounds so small that a short sequence crosses each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st

from hermes.broker.machine import (
    attempts,
    dedup,
    done,
    leases,
    machine,
    messages,
    offsets,
    pieces,
    snapshot,
    topic,
    waiting,
)
from hermes.broker.machine import commands as c
from hermes.broker.machine.machine import Machine
from tests.broker.machine.model import Bounds

BOUNDS = Bounds(window=4, max_messages=6, max_poll_bytes=9, max_dead=3)


@contextmanager
def small_bounds() -> Iterator[None]:
    """The bounds of `BOUNDS`, and blocks, parts and slacks of a few elements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup, "WINDOW", BOUNDS.window)
        patch.setattr(topic, "DEFAULT_MAX_MESSAGES", BOUNDS.max_messages)
        patch.setattr(machine, "MAX_POLL_BYTES", BOUNDS.max_poll_bytes)
        patch.setattr(machine, "MAX_DEAD", BOUNDS.max_dead)
        patch.setattr(messages, "_MANY_KEYS", 1)
        patch.setattr(attempts, "_SLACK", 1)
        patch.setattr(done, "_BLOCK", 4)
        patch.setattr(messages, "_BLOCK_BITS", 2)
        patch.setattr(messages, "_BLOCK_ROWS", 4)
        patch.setattr(messages, "_BLOCK_BYTES", 4 * messages._ROW.size)
        patch.setattr(offsets, "_DEAD", 2)
        for module in (leases, topic):
            patch.setattr(module, "_SLACK", 1)
        patch.setattr(waiting, "_MANY", 2)
        patch.setattr(snapshot, "_MANY", 2)
        patch.setattr(pieces, "_CHUNK_BYTES", 100)
        yield


@dataclass(frozen=True)
class Finish:
    """The end, or an extension, of leases that were given lately: 0 is the last of them.

    A ``stranger`` names another group than the one that has the lease.
    """

    which: tuple[int, ...]
    what: str
    stranger: bool
    delay_ms: int
    produce: c.Produce


Step = c.AnyCommand | Finish

NAMES = st.sampled_from(["a", "a", "a", "b", ""])
GROUPS = st.sampled_from(["g", "g", "h", ""])
PRODUCE = st.builds(
    c.Produce,
    NAMES,
    st.sampled_from([b"", b"1", b"22", b"4444"]),
    st.sampled_from([0, 0, 0, 3, 5, 7, 9]),
    st.integers(0, 4),
    st.sampled_from(["", "p", "q"]),
    st.integers(0, 3),
    st.sampled_from([0, 0, 0, 0, 5, 20]),
    st.sampled_from(["", "", "k", "l"]),
)
POLL = st.builds(
    c.Poll,
    NAMES,
    GROUPS,
    st.integers(0, 9),
    st.sampled_from([0, 1, 5, 40, 1000]),
    st.sampled_from([False, False, True]),
)
FINISH = st.builds(
    Finish,
    st.lists(st.integers(0, 9), max_size=5, unique=True).map(tuple),
    st.sampled_from(["ack", "ack", "ack", "nack", "nack", "delay", "extend", "forward"]),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([1, 5, 20]),
    PRODUCE,
)
SET_GROUP = st.builds(
    c.SetGroup,
    NAMES,
    GROUPS,
    st.sampled_from([None, None, False, False, True]),
    st.sampled_from([None, 0, 1, 2]),
)
COMMIT = st.builds(c.Commit, NAMES, GROUPS, st.integers(0, 20))
RETAIN = st.builds(c.SetRetention, NAMES, st.integers(0, 6), st.sampled_from([0, 5, 5, 40]))
CAPS = st.builds(c.SetCaps, st.integers(1, 3), st.integers(1, 3), st.sampled_from([20, 20, 1000]))
RARE = st.one_of(
    COMMIT,
    RETAIN,
    CAPS,
    SET_GROUP,
    SET_GROUP,
    st.builds(c.Cancel, NAMES, st.integers(0, 9)),
    st.builds(c.Bury, st.lists(st.integers(0, 9), max_size=3).map(tuple)),
    st.just(c.Wake()),
    st.builds(c.Register, NAMES, GROUPS),
    st.builds(c.CreateTopic, NAMES),
    st.builds(c.DeleteTopic, NAMES),
    st.builds(c.SetRateLimit, NAMES, st.integers(0, 1000), st.integers(0, 2)),
    st.just(c.Bootstrap(((1, "localhost:7700"),))),
    st.just(c.Lead(1)),
)
# Not `one_of`, which takes each alternative once, and those of an alternative too.
STEP: st.SearchStrategy[Step] = st.sampled_from(
    [*[PRODUCE] * 6, *[POLL] * 4, *[FINISH] * 4, COMMIT, CAPS, RARE, RARE]
).flatmap(lambda steps: steps)
# Between two entries: mostly nothing or little, and a clock may go back.
PAUSE = st.sampled_from([0, 0, 0, 1, 5, 20, 50, -10])
Entries = list[tuple[int, list[Step]]]
"""Pauses in milliseconds, and what comes after each in one entry."""
ENTRY = st.tuples(PAUSE, st.lists(STEP, min_size=1, max_size=4))
# Lists are short unless they must be long.
LATER: st.SearchStrategy[Entries] = st.sampled_from([0, 5, 20]).flatmap(
    lambda least: st.lists(ENTRY, min_size=least, max_size=50)
)
# Small caps and limits from the beginning on: what comes late in a sequence meets little.
FIRST: st.SearchStrategy[list[Step]] = st.lists(st.one_of(CAPS, RETAIN, RETAIN, SET_GROUP), max_size=3)
ENTRIES: st.SearchStrategy[Entries] = st.builds(lambda first, later: [(0, first), *later], FIRST, LATER)


class Sequence:
    """Turns steps into entries: knows what the machine has delivered.

    ``machine`` may be replaced by another one with the same state.
    """

    def __init__(self) -> None:
        self.machine = Machine()
        self._delivered: list[tuple[str, str, int]] = []
        self._clock_ms = 1000

    def entry(self, pause_ms: int, steps: list[Step]) -> c.Entry:
        self._clock_ms += pause_ms
        return c.Entry(self._clock_ms, tuple(map(self._command, steps)))

    def apply(self, entry: c.Entry) -> list[machine.Reply]:
        replies = self.machine.apply(self.machine.next_index, entry)
        for command, reply in zip(entry.commands, replies, strict=True):
            if isinstance(command, c.Poll | c.Nack) and isinstance(reply, list):
                ids = [each if isinstance(each, int) else each.lease_id for each in reply]
                self._delivered += [(command.topic, command.group, lease) for lease in ids]
        return replies

    def _command(self, step: Step) -> c.AnyCommand:
        if not isinstance(step, Finish):
            return step
        found = [self._delivered[-1 - which] for which in step.which if which < len(self._delivered)]
        name, group = found[0][:2] if found else ("a", "g")
        if step.stranger:
            group = "h"
        leases = tuple(lease for _, _, lease in found)
        match step.what:
            case "ack":
                return c.Ack(name, group, leases)
            case "extend":
                return c.Extend(name, group, leases, step.delay_ms)
            case "forward":
                return c.Forward(name, group, leases[0] if leases else 99, step.produce)
        return c.Nack(name, group, leases, step.delay_ms if step.what == "delay" else 0, "because" * step.stranger)
