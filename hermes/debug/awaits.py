"""What a task is suspended in: its coroutine, the one that awaits, the one that awaits, … outermost first.

Trio's own ``Task.iter_await_frames`` gives up at an object with an ``__await__`` of its own, which every connection of
Hypercorn has on its way; and it yields frames, of which the collector does not tell what they hold. Hence this walk
over the language's documented attributes (``cr_await`` and the like). Where Python hides a generator in an object
written in C, ``gc.get_referents`` looks through it. Used by ``tasks`` and ``held``.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, TypeAlias, TypeGuard

import trio

from hermes.debug.stacks import MAX_DEPTH

Suspended: TypeAlias = "CoroutineType[Any, Any, Any] | GeneratorType[Any, Any, Any] | AsyncGeneratorType[Any, Any]"

_TRANSPARENT = {"coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable"}


def awaits_of(task: trio.lowlevel.Task) -> Iterator[Suspended]:
    """The coroutines and generators that the task is suspended in, at most ``MAX_DEPTH``."""
    awaited: object = task.coro
    for _ in range(MAX_DEPTH):
        while type(awaited).__name__ in _TRANSPARENT:
            awaited = next((inner for inner in gc.get_referents(awaited) if is_suspended(inner)), None)
        if not is_suspended(awaited):
            return
        yield awaited
        awaited = _awaited_by(awaited)


def is_suspended(candidate: object) -> TypeGuard[Suspended]:
    """Whether it is one of the kinds of function that can be suspended."""
    return isinstance(candidate, CoroutineType | GeneratorType | AsyncGeneratorType)


def frame_and_code(suspended: Suspended) -> tuple[FrameType | None, CodeType]:
    """Its frame (None once it has ended) and its code."""
    if isinstance(suspended, CoroutineType):
        return suspended.cr_frame, suspended.cr_code
    if isinstance(suspended, GeneratorType):
        return suspended.gi_frame, suspended.gi_code
    return suspended.ag_frame, suspended.ag_code


def _awaited_by(suspended: Suspended) -> object:
    if isinstance(suspended, CoroutineType):
        return suspended.cr_await
    return suspended.gi_yieldfrom if isinstance(suspended, GeneratorType) else suspended.ag_await
