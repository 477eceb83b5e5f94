"""What the service stands on: where its journal and its dead letters are kept, and where its clients come from.

The defaults are the real things, chosen by DURABILITY; a simulation lends others. Invariant: with DURABILITY=disk
everything is in HERMES_DATA_DIR, with ``postgres`` in DB_DSN, with ``memory`` nothing is kept. Called by the app.
"""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from hermes.config import Settings
from hermes.dead_letters import DeadLetters, MemoryDeadLetters
from hermes.dead_letters.sqlite import open_sqlite_dead_letters
from hermes.errors import ConfigError, LogUnavailable, PluginError
from hermes.folders import make_folder
from hermes.log import Log
from hermes.log.memory import open_memory_log
from hermes.log.sqlite import open_sqlite_log

EVENTS_LOG = "events"
"""The name of the log under the event journal."""

LOG_NAME = re.compile("[a-z][a-z0-9-]{0,39}")
_JOURNAL_FOLDER = "journal"  # of the log of the events, which had no name at first
_LOGS_FOLDER = "logs"  # of all other logs
DEAD_LETTERS_FILE = "dead-letters.db"


def check_world(settings: Settings) -> None:
    """Raises `PluginError` and `ConfigError` for what can be told to be wrong without opening anything."""
    if settings.durability != "postgres":
        return
    try:
        from hermes.postgres.dsn import check_dsn
    except ModuleNotFoundError as error:
        raise PluginError(
            f"DURABILITY=postgres: no module {error.name!r}. Install it with: pip install 'hermes-events[postgres]'"
        ) from error
    check_dsn(settings.db_dsn)


def log_folder(data_dir: Path, name: str) -> Path:
    """Where the log of this name is kept on disk.

    log_folder(Path("hermes-data"), "events")   # hermes-data/journal
    log_folder(Path("hermes-data"), "jobs")     # hermes-data/logs/jobs
    """
    if not LOG_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a log: lower-case letters, digits and hyphens, 40 at most")
    return data_dir / _JOURNAL_FOLDER if name == EVENTS_LOG else data_dir / _LOGS_FOLDER / name


@asynccontextmanager
async def open_log(settings: Settings, name: str) -> AsyncIterator[Log]:
    """The log of this name, on the storage that DURABILITY says; with ``memory`` it ends with the block.

    Raises `hermes.ConfigError`, `LogDamaged`, and `LogUnavailable` where Postgres does not answer.
    """
    folder = log_folder(settings.hermes_data_dir, name)
    if settings.durability == "disk":
        for each in (settings.hermes_data_dir, folder.parent):
            await trio.to_thread.run_sync(_make_folder, each)
        async with open_sqlite_log(folder) as log:
            yield log
    elif settings.durability == "postgres":
        from hermes.log.postgres import open_claimed_postgres_log  # its driver is an extra
        from hermes.postgres import UnknownHost

        async with AsyncExitStack() as stack:
            try:
                claimed = await stack.enter_async_context(open_claimed_postgres_log(settings.db_dsn, name))
            except LogUnavailable as error:
                if isinstance(error.__cause__, UnknownHost):
                    raise ConfigError(f"DB_DSN=(hidden): {error}; correct the host's name") from None
                raise LogUnavailable(
                    f"DB_DSN=(hidden): {error}; start that server, or correct the host, the port and the user"
                ) from None
            yield claimed
    else:
        async with open_memory_log() as forgetful:
            yield forgetful


@asynccontextmanager
async def open_dead_letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    """The store of dead letters. Raises `hermes.ConfigError`."""
    if settings.durability == "disk":
        await trio.to_thread.run_sync(_make_folder, settings.hermes_data_dir)
        path = settings.hermes_data_dir / DEAD_LETTERS_FILE
        async with open_sqlite_dead_letters(path, settings.dead_letters) as letters:
            yield letters
    elif settings.durability == "postgres":
        from hermes.dead_letters.postgres import open_postgres_dead_letters  # its driver is an extra

        async with open_postgres_dead_letters(settings.db_dsn, settings.dead_letters) as shared:
            yield shared
    else:
        yield MemoryDeadLetters(settings.dead_letters)


def _make_folder(folder: Path) -> None:
    """For this user alone, for events are nobody else's business; one that is there stays as it is."""
    try:
        make_folder(folder)
    except OSError as error:
        raise ConfigError(
            f"HERMES_DATA_DIR={str(folder)!r}: cannot be made: {error.strerror}; name a folder that this user may write"
        ) from error


@dataclass(frozen=True)
class World:
    """The outside of the service.

    ``listeners`` are the fast lane's, in the place of HTTP_ADDR: listening sockets, which get a reactor as those of
    HTTP_ADDR do, or listeners of streams.
    """

    open_log: Callable[[Settings, str], AbstractAsyncContextManager[Log]] = open_log
    open_dead_letters: Callable[[Settings], AbstractAsyncContextManager[DeadLetters]] = open_dead_letters
    listeners: Sequence[socket.socket] | Sequence[trio.abc.Listener[trio.abc.Stream]] | None = None


REAL = World()
