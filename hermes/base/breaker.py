"""The circuit breaker: decides whether a call may reach a sink now. A pure state machine; the time is an argument.

The engine has one breaker for each sink, and reports every call: `Breaker.allow` before the call, and exactly one of
`succeeded`, `failed` and `abandoned` after it.

Invariants: no call is allowed in the `open_for` seconds after the breaker opened; a half-open breaker has one call
under way, and the result of this call decides. So a trial starts only after the earlier calls have ended; their results
change nothing while the breaker is open.
"""

import math
from enum import Enum, IntEnum


class BreakerState(IntEnum):
    """The state of a breaker. The values are the values of the metric `hermes_db_circuit_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class BreakerEvent(Enum):
    """The events that move the breaker.

    The failure that completes a row of `failures` is `FAILED_TOO_OFTEN`; other failures are `FAILED`.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FAILED_TOO_OFTEN = "failed too often"
    ABANDONED = "abandoned"
    TRIAL_STARTED = "trial started"


_CLOSED, _HALF_OPEN, _OPEN = BreakerState

TRANSITIONS: dict[tuple[BreakerState, BreakerEvent], BreakerState] = {
    (_CLOSED, BreakerEvent.SUCCEEDED): _CLOSED,
    (_CLOSED, BreakerEvent.FAILED): _CLOSED,
    (_CLOSED, BreakerEvent.FAILED_TOO_OFTEN): _OPEN,
    (_CLOSED, BreakerEvent.ABANDONED): _CLOSED,
    # A call that was allowed before the breaker opened. Its result says nothing about the present state of the sink.
    (_OPEN, BreakerEvent.SUCCEEDED): _OPEN,
    (_OPEN, BreakerEvent.FAILED): _OPEN,
    (_OPEN, BreakerEvent.ABANDONED): _OPEN,
    (_OPEN, BreakerEvent.TRIAL_STARTED): _HALF_OPEN,
    # The trial.
    (_HALF_OPEN, BreakerEvent.SUCCEEDED): _CLOSED,
    (_HALF_OPEN, BreakerEvent.FAILED): _OPEN,
    # The trial has no result, so the next call is another one.
    (_HALF_OPEN, BreakerEvent.ABANDONED): _HALF_OPEN,
    (_HALF_OPEN, BreakerEvent.TRIAL_STARTED): _HALF_OPEN,
}
"""Every transition. A pair that is missing cannot happen: `Breaker` would raise KeyError."""


class Breaker:
    """Opens after so many failed calls in a row, and tries again one call at a time.

    ::

        if not breaker.allow(now):
            ...  # refused and counted in `rejects`
        # make the call, then exactly one of:
        breaker.succeeded(now)
        breaker.failed(now)
        breaker.abandoned(now)  # it was cancelled and has no result

    `now` is in seconds, of any clock that does not run backwards.

    Args:
        failures: consecutive failures that open the breaker, 1 or more.
        open_for: seconds for which no call is allowed then, 0 or more.

    Raises:
        ValueError: an argument is out of its range.

    """

    def __init__(self, failures: int = 3, open_for: float = 30.0) -> None:
        if failures < 1:
            raise ValueError(f"failures is {failures}; give 1 or more")
        # Not `<`: NaN compares false with everything, and must be refused.
        if not open_for >= 0:
            raise ValueError(f"open_for is {open_for}; give 0 or more seconds")
        self._failures = failures
        self._open_for = open_for
        self._state = BreakerState.CLOSED
        self._failed_in_a_row = 0
        # Minus infinity: a breaker that never opened has no pause left.
        # The end of the last open window.
        self._retry_at = -math.inf
        # Calls that were allowed and have not ended.
        self._under_way = 0
        self._rejects = 0

    @property
    def state(self) -> BreakerState:
        """The present state. An open breaker turns half-open with the first trial, not by the mere passing of time."""
        return self._state

    @property
    def rejects(self) -> int:
        """The number of calls that were refused, since the beginning."""
        return self._rejects

    def remaining(self, now: float) -> float:
        """Return the seconds until the next trial at the earliest; 0 unless the breaker is open.

        At 0 a call may still be refused, because another call is under way. So a waiting caller must also pause by
        itself.
        """
        return max(0.0, self._retry_at - now)

    def allow(self, now: float) -> bool:
        """Return whether a call may be made now. An allowed call is under way until its end is reported.

        A refused call is counted.
        """
        if self._state is not BreakerState.CLOSED:
            # A call from before the breaker opened counts too: with two calls under way, the first result would decide.
            if self._under_way or self.remaining(now) > 0:
                self._rejects += 1
                return False
            # Here, at the first call after the pause: no timer is needed, and an idle sink stays open in the metric.
            self._move(BreakerEvent.TRIAL_STARTED, now)
        self._under_way += 1
        return True

    def succeeded(self, now: float) -> None:
        """Report that a call has succeeded. Raises RuntimeError if no call is under way, as the next two methods do."""
        self._end_call()
        self._failed_in_a_row = 0
        self._move(BreakerEvent.SUCCEEDED, now)

    def failed(self, now: float) -> None:
        """Report that a call has failed."""
        self._end_call()
        self._failed_in_a_row += 1
        too_often = self._state is BreakerState.CLOSED and self._failed_in_a_row >= self._failures
        self._move(BreakerEvent.FAILED_TOO_OFTEN if too_often else BreakerEvent.FAILED, now)

    def abandoned(self, now: float) -> None:
        """Report that a call was cancelled without a result. The row of failures goes on; a trial may be repeated."""
        self._end_call()
        self._move(BreakerEvent.ABANDONED, now)

    def _end_call(self) -> None:
        if not self._under_way:
            raise RuntimeError("a call has ended that was never allowed; report each allowed call exactly once")
        self._under_way -= 1

    def _move(self, event: BreakerEvent, now: float) -> None:
        before, self._state = self._state, TRANSITIONS[self._state, event]
        # Only on the way into OPEN: a late failure of an old call must not make the pause longer.
        if self._state is BreakerState.OPEN is not before:
            self._retry_at = now + self._open_for
