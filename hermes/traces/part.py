"""Traces as a part: spans of requests and of the work for them, exported until all that was traced has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from hermes.cleanup import seconds_left
from hermes.config import Settings
from hermes.part import Inside, NoSettings, Part, RunningPart
from hermes.traces import check_traces, open_traces

_LAST_SPANS_SECONDS = 5.0  # a receiver that is slow does not keep a stop for longer
_SHARE = 0.5  # of the time that a stop has left

if TYPE_CHECKING:
    from hermes.core import Core


@asynccontextmanager
async def open_part(_settings: NoSettings, core: Core) -> AsyncIterator[RunningPart]:
    """Open the export to TRACES_ENDPOINT. The value of the part is a `Spans`, or None without an endpoint."""
    async with open_traces(core.settings) as traces:
        if traces is None:
            yield RunningPart()
            return

        async def run(inside: Inside) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(traces.run)
                try:
                    await inside()
                finally:
                    traces.close(min(_LAST_SPANS_SECONDS, seconds_left() * _SHARE))

        yield RunningPart(value=traces.spans, run=run, metrics=(traces.metrics,))


def _check(_settings: NoSettings, service: Settings) -> None:
    check_traces(service)


TRACES = Part("traces", "Exports OpenTelemetry spans, where TRACES_ENDPOINT is set", open_part, check=_check)
