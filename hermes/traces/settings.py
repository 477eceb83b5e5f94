"""Declares the settings of the traces, and reads them: from TRACES_*, or from the variables of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from hermes.config import Mistakes, Secret, about, try_read
from hermes.traces.endpoint import find_endpoint


class TraceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where traces are sent, and how many requests are traced.

    >>> TraceSettings(traces_endpoint="http://localhost:4318").traces_sample
    0.01
    """

    traces_endpoint: Annotated[
        str,
        about(
            "where OpenTelemetry traces are sent, as OTLP over HTTP, such as `http://localhost:4318`; empty: nowhere"
        ),
    ] = ""
    traces_headers: Annotated[
        Secret, about("headers of the requests to TRACES_ENDPOINT, as `name=value,name=value`")
    ] = ""
    # One in a hundred: enough to see a slow path, and no load for the collector.
    traces_sample: Annotated[
        float, about("share of the requests that are traced, of those whose client has not decided", ge=0, le=1)
    ] = 0.01


def collect_trace_settings(environ: Mapping[str, str], mistakes: Mistakes) -> TraceSettings:
    """Return the settings of the traces, with ``mistakes`` collected: the default stands for a bad value."""
    settings = try_read(TraceSettings, environ, mistakes) or TraceSettings()
    with mistakes.collect():
        # After TRACES_* are read, because the OTEL_* variables replace them only where they are empty.
        endpoint, headers = find_endpoint(environ, settings.traces_endpoint, settings.traces_headers)
        return msgspec.structs.replace(settings, traces_endpoint=endpoint, traces_headers=headers)
    # Reached only after a mistake, which the block above has kept.
    return settings
