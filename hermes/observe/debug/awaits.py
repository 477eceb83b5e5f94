"""Finds the coroutines in which a task is suspended: its own, the one that this one awaits, and so on inwards.

Invariant: reads only the language's documented attributes (``cr_await`` and the like) and ``gc.get_referents``.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, TypeAlias, TypeGuard

import trio

from hermes.observe.debug.stacks import MAX_DEPTH

Suspended: TypeAlias = "CoroutineType[Any, Any, Any] | GeneratorType[Any, Any, Any] | AsyncGeneratorType[Any, Any]"

# Trio's own Task.iter_await_frames stops at an object with an __await__ of its own, and every connection of Hypercorn
# awaits one. It also yields frames, and the collector does not tell what a frame holds. CPython hides the generator
# inside these objects, which are written in C; gc.get_referents finds it.
_TRANSPARENT = {"coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable"}


def awaits_of(task: trio.lowlevel.Task) -> Iterator[Suspended]:
    """Yield the coroutines and generators in which the task is suspended, outermost first, at most ``MAX_DEPTH``."""
    awaited: object = task.coro
    # Bounded: a coroutine that awaits itself in a circle, by a bug, must not hang the profile.
    for _ in range(MAX_DEPTH):
        while type(awaited).__name__ in _TRANSPARENT:
            awaited = next((inner for inner in gc.get_referents(awaited) if is_suspended(inner)), None)
        if not is_suspended(awaited):
            return
        yield awaited
        awaited = _awaited_by(awaited)


def is_suspended(candidate: object) -> TypeGuard[Suspended]:
    """Whether the object belongs to one of the kinds of function that can be suspended."""
    return isinstance(candidate, CoroutineType | GeneratorType | AsyncGeneratorType)


def frame_and_code(suspended: Suspended) -> tuple[FrameType | None, CodeType]:
    """Return the frame (None once the function has ended) and the code."""
    if isinstance(suspended, CoroutineType):
        return suspended.cr_frame, suspended.cr_code
    if isinstance(suspended, GeneratorType):
        return suspended.gi_frame, suspended.gi_code
    return suspended.ag_frame, suspended.ag_code


def _awaited_by(suspended: Suspended) -> object:
    if isinstance(suspended, CoroutineType):
        return suspended.cr_await
    return suspended.gi_yieldfrom if isinstance(suspended, GeneratorType) else suspended.ag_await
