"""One run of the generator: finds the target, runs the loop, reports progress, stops on a signal.

Invariant: the loop's sockets are closed however the run ends.
"""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Iterable
from contextlib import closing
from signal import Signals

import trio

from hermes.load.connection import Address, failure_kind
from hermes.load.options import LoadError, Options, Target
from hermes.load.reactor import Progress, Reactor
from hermes.load.tally import Summary

CONNECT_TIMEOUT = 5.0
# The process has files of its own: the standard streams, two epolls, the timer, Trio's wake-up sockets.
_SPARE_DESCRIPTORS = 32


async def run_load(
    options: Options,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    progress_interval: float = 0.2,
    stop_on: Iterable[Signals] = (),
) -> Summary:
    """Generate load as ``options`` say and return the counts.

    ``on_progress`` is called every ``progress_interval`` seconds, in the loop that also sends: keep it well under a
    millisecond. One of the signals ``stop_on`` ends the run early (``Summary.interrupted``); later signals have their
    usual effect. Raises `LoadError` if no first connection can be made::

        summary = await run_load(Options(url="http://127.0.0.1:8080/events", connections=8, total=1000))
        print(summary.requests_per_second, summary.latency.p99)
    """
    requests = iter(options.requests())
    # A probe connection finds a wrong host or a stopped server before the run; the reactor would only count the
    # failures.
    family, address = await _reach(options.target, options.connections)
    with closing(Reactor(options, requests.__next__, family, address)) as reactor:
        async with trio.open_nursery() as nursery:
            if signals := tuple(stop_on):
                # `start` returns once the handler is installed, so a signal cannot arrive before it.
                await nursery.start(_cancel_on_signal, nursery.cancel_scope, signals)
            if on_progress is not None:
                nursery.start_soon(_report, reactor, on_progress, progress_interval)
            await reactor.run()
            nursery.cancel_scope.cancel()
        return reactor.summary()


async def _cancel_on_signal(
    scope: trio.CancelScope,
    signals: tuple[Signals, ...],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(*signals) as received:
        task_status.started()
        async for _ in received:
            # Once: without the handler a second signal ends a run that does not end by itself.
            scope.cancel()
            return


async def _report(reactor: Reactor, on_progress: Callable[[Progress], None], interval: float) -> None:
    while True:
        await trio.sleep(interval)
        on_progress(reactor.progress())


async def _reach(target: Target, connections: int) -> tuple[socket.AddressFamily, Address]:
    """Return the family and address of the first candidate that accepts a connection. Raises `LoadError`."""
    # Checked first: the run would end in thousands of failed connections, with a cause that is hard to see.
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and connections + _SPARE_DESCRIPTORS > soft:
        raise LoadError(
            f"{connections} connections need more open files than the limit of {soft}; raise it with "
            f"`ulimit -n {connections + _SPARE_DESCRIPTORS}` or use fewer --connections"
        )
    where = f"http://{target.authority}"
    reason = "no address"
    try:
        candidates = await trio.socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise LoadError(f"cannot find the host of {where}: {error}") from error
    for family, kind, protocol, _, address in candidates:
        with trio.socket.socket(family, kind, protocol) as sock, trio.move_on_after(CONNECT_TIMEOUT) as scope:
            try:
                await sock.connect(address)
            except OSError as error:
                reason = failure_kind(error)
            else:
                return family, address
        if scope.cancelled_caught:
            reason = f"no answer within {CONNECT_TIMEOUT:g} s"
    raise LoadError(f"cannot connect to {where} ({reason}); is the server running there?")
