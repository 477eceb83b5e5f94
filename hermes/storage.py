"""Opens the storage of the service by DURABILITY: the logs and the store of dead letters.

Invariant: with DURABILITY=disk everything is in HERMES_DATA_DIR, with ``postgres`` everything is in DB_DSN, and with
``memory`` nothing outlives the process. `World` lets a simulation put other storage and other sockets in their place.
"""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from hermes.base.errors import ConfigError, LogUnavailable, PluginError
from hermes.base.folders import make_folder
from hermes.dead_letters import DeadLetters, MemoryDeadLetters
from hermes.dead_letters.sqlite import open_sqlite_dead_letters
from hermes.store.log import Log
from hermes.store.log.memory import open_memory_log
from hermes.store.log.sqlite.log import open_sqlite_log
from hermes.store.settings import Storage

EVENTS_LOG = "events"
"""The name of the log under the event journal."""

# The name is also the name of a folder: without a dot or a slash the folder stays in HERMES_DATA_DIR.
LOG_NAME = re.compile("[a-z][a-z0-9-]{0,39}")
# The log of the events had no name at first: its folder stays, so that no journal has to be moved.
_JOURNAL_FOLDER = "journal"
_LOGS_FOLDER = "logs"
DEAD_LETTERS_FILE = "dead-letters.db"


def check_world(storage: Storage) -> None:
    """Check the settings of the storage without opening anything. Raises `PluginError`, `ConfigError`.

    >>> check_world(Storage(durability="postgres", db_dsn="postgresql://localhost:99999/hermes"))
    Traceback (most recent call last):
        ...
    hermes.base.errors.ConfigError: ...
    """
    if storage.durability != "postgres":
        return
    try:
        # Imported here: psycopg is an extra, and only this durability needs the extra.
        from hermes.store.postgres.dsn import check_dsn
    except ModuleNotFoundError as error:
        raise PluginError(
            f"DURABILITY=postgres: no module {error.name!r}. Install it with: pip install 'hermes-events[postgres]'"
        ) from error
    # Only the form of the DSN: a server that is away is no mistake of the settings.
    check_dsn(storage.db_dsn)


def log_folder(data_dir: Path, name: str) -> Path:
    """Return the folder of the log of this name. Raises ValueError for an invalid name.

    >>> log_folder(Path("hermes-data"), "events").as_posix()
    'hermes-data/journal'
    >>> log_folder(Path("hermes-data"), "jobs").as_posix()
    'hermes-data/logs/jobs'
    """
    if not LOG_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name of a log: lower-case letters, digits and hyphens, 40 at most")
    return data_dir / _JOURNAL_FOLDER if name == EVENTS_LOG else data_dir / _LOGS_FOLDER / name


@asynccontextmanager
async def open_log(storage: Storage, name: str) -> AsyncIterator[Log]:
    """Open the log of this name on the storage that DURABILITY names; with ``memory`` the log ends with the block.

    Raises `hermes.ConfigError`, `LogDamaged`, and `LogUnavailable` if Postgres does not answer. ::

        async with open_log(storage, "events") as log:
            index = await log.append([b"one", b"two"])
    """
    folder = log_folder(storage.hermes_data_dir, name)
    if storage.durability == "disk":
        # The data folder by itself, so that its error shows the value of HERMES_DATA_DIR, and not a folder below.
        for each in (storage.hermes_data_dir, folder.parent):
            await trio.to_thread.run_sync(_make_folder, each)
        async with open_sqlite_log(folder) as log:
            yield log
    elif storage.durability == "postgres":
        # Imported here, because psycopg is an extra.
        from hermes.store.log.postgres import open_claimed_postgres_log
        from hermes.store.postgres import UnknownHost

        async with AsyncExitStack() as stack:
            try:
                claimed = await stack.enter_async_context(open_claimed_postgres_log(storage.db_dsn, name))
            except LogUnavailable as error:
                # A host that does not exist is a wrong setting, which ends with exit code 2. A server that is away may
                # come back, and ends with exit code 1.
                if isinstance(error.__cause__, UnknownHost):
                    raise ConfigError(f"DB_DSN=(hidden): {error}; correct the host's name") from None
                # Hidden in both messages, because the DSN may hold a password.
                raise LogUnavailable(
                    f"DB_DSN=(hidden): {error}; start that server, or correct the host, the port and the user"
                ) from None
            yield claimed
    else:
        async with open_memory_log() as forgetful:
            yield forgetful


@asynccontextmanager
async def open_dead_letters(storage: Storage, most: int) -> AsyncIterator[DeadLetters]:
    """Open the store of dead letters on the storage that DURABILITY names. Raises `hermes.ConfigError`."""
    if storage.durability == "disk":
        # On a thread: `make_folder` syncs the folder above, which may take a slow disk long.
        await trio.to_thread.run_sync(_make_folder, storage.hermes_data_dir)
        path = storage.hermes_data_dir / DEAD_LETTERS_FILE
        async with open_sqlite_dead_letters(path, most) as letters:
            yield letters
    elif storage.durability == "postgres":
        # Imported here, because psycopg is an extra.
        from hermes.dead_letters.postgres import open_postgres_dead_letters

        async with open_postgres_dead_letters(storage.db_dsn, most) as shared:
            yield shared
    else:
        yield MemoryDeadLetters(most)


def _make_folder(folder: Path) -> None:
    """Make the folder unless there is one, which stays as it is. Raises `ConfigError` that names the setting."""
    # For this user alone: the events may hold personal data.
    try:
        make_folder(folder)
    except OSError as error:
        raise ConfigError(
            f"HERMES_DATA_DIR={str(folder)!r}: cannot be made: {error.strerror}; name a folder that this user may write"
        ) from error


@dataclass(frozen=True)
class World:
    """The storage of the service, and the sockets of its clients. `REAL` is the world outside of tests.

    ``listeners`` take the place of HTTP_ADDR on the fast lane: listening sockets, which get a reactor as the sockets of
    HTTP_ADDR do, or listeners of streams. A test serves a listener of its own::

        world = World(listeners=[listener])
        async with world.open_log(storage, "events") as log:
            ...
    """

    open_log: Callable[[Storage, str], AbstractAsyncContextManager[Log]] = open_log
    open_dead_letters: Callable[[Storage, int], AbstractAsyncContextManager[DeadLetters]] = open_dead_letters
    listeners: Sequence[socket.socket] | Sequence[trio.abc.Listener[trio.abc.Stream]] | None = None


REAL = World()
