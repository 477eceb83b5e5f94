"""A timer that an epoll can wait on, exact to microseconds: Linux's timerfd.

Invariant: an `Alarm` is armed for one moment at most.
"""

from __future__ import annotations

import ctypes
import os

from hermes.load.schedule import SECOND

# The values are those of <time.h> and <sys/timerfd.h>; the ctypes interface does not export them.
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1

# Trio hands its timeouts to epoll_wait, which counts in milliseconds. At 5,000 requests/s a request is due every 200
# µs, and a send that is late by half a millisecond would show as latency of the server. Python has os.timerfd_create
# from 3.13 on; Hermes still runs on 3.11, so it calls the C library.
_libc = ctypes.CDLL(None, use_errno=True)


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class Alarm:
    """A file descriptor, ``fd``, that is readable from a chosen moment until the next `set`.

    Moments are nanoseconds of ``time.monotonic_ns``::

        alarm = Alarm()
        epoll.register(alarm.fd, select.EPOLLIN)
        alarm.set(time.monotonic_ns() + 200_000)  # readable in 200 µs
    """

    __slots__ = ("_moment", "_spec", "fd")

    def __init__(self) -> None:
        self.fd: int = _checked(_libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC))
        self._spec = _TimerSpec()
        self._moment = 0

    def set(self, moment: int) -> None:
        """Make ``fd`` readable at this moment, and at once if the moment is past. Replaces the moment set before."""
        # The loop sets the same moment many times in a row; skipping it saves a system call each time.
        if moment == self._moment:
            return
        self._moment = moment
        value = self._spec.value
        # A value of 0 would disarm the timer; 1 ns is always past and goes off at once.
        value.seconds, value.nanoseconds = divmod(max(1, moment), SECOND)
        _checked(_libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None))

    def silence(self) -> None:
        """Make ``fd`` unreadable after it went off, so that the epoll stops reporting it."""
        try:
            # A timerfd holds its count of expirations in 8 bytes; a shorter read fails with EINVAL.
            os.read(self.fd, 8)
        # The alarm was set anew between the epoll's answer and this read, so it has not gone off.
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
