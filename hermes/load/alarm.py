"""A timer that an epoll can wait on, exact to microseconds: Linux's timerfd.

Trio hands its timeouts to ``epoll_wait``, which counts in milliseconds; at 5,000 requests/s one is due every 200 µs,
and a send that is late by half a millisecond would show as latency of the server.

Invariant: armed for one moment at most. Python has ``os.timerfd_create`` from 3.13 on; until that is the oldest version
Hermes runs on, the C library is called directly. The client's loop uses it.
"""

from __future__ import annotations

import ctypes
import os

from hermes.load.schedule import SECOND

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1

_libc = ctypes.CDLL(None, use_errno=True)


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class Alarm:
    """A file descriptor, ``fd``, that is readable from the moment it was set for until it is set again.

    Moments are nanoseconds of ``time.monotonic_ns``.
    """

    __slots__ = ("_moment", "_spec", "fd")

    def __init__(self) -> None:
        self.fd: int = _checked(_libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC))
        self._spec = _TimerSpec()
        self._moment = 0

    def set(self, moment: int) -> None:
        """Go off at this moment and at no other; at once if it is past."""
        if moment == self._moment:
            return
        self._moment = moment
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(max(1, moment), SECOND)
        _checked(_libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None))

    def silence(self) -> None:
        """Be readable no longer, after it went off."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return
        self._moment = 0

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
