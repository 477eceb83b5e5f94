"""The sink that keeps nothing: for trying Hermes out, and for measuring everything in front of a database.

Invariant: every write succeeds. It is what runs where neither SINKS nor DB_DSN is set.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from hermes import Batch, SinkPlugin
from hermes.config import NoSettings, Settings


class NullSink:
    """A sink whose writes succeed at once; the events are gone."""

    max_batch = 100_000
    concurrency = 1

    async def write(self, batch: Batch) -> None:  # noqa: ARG002  nothing is done with it
        """Drop the batch."""
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_null(_settings: NoSettings, _service: Settings) -> AsyncIterator[NullSink]:
    """Open the sink; nothing is needed and nothing is left."""
    await trio.lowlevel.checkpoint()
    yield NullSink()


plugin = SinkPlugin(open_null, summary="keeps nothing")
