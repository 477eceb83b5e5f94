"""`LoopLag` measures how late the timers of the run loop are: a request that arrives now waits as long for its turn."""

from __future__ import annotations

from collections.abc import Iterator

import trio
from prometheus_client.core import GaugeMetricFamily, Metric

_PERIOD = 0.25


class LoopLag:
    """``seconds`` is the delay of the last timer.

    ::

        loop_lag = LoopLag()
        nursery.start_soon(loop_lag.measure)
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    async def measure(self) -> None:
        """Set a timer again and again and measure its delay, until cancelled."""
        while True:
            # From now on and not from the last moment due: a loop that was held up once is late once.
            due = trio.current_time() + _PERIOD
            await trio.sleep_until(due)
            self.seconds = trio.current_time() - due

    def collect(self) -> Iterator[Metric]:
        """The metric, for Prometheus."""
        yield GaugeMetricFamily("hermes_loop_lag_seconds", "Latest delay of a timer of the run loop", self.seconds)
