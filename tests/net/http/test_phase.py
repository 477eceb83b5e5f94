"""The phases of a connection, cell by cell, and that nothing a client sends reaches a pair that the table lacks."""

from __future__ import annotations

import ast
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.net.http.lane import Timeouts
from hermes.net.http.phase import TRANSITIONS, Phase, PhaseEvent, allowance
from tests.net.http.kit import FakeIntake, Wire, event, head, post, post_chunked
from tests.test_structure import SOURCES, name_of, parsed

_IDLE, _HEAD, _BODY, _CLOSING, _HANDOVER = Phase
_LEFT, _BEGUN, _READ, _NOT_OURS, _LAST, _ENDED = PhaseEvent

CELLS = {
    # phase: what each event leads to, in the order of the events; None: cannot happen
    _IDLE: (_HEAD, _BODY, _IDLE, _HANDOVER, _CLOSING, _CLOSING),
    _HEAD: (_HEAD, _BODY, _IDLE, _HANDOVER, _CLOSING, _CLOSING),
    _BODY: (None, None, _IDLE, None, _CLOSING, _CLOSING),
    _CLOSING: (None, None, None, None, _CLOSING, _CLOSING),
    _HANDOVER: (None, None, None, None, _HANDOVER, _CLOSING),
}


@pytest.mark.parametrize(("phase", "event_"), list(product(Phase, PhaseEvent)), ids=lambda each: each.name)
def test_every_pair_leads_where_the_table_says(phase: Phase, event_: PhaseEvent) -> None:
    assert TRANSITIONS.get((phase, event_)) is CELLS[phase][list(PhaseEvent).index(event_)]


def test_nobody_but_the_connection_assigns_its_phase() -> None:
    assigning = {
        f"{name_of(path)}:{function.name}"
        for path in SOURCES
        if name_of(path).startswith("hermes/net/http/")
        for function in ast.walk(parsed(path))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr == "phase" and isinstance(node.ctx, ast.Store)
    }
    assert assigning == {"hermes/net/http/connection.py:__init__", "hermes/net/http/connection.py:_move"}


def test_the_allowance_is_that_of_the_phase() -> None:
    timeouts = Timeouts(header=1, body=2, idle=3, write=4)
    assert {phase: allowance(phase, timeouts) for phase in Phase} == {
        _IDLE: 3,
        _HEAD: 1,
        _BODY: 2,
        _CLOSING: 3,
        _HANDOVER: 3,
    }


STEPS = [
    post(event()),
    post(event())[:40],
    post(event())[40:],
    post(event(), b"Connection: close"),
    head(b"Content-Length: 50") + b"x",
    post_chunked(event())[:-9],
    head(b"Content-Length: 5", b"Expect: 100-continue"),
    head(first=b"GET /health HTTP/1.1"),
    head(b"Content-Length: 20000"),
    b"\r\n",
    b"\n",
    b"5\r\nabc",
    "time_out",
    "receive_eof",
    "drop",
    "end",
    "resume",
    "defer",
    "call_off",
    "hold",
    "make room",
    "drain",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=8), st.booleans())
def test_whatever_happens_in_whatever_order_the_phase_has_a_next(steps: list[bytes | str], blocking: bool) -> None:
    wire = Wire(FakeIntake(room=0 if blocking else 10**9, blocking=blocking))
    seen = [wire.phase]
    for step in steps:
        if isinstance(step, bytes):
            wire.feed_raw([step])
        elif step == "make room":
            wire.intake.make_room(10)
        elif step == "drain":
            wire.lane.draining = True
        else:
            getattr(wire.connection, step)()
        seen.append(wire.phase)
    # A connection that is about to end, or has left, never reads a request again.
    ended = [phase in {_CLOSING, _HANDOVER} for phase in seen]
    assert ended == sorted(ended)
    wire.connection.drop()
    assert (wire.phase, wire.used(), wire.lane.inflight - len(wire.intake.waiting)) == (_CLOSING, 0, 0)
