"""The task tree on the virtual clock: who is where, under which scopes, and what is left out."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Generator
from typing import Protocol

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hermes.observe.debug import tasks as tasks_module
from hermes.observe.debug.tasks import TaskNode, TaskTree, Wait, take_snapshot
from hermes.observe.debug.tasks_text import render_summary, render_tree
from tests.observe.debug.decoding import decode


async def wait_for(event: trio.Event) -> None:
    await event.wait()  # the line under test


async def hold_scopes(event: trio.Event) -> None:
    with trio.fail_after(30), trio.CancelScope(shield=True):
        await event.wait()


@contextlib.asynccontextmanager
async def open_worker(event: trio.Event) -> AsyncIterator[None]:
    async with trio.open_nursery() as workers:
        workers.start_soon(wait_for, event, name="the worker")
        yield
        workers.cancel_scope.cancel()


async def use_worker(event: trio.Event) -> None:
    async with open_worker(event):
        await event.wait()


def find(tree: TaskTree, name: str) -> TaskNode:
    (task,) = (task for task in tree.tasks() if task.name == name)
    return task


class Task(Protocol):
    __name__: str

    def __call__(self, event: trio.Event, /) -> Awaitable[object]: ...


@contextlib.asynccontextmanager
async def snapshot_of(*functions: Task) -> AsyncIterator[TaskTree]:
    """The tree while these run, each under its function's name; they end afterwards."""
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(function, event, name=function.__name__)
        await wait_all_tasks_blocked()
        yield take_snapshot()
        event.set()


async def test_a_task_is_shown_where_it_waits_and_in_what(mock_clock: MockClock) -> None:
    async with snapshot_of(wait_for) as tree:
        task = find(tree, "wait_for")
    line = wait_for.__code__.co_firstlineno + 1
    assert task.wait == Wait(f"observe/debug/test_tasks.py:{line} wait_for", "trio.Event.wait")
    assert [frame.function for frame in task.stack] == [f"{__name__}.wait_for", "trio._sync.Event.wait"]
    assert not task.running


async def test_the_task_that_asks_is_marked_running(mock_clock: MockClock) -> None:
    tree = take_snapshot()
    (task,) = (task for task in tree.tasks() if task.running)
    assert task.name == trio.lowlevel.current_task().name
    assert task.wait.primitive == "running"
    assert "test_the_task_that_asks_is_marked_running" in [f.function.rpartition(".")[2] for f in task.stack]


async def test_scopes_inside_context_managers_are_found_outermost_first(mock_clock: MockClock) -> None:
    async with snapshot_of(hold_scopes) as tree:
        task = find(tree, "hold_scopes")
    assert [(scope.opened_in, scope.deadline_in, scope.shield) for scope in task.scopes] == [
        ("fail_after", 30.0, False),
        ("hold_scopes", None, True),
    ]


async def test_a_deadline_counts_from_the_snapshot_and_a_cancelled_scope_says_so(mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 10
        mock_clock.jump(4)
        (scope,) = (n.scope for task in take_snapshot().tasks() if task.running for n in task.nurseries[-1:])
        assert scope.deadline_in == pytest.approx(6)
        assert not scope.cancel_called
        nursery.cancel_scope.cancel()
        (scope,) = (n.scope for task in take_snapshot().tasks() if task.running for n in task.nurseries[-1:])
        assert scope.cancel_called


async def test_a_nursery_is_named_after_the_function_that_opened_it(mock_clock: MockClock) -> None:
    async with snapshot_of(use_worker) as tree:
        task = find(tree, "use_worker")
        worker = find(tree, "the worker")
    (nursery,) = task.nurseries
    assert nursery.scope.opened_in == "open_worker"
    assert nursery.tasks == (worker,)


async def test_the_summary_counts_equal_places_together_the_most_first(mock_clock: MockClock) -> None:
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait_for, event)
        await wait_all_tasks_blocked()
        tree = take_snapshot()
        event.set()
    (wait, count), *others = tree.summary().items()
    assert (wait.location.rpartition(" ")[2], wait.primitive, count) == ("wait_for", "trio.Event.wait", 3)
    assert all(count == 1 for _, count in others)
    assert sum(tree.summary().values()) == tree.total


async def test_tasks_beyond_the_bound_are_counted_as_omitted(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_module, "MAX_TASKS", 10)
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(wait_for, event)
        await wait_all_tasks_blocked()
        tree = take_snapshot()
        event.set()
    assert len(list(tree.tasks())) == 10
    assert tree.total == trio.lowlevel.current_statistics().tasks_living + 50
    assert tree.omitted == tree.total - 10
    assert f"{tree.total} tasks, {tree.omitted} of them not shown" in render_tree(tree)


async def test_a_task_that_has_not_begun_stands_at_its_first_line(mock_clock: MockClock) -> None:
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for, event, name="unborn")
        task = find(take_snapshot(), "unborn")
        event.set()
    assert task.wait == Wait(f"observe/debug/test_tasks.py:{wait_for.__code__.co_firstlineno} wait_for", "")


async def test_the_tree_as_text_shows_nurseries_scopes_and_source(mock_clock: MockClock) -> None:
    async with snapshot_of(wait_for, hold_scopes, use_worker) as tree:
        text = render_tree(tree)
    assert "* wait_for  [waits in trio.Event.wait]" in text
    assert ": await event.wait()  # the line under test" in text
    assert "cancel scope in fail_after, deadline in 30.000 s" in text
    assert "cancel scope in hold_scopes, shielded" in text
    lines = [line.strip() for line in text.splitlines()]
    assert lines.index("nursery in open_worker: 1 tasks") + 1 == lines.index("* the worker  [waits in trio.Event.wait]")


async def test_the_summary_as_text_has_a_line_for_each_place(mock_clock: MockClock) -> None:
    async with snapshot_of(wait_for) as tree:
        text = render_summary(tree)
    line = wait_for.__code__.co_firstlineno + 1
    assert f"      1  observe/debug/test_tasks.py:{line} wait_for  trio.Event.wait\n" in text


async def test_json_and_pprof_hold_the_same_tasks(mock_clock: MockClock) -> None:
    async with snapshot_of(wait_for, hold_scopes) as tree:
        document, decoded = json.loads(tree.json()), decode(tree.pprof())
    assert sum(entry["tasks"] for entry in document["summary"]) == tree.total
    assert document["tree"]["root"]["name"] == "<init>"
    assert decoded.sample_types == [("tasks", "count")]
    assert sum(sample.values[0] for sample in decoded.samples) == tree.total
    assert decoded.totals(0)["trio._sync.Event.wait"] == 2


async def test_other_threads_are_in_the_tree() -> None:
    release = trio.Event()

    def wait_in_thread() -> None:
        trio.from_thread.run(release.wait)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, wait_in_thread)
        await wait_all_tasks_blocked(0.05)
        tree = take_snapshot()
        release.set()
    functions = {frame.function.rpartition(".")[2] for thread in tree.threads for frame in thread.stack}
    assert "wait_in_thread" in functions
    assert "wait_in_thread" in render_tree(tree)


class Connection:
    """Awaitable by a method of its own, as Hypercorn's server of a connection is."""

    def __init__(self, event: trio.Event) -> None:
        self.event = event

    def __await__(self) -> Generator[object, object, None]:
        return self.run().__await__()

    async def run(self) -> None:
        with trio.fail_after(5):
            await self.event.wait()


async def await_connection(event: trio.Event) -> None:
    await Connection(event)


async def events(event: trio.Event) -> AsyncIterator[int]:
    with trio.fail_after(7):
        await event.wait()
    yield 1


async def iterate(event: trio.Event) -> None:
    async for _ in events(event):
        pass


@pytest.mark.parametrize(("function", "waiting_in", "deadline"), [(await_connection, "run", 5), (iterate, "events", 7)])
async def test_the_stack_goes_through_awaitables_and_async_generators(
    function: Task, waiting_in: str, deadline: float, mock_clock: MockClock
) -> None:
    async with snapshot_of(function) as tree:
        task = find(tree, function.__name__)
    assert task.wait.location.rpartition(" ")[2] == waiting_in
    assert task.wait.primitive == "trio.Event.wait"
    assert [(scope.opened_in, scope.deadline_in) for scope in task.scopes] == [("fail_after", deadline)]


async def test_a_snapshot_leaves_the_tasks_as_they_were(mock_clock: MockClock) -> None:
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        for function in (wait_for, hold_scopes, use_worker, await_connection, iterate):
            nursery.start_soon(function, event)
        await wait_all_tasks_blocked()
        first = take_snapshot()
        await wait_all_tasks_blocked()
        assert take_snapshot().summary() == first.summary()
        event.set()
    assert len(nursery.child_tasks) == 0
