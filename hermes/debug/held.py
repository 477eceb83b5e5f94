"""What a suspended task holds open: the cancel scopes it is inside of, and in which function each nursery was opened.

Trio shows a task's nurseries but not its plain cancel scopes, and gives neither a name. Both lie on the task's frames:
``with`` keeps the bound ``__exit__`` of what it entered on the frame until it leaves, ``async with … as nursery`` the
nursery in a variable, and the garbage collector's public ``gc.get_referents`` lists what a suspended frame refers to.
(What a running frame holds cannot be seen so.) Scopes inside ``trio.fail_after`` and other context managers made from
generators are found through the generator. Invariant: no code of the inspected objects runs. Called by ``tasks``.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, GeneratorType, MethodType
from typing import Any, NamedTuple, TypeAlias

import trio

MAX_AWAITS = 64  # coroutines of one task, outermost first
MAX_MANAGERS = 8  # context managers made of context managers made of …

Suspended: TypeAlias = "CoroutineType[Any, Any, Any] | GeneratorType[Any, Any, Any] | AsyncGeneratorType[Any, Any]"


class Held(NamedTuple):
    """A cancel scope or a nursery, and the code whose frame holds it."""

    what: trio.CancelScope | trio.Nursery
    code: CodeType


def held_by(task: trio.lowlevel.Task) -> list[Held]:
    """Outermost first. A nursery that was handed to a callee appears once for each frame that knows it."""
    found: list[Held] = []
    awaited: object = task.coro
    for _ in range(MAX_AWAITS):
        if not isinstance(awaited, CoroutineType):
            break
        found += _held_by_frame(awaited, 0)
        awaited = awaited.cr_await
    return found


def _held_by_frame(suspended: Suspended, level: int) -> Iterator[Held]:
    for referent in gc.get_referents(suspended):
        if isinstance(referent, trio.Nursery):
            yield Held(referent, _code(suspended))
        elif isinstance(referent, MethodType) and referent.__func__.__name__ in {"__exit__", "__aexit__"}:
            owner = referent.__self__
            if isinstance(owner, trio.CancelScope):
                yield Held(owner, _code(suspended))
            elif level < MAX_MANAGERS:
                generator = _generator(owner)
                if generator is not None:
                    yield from _held_by_frame(generator, level + 1)


def _generator(manager: object) -> Suspended | None:
    """The suspended generator under a manager made by ``contextlib``, which keeps it in ``gen``."""
    generator = inspect.getattr_static(manager, "gen", None)
    return generator if isinstance(generator, GeneratorType | AsyncGeneratorType) else None


def _code(suspended: Suspended) -> CodeType:
    if isinstance(suspended, CoroutineType):
        return suspended.cr_code
    return suspended.gi_code if isinstance(suspended, GeneratorType) else suspended.ag_code
