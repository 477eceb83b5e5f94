"""Collects the mistakes of a configuration, so that the operator reads all of them at once.

Invariant: a mistake that follows from another one is not reported. The default stands for a variable that could not be
read; a later check of this variable would report a fault of the default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import TracebackType

from hermes.base.errors import ConfigError, PluginError


class Mistakes:
    """The mistakes of a configuration, in the order of their discovery, each once.

    >>> mistakes = Mistakes()
    >>> with mistakes.collect("QUEUE_SIZE"):
    ...     raise ConfigError("QUEUE_SIZE='many': expected a whole number")
    >>> mistakes.raise_any()
    Traceback (most recent call last):
    hermes.base.errors.ConfigError: QUEUE_SIZE='many': expected a whole number
    """

    def __init__(self) -> None:
        # A dict keeps the order and drops a mistake that two checks report.
        self._found: dict[str, None] = {}
        self._unread: set[str] = set()

    def collect(self, variable: str = "") -> _Collecting:
        """Collect a `ConfigError` or `PluginError` of a ``with`` block, which reads ``variable``."""
        return _Collecting(self, variable)

    def add(self, error: BaseException, variable: str = "") -> bool:
        """Note an error that ended the reading of ``variable``. Returns False if the error is not a mistake of a
        configuration.
        """
        # A bug is no mistake of the operator: the error leaves the block, and the start ends with a traceback.
        if not isinstance(error, ConfigError | PluginError):
            return False
        # A `ConfigError` may hold several mistakes, each a line of its own.
        mistakes = error.mistakes if isinstance(error, ConfigError) else (str(error),)
        # Filter first, mark second: the variable's own mistake names the variable, and must not count as a consequence.
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
        # Whole words only: DB_DSN must not hide a mistake of SINK_DB_DSN.
        return any(re.search(rf"\b{re.escape(name)}\b", mistake) for name in self._unread)


@dataclass(frozen=True, slots=True)
class _Collecting:
    """One block whose mistake is collected.

    A class instead of a generator: from the return type of ``__exit__`` a type checker knows that the block may end
    early.
    """

    mistakes: Mistakes
    variable: str

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        return error is not None and self.mistakes.add(error, self.variable)
