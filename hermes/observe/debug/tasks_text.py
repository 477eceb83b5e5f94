"""Renders the task tree as text: the places where tasks wait, or every task in its nursery with its source lines.

Invariant: reads source files, so it runs on a thread, never on the run loop.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterator, Sequence

from hermes.observe.debug.stacks import Frame, short_path
from hermes.observe.debug.tasks import Scope, TaskNode, TaskTree, is_trio


def render_summary(tree: TaskTree) -> str:
    """Return the places where tasks wait, with the number of tasks at each."""
    lines = [_heading(tree), "", f"{'tasks':>7}  waiting at"]
    lines += [f"{count:>7}  {wait.location}  {wait.primitive}" for wait, count in tree.summary().items()]
    return "\n".join([*lines, ""])


def render_tree(tree: TaskTree) -> str:
    """Return every task in its nursery, with the lines in which it awaits."""
    lines = [_heading(tree), "", *_task_lines(tree.root, "")]
    for thread in tree.threads:
        lines += ["", f"thread {thread.name}", *_stack_lines(thread.stack, "  ")]
    return "\n".join([*lines, ""])


def _heading(tree: TaskTree) -> str:
    omitted = f", {tree.omitted:,} of them not shown" if tree.omitted else ""
    return f"{tree.total:,} tasks{omitted}; {len(tree.threads)} other threads"


def _task_lines(task: TaskNode, indent: str) -> Iterator[str]:
    # The task of this request is the running one. A task between two waits awaits no function of Trio.
    state = "running" if task.running else f"waits in {task.wait.primitive}" if task.wait.primitive else "not waiting"
    yield f"{indent}* {task.name}  [{state}]"
    # Trio's own frames are the same for every task and hide the task's.
    own = [frame for frame in task.stack if not is_trio(frame)]
    yield from _stack_lines(own or task.stack, indent + "    ")
    for scope in task.scopes:
        yield f"{indent}    cancel scope{_scope_text(scope)}"
    for nursery in task.nurseries:
        yield f"{indent}    nursery{_scope_text(nursery.scope)}: {len(nursery.tasks)} tasks"
        for child in nursery.tasks:
            yield from _task_lines(child, indent + "      ")


def _stack_lines(stack: Sequence[Frame], indent: str) -> Iterator[str]:
    for frame in stack:
        # linecache keeps a file's lines, because a thousand tasks wait in a dozen places.
        source = linecache.getline(frame.file, frame.line).strip()
        yield f"{indent}{short_path(frame.file)}:{frame.line} {frame.function.rpartition('.')[2]}: {source}"


def _scope_text(scope: Scope) -> str:
    parts = [f"in {scope.opened_in}"] if scope.opened_in else []
    if scope.deadline_in is not None:
        parts.append(f"deadline in {scope.deadline_in:.3f} s")
    if scope.shield:
        parts.append("shielded")
    if scope.cancel_called:
        parts.append("cancelled")
    return " " + ", ".join(parts) if parts else ""
