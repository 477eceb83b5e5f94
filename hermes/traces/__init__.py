"""Traces events with OpenTelemetry, from the request to the sink, if TRACES_ENDPOINT is set.

- ``part``, ``settings``, ``endpoint``: the declaration of the part, its settings, and where spans are sent
- ``spans``: makes the spans of requests, commits and writes
- ``opening``, ``export``, ``otlp``, ``span_metrics``: sends them in batches, and counts them

Invariant: this package imports OpenTelemetry, which is an extra, only if TRACES_ENDPOINT is set.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hermes.base.errors import ConfigError, PluginError
from hermes.traces.settings import TraceSettings

if TYPE_CHECKING:
    from hermes.traces.opening import Traces


def check_traces(settings: TraceSettings) -> None:
    """Check that traces can be opened, without opening them.

    Raises `PluginError` if TRACES_ENDPOINT is set and the extra is missing, `ConfigError` for a wrong OTEL_PROPAGATORS.
    """
    if not settings.traces_endpoint:
        return
    try:
        # OpenTelemetry reads OTEL_PROPAGATORS as it is imported, and raises ValueError for an unknown one.
        import hermes.traces.opening  # noqa: F401 - to see whether the import succeeds
    except ModuleNotFoundError as error:
        raise PluginError(
            f"traces to {settings.traces_endpoint}: no module {error.name!r}. Install it with: "
            "pip install 'hermes-events[traces]', or turn traces off: OTEL_TRACES_EXPORTER=none and no TRACES_ENDPOINT"
        ) from error
    except ValueError as error:
        raise ConfigError(f"OTEL_PROPAGATORS: {error}") from None


@asynccontextmanager
async def open_traces(settings: TraceSettings) -> AsyncIterator[Traces | None]:
    """Yield the open traces, or None without TRACES_ENDPOINT. Raises the errors of `check_traces`.

    The caller runs the export and closes the traces::

        async with open_traces(settings) as traces, trio.open_nursery() as nursery:
            if traces is not None:
                nursery.start_soon(traces.run)
                ...
                traces.close(within=5.0)
    """
    check_traces(settings)
    if not settings.traces_endpoint:
        yield None
        return
    # Here and not above: without TRACES_ENDPOINT OpenTelemetry need not be installed, and is not imported.
    from hermes.traces.opening import open_exported

    async with open_exported(settings) as traces:
        yield traces
