"""Replays dead letters for ``hermes dlq replay``: opens the sinks, keeps their time-outs and shows the progress.

Invariant: only a sink that has letters is opened, and a write is bounded as in the service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial

import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from hermes.base.errors import SinkUnavailable
from hermes.cli.dlq_store import LetterStore
from hermes.dead_letters import Selection, Source
from hermes.dead_letters.replay import Replayed, replay
from hermes.events.configured_sinks import ConfiguredSink
from hermes.events.event import Batch
from hermes.events.letters import sink_source, sink_target
from hermes.events.sink import Sink, variable_prefix


async def replay_to_sinks(
    where: LetterStore,
    sinks: Sequence[ConfiguredSink],
    selection: Selection,
    rate: float | None,
    dry_run: bool,
    show: Callable[[Replayed], None],
) -> list[Replayed]:
    """Replay each matching letter to its sink, if that is one of ``sinks``. Raises the errors of `replay`."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(where.open())
        # Counted by sink first, to open only the sinks that are needed.
        wanted = await store.count(selection)
        targets = {}
        for sink in sinks:
            source = sink_source(sink.name)
            # Opening connects; a sink without letters may be down without harm.
            if source in wanted:
                opened = await stack.enter_async_context(sink.open(where.storage))
                targets[source] = sink_target(partial(_write, sink, opened), opened.max_batch)
        return await replay(store, selection, targets, rate=rate, dry_run=dry_run, on_progress=show)


async def _write(configured: ConfiguredSink, sink: Sink, batch: Batch) -> None:
    """Write a batch within the sink's time-out, as the service does."""
    # Behind the block the time was up: the scope swallows its own cancellation, and every other error leaves.
    with trio.move_on_after(configured.delivery.timeout):
        await sink.write(batch)
        return
    raise SinkUnavailable(f"no answer within {variable_prefix(configured.name)}TIMEOUT")


@contextmanager
def show_progress() -> Iterator[Callable[[Replayed], None]]:
    """Yield a function that draws the progress of a replay: one bar for each sink, only on a terminal."""
    # stdout has the result alone, which a program may read.
    console = Console(stderr=True)
    columns = (
        # The name of a source may have brackets, which rich would read as markup.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[refused]} refused"),
        TimeRemainingColumn(),
    )
    tasks: dict[Source, TaskID] = {}
    # auto_refresh would start a thread; a drawing after each batch is enough.
    with Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal) as bars:

        def show(outcome: Replayed) -> None:
            tried = outcome.delivered + outcome.refused
            # `replay` first calls this before the first write, so `left` is the number of all letters of the source.
            if outcome.source not in tasks:
                tasks[outcome.source] = bars.add_task(outcome.source.name, total=outcome.left, refused=0)
            bars.update(tasks[outcome.source], completed=tried, refused=outcome.refused, refresh=True)

        yield show
