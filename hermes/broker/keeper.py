"""Takes snapshots of the machine, and trims the log behind them.

Invariants: an entry is trimmed only when a snapshot stands for it and no retained message has its payload there; a
snapshot that fails is tried again, and loses nothing.
"""

from __future__ import annotations

import structlog
import trio

from hermes.base.errors import HermesError
from hermes.broker.machine.machine import Machine
from hermes.broker.machine.snapshot import dump
from hermes.broker.payloads import Payloads
from hermes.store.log import Log

_log = structlog.get_logger("hermes.broker")

SNAPSHOT_BYTES = 64 * 2**20
SNAPSHOT_ENTRIES = 50_000
"""So much is appended between two snapshots, and so at most so much is read after a crash."""
_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 30.0


class Keeper:
    """Keeps the log of a machine short. ::

    nursery.start_soon(Keeper(log, machine, payloads).run)
    """

    def __init__(self, log: Log, machine: Machine, payloads: Payloads) -> None:
        self._log = log
        self._machine = machine
        self._payloads = payloads
        self._at = log.snapshot.index if log.snapshot is not None else 0
        self._bytes = log.statistics().bytes

    async def run(self) -> None:
        """Look every second whether a snapshot is due, until cancelled."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            if not self._is_due():
                continue
            try:
                await self.keep()
            except HermesError as error:
                _log.error("no snapshot of the broker could be taken", reason=str(error))
                # Each try dumps the whole state, and a disk that is full stays so for a while.
                await trio.sleep(_PAUSE_SECONDS)

    def _is_due(self) -> bool:
        grown = self._log.statistics().bytes - self._bytes
        return grown >= SNAPSHOT_BYTES or self._machine.next_index - self._at >= SNAPSHOT_ENTRIES

    async def keep(self) -> None:
        """Take a snapshot now, and trim the log."""
        # Before the dump, which is of the moment of its call.
        index = self._machine.next_index
        chunks = []
        for chunk in dump(self._machine):
            chunks.append(chunk)
            # The machine goes on; the snapshot stays that of `index`.
            await trio.lowlevel.checkpoint()
        # On a thread: Python lets go of its lock for a join of more than a megabyte, and the loop goes on.
        await self._log.take_snapshot(index, await trio.to_thread.run_sync(b"".join, chunks))
        # After the snapshot: a crash between the two leaves entries that nobody needs, and takes none that is needed.
        await self._log.trim(self._lowest_needed(index))
        # Counted after the trim, which made the log smaller.
        self._at, self._bytes = index, self._log.statistics().bytes

    def _lowest_needed(self, index: int) -> int:
        """The lowest index that is still needed, at most ``index``."""
        # A message of an automatic poll is done, and retained no more, before its payload has been sent.
        pinned = self._payloads.lowest_pinned
        needed = [each for each in (pinned, self._machine.lowest_record) if each is not None]
        return min([index, *needed])
