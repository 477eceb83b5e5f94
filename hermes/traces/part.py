"""Declares the traces as a part of the service: opens them, and exports until every traced part has ended.

Invariant: the export ends after the parts that make spans, so that their last spans are exported too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from hermes.base.cleanup import seconds_left
from hermes.config import Group, Mistakes
from hermes.part import Inside, Part, ReadSettings, RunningPart
from hermes.settings import Settings
from hermes.traces import check_traces, open_traces
from hermes.traces.settings import TraceSettings, collect_trace_settings

# A slow receiver delays a stop by no more than this.
_LAST_SPANS_SECONDS = 5.0
# Of the time that the stop has left, so that what closes after the traces gets time too.
_SHARE = 0.5

if TYPE_CHECKING:
    from hermes.core import Core


@asynccontextmanager
async def open_part(settings: TraceSettings, _core: Core) -> AsyncIterator[RunningPart]:
    """Open the export to TRACES_ENDPOINT. The value of the part is a `Spans`, or None without an endpoint."""
    async with open_traces(settings) as traces:
        if traces is None:
            # The part is there without a value: other parts may need it whether traces are exported or not.
            yield RunningPart()
            return

        async def run(inside: Inside) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(traces.run)
                try:
                    # The parts that make spans run inside: when they have ended, no further span comes.
                    await inside()
                finally:
                    traces.close(min(_LAST_SPANS_SECONDS, seconds_left() * _SHARE))

        yield RunningPart(value=traces.spans, run=run, metrics=(traces.metrics,))


def _configure(environ: Mapping[str, str], _service: Settings, mistakes: Mistakes) -> ReadSettings:
    settings = collect_trace_settings(environ, mistakes)
    return ReadSettings(settings, (Group(settings),))


def _check(settings: TraceSettings, _service: Settings) -> None:
    check_traces(settings)


TRACES = Part(
    "traces",
    "Exports OpenTelemetry spans, where TRACES_ENDPOINT is set",
    open_part,
    settings=TraceSettings,
    check=_check,
    configure=_configure,
)
