"""Finds the store of dead letters that the settings name, for the commands of ``hermes dlq``.

Invariant: nothing is made in a folder whose name is misspelt: a store that is not there is a mistake of the settings.
"""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from hermes.base.errors import ConfigError
from hermes.config import read
from hermes.configuration import read_environment
from hermes.dead_letters import DeadLetters
from hermes.dead_letters.settings import DeadLetterSettings
from hermes.events.settings import EventSettings
from hermes.observe.log_lines import configure_logs
from hermes.settings import Settings, read_settings
from hermes.storage import DEAD_LETTERS_FILE, open_dead_letters
from hermes.store.settings import Storage


@dataclass(frozen=True)
class LetterStore:
    """The store of dead letters of a service: its storage, how many letters it keeps, and the sinks in SINKS.

    ::

        async with find_store().open() as store:
            letters = await store.page(Selection())
    """

    storage: Storage
    most: int
    sinks: tuple[str, ...]

    def open(self) -> AbstractAsyncContextManager[DeadLetters]:
        """Open the store for the time of a block. Raises `ConfigError`."""
        return open_dead_letters(self.storage, self.most)


def find_store() -> LetterStore:
    """Return the store that the environment and the file of settings name. Raises `ConfigError`."""
    sources = read_environment(os.environ)
    # These groups alone: a mistake in the settings of a sink must not keep the operator from the letters.
    return store_of(read_settings(sources), read(DeadLetterSettings, sources), read(EventSettings, sources))


def store_of(settings: Settings, letters: DeadLetterSettings, events: EventSettings) -> LetterStore:
    """Return the store of these settings, and begin to log by them. Raises `ConfigError` if there is no store."""
    storage = settings.storage
    if storage.durability == "memory":
        raise ConfigError(
            "DURABILITY='memory': the dead letters live in the running service, which has them over HTTP at "
            "/dead-letters of ADMIN_ADDR"
        )
    # Opening a store that does not exist would create an empty one, and report that nothing was refused.
    if storage.durability == "disk" and not (storage.hermes_data_dir / DEAD_LETTERS_FILE).exists():
        raise ConfigError(
            f"HERMES_DATA_DIR={str(storage.hermes_data_dir)!r}: no {DEAD_LETTERS_FILE} is there; name the folder "
            "that the service runs with"
        )
    configure_logs(settings.logs.log_level, settings.logs.log_format)
    return LetterStore(storage, letters.dead_letters, events.sink_names(storage))
