"""The extra that traces need: not imported without TRACES_ENDPOINT, and told by name where it is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hermes.observe.metrics import Metrics
from hermes.traces import check_traces, open_traces
from hermes.traces.settings import TraceSettings

WITHOUT = """
import sys
{block}
from hermes.traces.settings import TraceSettings
from hermes.base.errors import ConfigError, PluginError
from hermes.traces import check_traces
import hermes.app
check_traces(TraceSettings())
assert "opentelemetry.sdk" not in sys.modules or sys.modules["opentelemetry.sdk"] is None
assert "hermes.traces.spans" not in sys.modules
try:
    check_traces(TraceSettings(traces_endpoint="http://localhost:4318"))
except (ConfigError, PluginError) as error:
    print(type(error).__name__, error)
"""


def run(block: str = "", **environ: str) -> str:
    command = [sys.executable, "-c", WITHOUT.format(block=block)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=dict(environ)).stdout


def test_a_missing_extra_is_told_with_what_to_install() -> None:
    told = run('sys.modules["opentelemetry.sdk"] = None')
    assert told.startswith("PluginError traces to http://localhost:4318: no module 'opentelemetry.sdk")
    assert "pip install 'hermes-events[traces]'" in told


def test_a_propagator_that_is_not_there_is_told_by_its_variable() -> None:
    assert run(OTEL_PROPAGATORS="tracecontext,none-such").startswith("ConfigError OTEL_PROPAGATORS: ")


def test_with_the_extra_there_is_nothing_to_tell() -> None:
    assert run() == ""


async def test_without_an_endpoint_nothing_is_open() -> None:
    check_traces(TraceSettings())
    async with open_traces(TraceSettings()) as traces:
        assert traces is None


@pytest.mark.parametrize("share", [0.0, 0.5])
async def test_with_one_spans_are_made_and_counted(share: float) -> None:
    settings = TraceSettings(traces_endpoint="http://127.0.0.1:9", traces_sample=share)
    async with open_traces(settings) as traces:
        assert traces is not None
        chosen = sum(traces.spans.follow({}) is not None for _ in range(1000))
        assert share * 800 <= chosen <= share * 1200
        traces.close(0.0)
        await traces.run()
        metrics = Metrics(traces.metrics)
    assert b"hermes_spans_exported_total 0.0" in metrics.expose("")[0]
