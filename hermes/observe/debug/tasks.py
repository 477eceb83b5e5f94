"""Takes the Trio task tree: the nursery of each task, the place where it waits, and its deadlines.

Go calls this its goroutine profile. The tree holds no live objects, so a thread can read sources and render it.

Invariant: ``take_snapshot`` is synchronous, hence consistent, and bounded; omitted tasks are counted.
"""

from __future__ import annotations

import collections
import inspect
import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType

import msgspec
import trio

from hermes.observe.debug import pprof
from hermes.observe.debug.awaits import awaits_of, frame_and_code
from hermes.observe.debug.held import Held, held_by
from hermes.observe.debug.stacks import Frame, Sample, StackTable, frame_of, short_path

# Described tasks. A snapshot blocks the loop for a time that grows with the tasks; the rest is counted in `omitted`.
MAX_TASKS = 2_000
# Nurseries inside each other. The walk recurses, and Python's own limit must not end it.
MAX_LEVELS = 100


class Wait(msgspec.Struct, frozen=True):
    """The place where a task waits: the innermost line outside Trio, and the function of Trio called there."""

    location: str
    primitive: str


class Scope(msgspec.Struct, frozen=True):
    """A cancel scope. ``deadline_in`` is seconds from the snapshot (negative: passed), None without a deadline."""

    opened_in: str
    deadline_in: float | None
    shield: bool
    cancel_called: bool


class NurseryNode(msgspec.Struct, frozen=True):
    """A nursery: its cancel scope and the tasks in it, by name."""

    scope: Scope
    tasks: tuple[TaskNode, ...]


class TaskNode(msgspec.Struct, frozen=True):
    """A task: the place where the task waits, its cancel scopes and its nurseries, each outermost first."""

    name: str
    running: bool
    wait: Wait
    stack: tuple[Frame, ...]
    scopes: tuple[Scope, ...]
    nurseries: tuple[NurseryNode, ...]


class ThreadStack(msgspec.Struct, frozen=True):
    """A thread other than Trio's, and its Python stack, outermost frame first."""

    name: str
    stack: tuple[Frame, ...]


class TaskTree(msgspec.Struct, frozen=True):
    """All tasks of the run, from Trio's init task down. ``total`` counts all; ``omitted`` of them are not described."""

    taken_ns: int
    total: int
    omitted: int
    root: TaskNode
    threads: tuple[ThreadStack, ...]

    def tasks(self) -> Iterator[TaskNode]:
        """Yield every described task, parents first."""
        waiting = [self.root]
        while waiting:
            task = waiting.pop()
            yield task
            waiting += (child for nursery in task.nurseries for child in nursery.tasks)

    def summary(self) -> dict[Wait, int]:
        """Return the number of tasks at each place, the largest first."""
        return dict(collections.Counter(task.wait for task in self.tasks()).most_common())

    def json(self) -> bytes:
        """Return the tree and its summary as JSON. Reads no files."""
        summary = [
            {"location": wait.location, "primitive": wait.primitive, "tasks": tasks}
            for wait, tasks in self.summary().items()
        ]
        return msgspec.json.encode({"summary": summary, "tree": self})

    def pprof(self) -> bytes:
        """Return a file for ``go tool pprof``: sample type ``tasks/count``, equal stacks counted together."""
        count = pprof.ValueType("tasks", "count")
        header = pprof.Header((count,), count, 1, self.taken_ns, 0, default="tasks")
        stacks = collections.Counter(task.stack for task in self.tasks())
        return pprof.encode(header, (Sample(stack, (tasks,)) for stack, tasks in stacks.items()))


def take_snapshot() -> TaskTree:
    """Return the present tree of the running loop::

    tree = take_snapshot()
    print(await run_aside(lambda: render_tree(tree)))
    """
    # The frame of this function: the task that takes the snapshot is shown as running here.
    walk = _Walk(inspect.currentframe())
    # The root is None only while Trio starts or ends.
    tree = walk.visit(trio.lowlevel.current_root_task() or trio.lowlevel.current_task(), 0)
    total = trio.lowlevel.current_statistics().tasks_living
    return TaskTree(time.time_ns(), total, max(0, total - walk.visited), tree, _threads())


def waits_at(stack: Sequence[Frame]) -> Wait:
    """Return the place where a task with this stack of ``await_stack`` waits."""
    if not stack:
        # A task that has just ended has no frames left, but its nursery still lists it.
        return Wait("ended", "")
    at = -1 if len(stack) == 1 or not is_trio(stack[-1]) else -2
    here = stack[at]
    # Write trio._sync.Event.wait as trio.Event.wait, the name that its users know. Keep __aenter__ and the like.
    names = stack[-1].function.split(".") if at == -2 else []
    primitive = ".".join(name for name in names if not name.startswith("_") or name.startswith("__"))
    return Wait(f"{short_path(here.file)}:{here.line} {here.function.rpartition('.')[2]}", primitive)


def await_stack(task: trio.lowlevel.Task) -> tuple[Frame, ...]:
    """Return the frames in which a suspended task awaits, outermost first, to the function of Trio that it called.

    The frames inside of that function are the same for all of its callers.
    """
    frames = (frame_and_code(suspended)[0] for suspended in awaits_of(task))
    stack = [frame_of(frame) for frame in frames if frame is not None]
    # A task may call Trio through several layers of its own; the last line outside Trio is the one to show.
    innermost = next((at for at in reversed(range(len(stack))) if not is_trio(stack[at])), 0)
    return tuple(stack[: innermost + 2])


class _Walk:
    def __init__(self, here: FrameType | None) -> None:
        self._here = here
        self._current = trio.lowlevel.current_task()
        self._now = trio.current_time()
        self.visited = 0

    def visit(self, task: trio.lowlevel.Task, level: int) -> TaskNode:
        self.visited += 1
        running = task is self._current
        # The task that takes the snapshot is not suspended; its stack is read from the running frame.
        stack = _running_stack(task, self._here) if running else await_stack(task)
        held = held_by(task)
        # Reversed, so that the outermost frame wins: it opened the nursery, the inner ones got it as an argument.
        openers = {entry.what: entry for entry in reversed(held) if isinstance(entry.what, trio.Nursery)}
        return TaskNode(
            name=task.name,
            running=running,
            wait=Wait(waits_at(stack).location, "running") if running else waits_at(stack),
            stack=stack,
            scopes=tuple(self._scope(entry.what, entry) for entry in held if isinstance(entry.what, trio.CancelScope)),
            nurseries=tuple(
                NurseryNode(self._scope(nursery.cancel_scope, openers.get(nursery)), self._children(nursery, level + 1))
                for nursery in task.child_nurseries
            ),
        )

    def _children(self, nursery: trio.Nursery, level: int) -> tuple[TaskNode, ...]:
        if level > MAX_LEVELS:
            return ()
        return tuple(
            self.visit(child, level)
            # Trio keeps the children in a set; two snapshots must list them alike.
            for child in sorted(nursery.child_tasks, key=lambda child: child.name)
            if self.visited < MAX_TASKS
        )

    def _scope(self, scope: trio.CancelScope, held: Held | None) -> Scope:
        deadline = None if math.isinf(scope.deadline) else scope.deadline - self._now
        opener = held.code.co_qualname if held is not None else ""
        return Scope(opener, deadline, scope.shield, scope.cancel_called)


def _running_stack(task: trio.lowlevel.Task, here: FrameType | None) -> tuple[Frame, ...]:
    table = StackTable()
    return table.resolve(table.capture(here, until=task.coro.cr_frame))


def _threads() -> tuple[ThreadStack, ...]:
    table = StackTable()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    # The loop's own thread is left out: its stack is this function.
    here = threading.get_ident()
    return tuple(
        # A thread that a C library has started is in no list of `threading`.
        ThreadStack(names.get(ident, f"thread {ident}"), table.resolve(table.capture(frame)))
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 - documented, in spite of its name
        if ident != here
    )


def is_trio(frame: Frame) -> bool:
    """Whether a frame belongs to Trio."""
    return frame.function.startswith("trio.")
