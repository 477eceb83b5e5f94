"""Discards every event: for trying Hermes out, and for measuring Hermes without a database.

Invariant: every write succeeds. This sink runs if neither SINKS nor DB_DSN is set.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from hermes import Batch, SinkPlugin, Storage
from hermes.config import NoSettings


class NullSink:
    """A sink whose writes succeed at once and discard the events.

    ::

        await NullSink().write(batch)
    """

    max_batch = 100_000
    concurrency = 1

    async def write(self, batch: Batch) -> None:  # noqa: ARG002  the batch is discarded
        """Drop the batch."""
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_null(_settings: NoSettings, _storage: Storage) -> AsyncIterator[NullSink]:
    """Open the sink, which needs no resource."""
    await trio.lowlevel.checkpoint()
    yield NullSink()


plugin = SinkPlugin(open_null, summary="keeps nothing")
