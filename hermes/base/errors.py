"""The errors that cross a boundary of Hermes, and who has to act on each.

Invariant: an error of one of these classes is expected, and handled where its docstring says. Any other exception is a
bug: it crashes upward through the nursery tree and ends the process with a traceback, never a silent loss.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping


class HermesError(Exception):
    """The base of every error that Hermes raises on purpose."""


class ConfigError(HermesError):
    """Settings are wrong. The operator acts.

    Each of the ``mistakes`` is one line that names the variable and the accepted values.

    >>> raise ConfigError("SINK_LINES_ADDRESS='nowhere': expected host:port")
    Traceback (most recent call last):
    hermes.base.errors.ConfigError: SINK_LINES_ADDRESS='nowhere': expected host:port
    """

    def __init__(self, *mistakes: str) -> None:
        # One text for a log line; the command line prints `mistakes` a line each.
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class PluginError(HermesError):
    """A plugin cannot be used: not installed, installed twice, or its driver is missing. The operator acts."""


class SinkUnavailable(HermesError):
    """A sink could not take a batch now, but may take the same batch later.

    The engine retries, and the breaker counts a failure. ``retry_after`` is the sink's own wish, in seconds, for the
    pause before the next attempt. ``too_slow`` says that the write exceeded its time-out, so that a smaller batch may
    succeed: the engine halves the batch.

    >>> error = SinkUnavailable("the server is busy", retry_after=5.0)
    >>> str(error), error.retry_after
    ('the server is busy', 5.0)
    """

    def __init__(self, reason: str, *, retry_after: float | None = None, too_slow: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.too_slow = too_slow


class BatchRejected(HermesError):
    """A sink wrote a batch except for some events that the sink will never take.

    ``reasons`` maps the index of each refused event in the batch to the sink's words. Every other event **is written**.
    The engine makes dead letters of the refused events; the breaker counts a success.

    >>> error = BatchRejected({2: "the column amount takes no negative number"})
    >>> str(error)
    '1 events rejected, the first: the column amount takes no negative number'
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} events rejected, the first: {next(iter(reasons.values()), '')}")
        # A copy: the sink may go on changing its own dict.
        self.reasons = dict(reasons)


class LogUnavailable(HermesError):
    """The log's storage does not work now: an I/O error, a stopped database. Nothing was appended; try later."""


class LogFull(LogUnavailable):
    """The log's storage has no room. Nothing was appended; an append succeeds again once there is room."""


class StaleWriter(HermesError):
    """Another writer has appended meanwhile: the expected index is taken. The writer must read the log, or give up.

    ``next_index`` is the next index of the log.
    """

    def __init__(self, expected: int, next_index: int) -> None:
        super().__init__(f"an append at index {expected} was refused: the log is at {next_index}")
        self.next_index = next_index


class LogDamaged(HermesError):
    """A record of the log differs from the record that was written. The operator acts; the message names the remedy."""


# Out of descriptors (of the process, of the machine), socket buffers or memory.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that the machine, or this process, lacks descriptors, memory or threads for the moment.

    A shortage is not a bug: the caller waits and tries again.

    >>> is_shortage(OSError(errno.EMFILE, "Too many open files"))
    True
    """
    if isinstance(error, OSError):
        return error.errno in _SHORTAGES
    # CPython raises a plain RuntimeError here, so only the text tells.
    return isinstance(error, RuntimeError) and str(error) == "can't start new thread"
