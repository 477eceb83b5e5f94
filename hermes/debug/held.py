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
from types import CodeType, MethodType
from typing import NamedTuple

import trio

from hermes.debug.awaits import Suspended, awaits_of, frame_and_code, is_suspended

MAX_MANAGERS = 8  # context managers made of context managers made of …


class Held(NamedTuple):
    """A cancel scope or a nursery, and the code whose frame holds it."""

    what: trio.CancelScope | trio.Nursery
    code: CodeType


def held_by(task: trio.lowlevel.Task) -> list[Held]:
    """Outermost first. A nursery that was handed to a callee appears once for each frame that knows it."""
    return [held for suspended in awaits_of(task) for held in _held_by_frame(suspended, 0)]


def _held_by_frame(suspended: Suspended, level: int) -> Iterator[Held]:
    _frame, code = frame_and_code(suspended)
    for referent in gc.get_referents(suspended):
        if isinstance(referent, trio.Nursery):
            yield Held(referent, code)
        elif isinstance(referent, MethodType) and referent.__func__.__name__ in {"__exit__", "__aexit__"}:
            owner = referent.__self__
            if isinstance(owner, trio.CancelScope):
                yield Held(owner, code)
            elif level < MAX_MANAGERS:
                generator = _generator(owner)
                if generator is not None:
                    yield from _held_by_frame(generator, level + 1)


def _generator(manager: object) -> Suspended | None:
    """The suspended generator under a manager made by ``contextlib``, which keeps it in ``gen``."""
    generator = inspect.getattr_static(manager, "gen", None)
    return generator if is_suspended(generator) else None
