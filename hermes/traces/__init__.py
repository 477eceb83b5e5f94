"""OpenTelemetry traces by option: spans from the request to the sink, exported by a task of the service's own tree.

Nothing here imports OpenTelemetry before TRACES_ENDPOINT is set, for it is an extra. Opened by the app; checked by the
command line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hermes.config import Settings
from hermes.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from hermes.traces.opening import Traces


def check_traces(settings: Settings) -> None:
    """Raises `PluginError` where traces are wanted and the extra is missing, `ConfigError` for OTEL_PROPAGATORS."""
    if not settings.traces_endpoint:
        return
    try:
        import hermes.traces.opening  # noqa: F401 - to see whether it can be
    except ModuleNotFoundError as error:
        raise PluginError(
            f"traces to {settings.traces_endpoint}: no module {error.name!r}. Install it with: "
            "pip install 'hermes-events[traces]', or send none: OTEL_TRACES_EXPORTER=none and no TRACES_ENDPOINT"
        ) from error
    except ValueError as error:
        raise ConfigError(f"OTEL_PROPAGATORS: {error}") from None


@asynccontextmanager
async def open_traces(settings: Settings) -> AsyncIterator[Traces | None]:
    """What traces requests, None without TRACES_ENDPOINT. Its ``run`` has to be run, and ended by ``close``.

    Raises as `check_traces` does.
    """
    check_traces(settings)
    if not settings.traces_endpoint:
        yield None
        return
    from hermes.traces.opening import open_exported

    async with open_exported(settings) as traces:
        yield traces
