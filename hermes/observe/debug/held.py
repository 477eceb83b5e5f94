"""Finds the cancel scopes that a suspended task is inside of, and the function in which each nursery was opened.

Trio lists a task's nurseries but not its plain cancel scopes, and names neither. The task's frames hold both: ``with``
keeps the bound ``__exit__`` of its manager on the frame until the block ends, ``async with … as nursery`` keeps the
nursery in a variable, and ``gc.get_referents`` lists the objects of a suspended frame. A running frame does not show
them.

Invariant: no code of the inspected objects runs.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from types import CodeType, MethodType
from typing import NamedTuple

import trio

from hermes.observe.debug.awaits import Suspended, awaits_of, frame_and_code, is_suspended

# Context managers nest within each other. A bound, in case a bug makes them a circle.
MAX_MANAGERS = 8


class Held(NamedTuple):
    """A cancel scope or a nursery, and the code whose frame holds it."""

    what: trio.CancelScope | trio.Nursery
    code: CodeType


def held_by(task: trio.lowlevel.Task) -> list[Held]:
    """Return the held scopes and nurseries, outermost first.

    A nursery that was passed to a callee appears once for each frame that refers to it.
    """
    return [held for suspended in awaits_of(task) for held in _held_by_frame(suspended, 0)]


def _held_by_frame(suspended: Suspended, level: int) -> Iterator[Held]:
    _frame, code = frame_and_code(suspended)
    # This list of a frame's references has the managers of `with` too, which `f_locals` lacks.
    for referent in gc.get_referents(suspended):
        if isinstance(referent, trio.Nursery):
            yield Held(referent, code)
        elif isinstance(referent, MethodType) and referent.__func__.__name__ in {"__exit__", "__aexit__"}:
            owner = referent.__self__
            if isinstance(owner, trio.CancelScope):
                yield Held(owner, code)
            # `trio.fail_after` and the like are generators; the scope lies on the generator's frame.
            elif level < MAX_MANAGERS:
                generator = _generator(owner)
                if generator is not None:
                    yield from _held_by_frame(generator, level + 1)


def _generator(manager: object) -> Suspended | None:
    """Return the suspended generator of a manager made by ``contextlib``, which keeps the generator in ``gen``."""
    # getattr_static: a plain getattr could run a property of the inspected object.
    generator = inspect.getattr_static(manager, "gen", None)
    return generator if is_suspended(generator) else None
