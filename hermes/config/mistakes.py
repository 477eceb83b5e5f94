"""Collects the mistakes of a configuration, so that all of them are told at once.

Invariant: a mistake that follows from another one is not told. Where a variable could not be read, its default stands
in its place; what a later check says about this variable would be about the default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import TracebackType

from hermes.errors import ConfigError, PluginError


class Mistakes:
    """What is wrong, in the order in which it was found, each once."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}
        self._unread: set[str] = set()

    def collect(self, variable: str = "") -> _Collecting:
        """Collect a `ConfigError` or `PluginError` of a ``with`` block.

        ``variable`` is the one that the block reads.
        """
        return _Collecting(self, variable)

    def add(self, error: BaseException, variable: str = "") -> bool:
        """Note an error that ended the reading of ``variable``. False: it is no mistake of a configuration."""
        if not isinstance(error, ConfigError | PluginError):
            return False
        mistakes = error.mistakes if isinstance(error, ConfigError) else (str(error),)
        self._found.update((mistake, None) for mistake in mistakes if not self._follows(mistake))
        if variable:
            self._unread.add(variable)
        return True

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_any(self) -> None:
        """Raise `ConfigError` with all mistakes, if there are any."""
        if self._found:
            raise ConfigError(*self._found)

    def _follows(self, mistake: str) -> bool:
        return any(re.search(rf"\b{re.escape(name)}\b", mistake) for name in self._unread)


@dataclass(frozen=True, slots=True)
class _Collecting:
    """One block whose mistake is collected; a class, so that a type checker knows that the block may end early."""

    mistakes: Mistakes
    variable: str

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        return error is not None and self.mistakes.add(error, self.variable)
