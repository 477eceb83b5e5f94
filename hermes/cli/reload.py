"""Reads the keys and the certificate anew without a restart, on SIGHUP or when one of their files changes.

Invariant: a reload changes everything that it can or nothing, and breaks no connection. Wrong settings, or files that
do not fit each other because only one of them is there yet, leave everything as it is, and are read again later. The
log names the variables that have changed and wait for a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog
import trio

from hermes.base.errors import ConfigError, PluginError
from hermes.configuration import Configuration
from hermes.console.operator import configure, explained, one_line
from hermes.net.http.access import Access

LOOK_SECONDS = 5.0
"""Seconds between two looks at the files."""

_KEYS = ("api_keys", "admin_keys")

_log = structlog.get_logger("hermes")

_Seen = Sequence[tuple[int, int, int, int] | None]


class Reloader:
    """Reloads the keys and the certificate of a running service that was started with this configuration.

    ::

        reloader = Reloader(configuration, running.edges.access)
        nursery.start_soon(reloader.run)
        reloader.ask()  # on SIGHUP
    """

    def __init__(self, configuration: Configuration, access: Access) -> None:
        self._now = configuration
        self._access = access
        self._asked = trio.Event()
        self._files = _files_of(configuration)
        self._seen: _Seen = _look_at(self._files)
        self._failure = ""

    def ask(self) -> None:
        """Reload now, whether a file has changed or not."""
        self._asked.set()

    async def run(self) -> None:
        """Reload after each `ask` and each change of a file, until cancelled."""
        while True:
            # Whichever comes first: a signal, or the time of the next look.
            with trio.move_on_after(LOOK_SECONDS):
                await self._asked.wait()
            # A new event before the reload, so that a signal during the reload causes another one.
            asked, self._asked = self._asked.is_set(), trio.Event()
            await self.look(asked=asked)

    async def look(self, *, asked: bool = False) -> None:
        """Reload if a file has changed since it was last read, or after an `ask`."""
        # A folder of secrets may be on a disk that hangs. A stop must not wait for the disk.
        seen = await trio.to_thread.run_sync(_look_at, self._files, abandon_on_cancel=True)
        # An `ask` reads the files even if they look unchanged.
        if not asked and seen == self._seen:
            return
        try:
            await self._reload()
        except (ConfigError, PluginError) as error:
            mistakes = error.mistakes if isinstance(error, ConfigError) else (str(error),)
            # On a thread: the place of a mistake comes from the file, which is read once more.
            told = await trio.to_thread.run_sync(explained, mistakes, abandon_on_cancel=True)
            reason = one_line("; ".join(told))
            # A fault that lasts is logged once, not every five seconds; a person who asked gets an answer each time.
            if asked or reason != self._failure:
                _log.error("nothing was reloaded", reason=reason)
            # `_seen` stays as it was, so that the next look reads the files again.
            self._failure = reason
        else:
            # The look from before the reload: a file that changed during the reload is read once more.
            self._seen, self._failure = seen, ""

    async def _reload(self) -> None:
        # On a thread: reading settings imports sinks and reads files.
        after = await trio.to_thread.run_sync(configure, self._now.names, abandon_on_cancel=True)
        gone = self._now.sources
        # Without its file the service would be told that nothing is wrong, and would not start again as it runs now.
        if gone.file is not None and after.sources.file is None:
            raise ConfigError(f"{gone.path}: is not there any more; put it back, or restart to run without it")
        access = after.settings.access
        # First the certificate, which may fail; the keys are changed after it without a further error.
        certificate = self._access.certificate
        if certificate is not None:
            # On a thread: the files may be on a disk that hangs, and the service goes on meanwhile.
            await trio.to_thread.run_sync(certificate.renew, abandon_on_cancel=True)
        before = self._now
        # The OpenAPI documents and the pages say whether a key is needed, and were made at the start. So a reload
        # replaces keys, but neither adds the first one nor removes the last one.
        keys = {
            name: getattr(access, name)
            for name in _KEYS
            if bool(getattr(access, name)) == bool(getattr(before.settings.access, name))
        }
        now = msgspec.structs.replace(before.settings.access, **keys)
        # Only the keys were replaced, so a later reload still reports the other changes.
        self._now = replace(before, settings=replace(before.settings, access=now))
        # A changed file of settings may name other files.
        self._files = _files_of(after)
        changed = [name.upper() for name in keys if getattr(now, name) != getattr(before.settings.access, name)]
        self._access.change_keys(now.api_keys, now.admin_keys)
        read = {} if after.sources.file is None else {"config": str(after.sources.file.path)}
        _log.info("reloaded", keys=changed, certificate=certificate is not None, **read)
        if waiting := sorted(_differences(self._now, after)):
            _log.warning("a changed setting waits for the next start", variables=waiting)


def _files_of(configuration: Configuration) -> list[str]:
    """Return the files that the settings were read from, and the files of the certificate."""
    names = [f"{variable.name}_FILE" for variable in configuration.variables()]
    files = [path for name in names if (path := configuration.sources.get(name))]
    # Also a file that is not there yet: a later one would have an effect on the next start.
    files += [str(path) for path in (configuration.sources.path,) if path is not None]
    access = configuration.settings.access
    return files + [path for path in (access.tls_cert, access.tls_key) if path]


def _look_at(files: Sequence[str]) -> _Seen:
    """Return a value for each file that changes with its content.

    Links are followed, because a mounted secret is a link.
    """
    seen: list[tuple[int, int, int, int] | None] = []
    for path in files:
        try:
            found = Path(path).stat()
        except OSError:
            # A missing file is a state too: its return is a change.
            seen.append(None)
        else:
            # The inode too: a file that was renamed into this place may be as large, and older.
            seen.append((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))
    return seen


def _differences(before: Configuration, after: Configuration) -> set[str]:
    """Return the variables whose values differ."""
    # By both: two sinks of one plugin differ by the prefix, the groups of one sink by the type.
    now = {(group.prefix, type(group.values)): group.values for group in after.groups()}
    return {
        (group.prefix + name).upper()
        for group in before.groups()
        if (values := now.get((group.prefix, type(group.values)))) is not None
        for name in group.values.__struct_fields__
        if getattr(group.values, name) != getattr(values, name)
    }
