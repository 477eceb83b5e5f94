"""How the tests are shared out among the processes of `make test`: a file at a time, the slow ones first.

The tests of a file run one after the other in one process, so what a file has set up is made once. The same holds for
all tests with the same PostgreSQL, which takes longer to make than most of them take.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
# How long an example takes says how busy the machine is.
settings.register_profile("hermes", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hermes")

# Of the whole session, in each process that asks for one.
SERVERS = {"postgres_server", "patient_postgres_server"}
SLOW = (TESTS / "integration", TESTS / "simulation")


def pytest_configure() -> None:
    """Give the programs that tests start the usual meaning of SIGINT."""
    # A shell starts `make test &` with SIGINT ignored, and every program that a test starts would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The many short files come last: they even out when the processes end.
    items.sort(key=lambda item: not any(item.path.is_relative_to(folder) for folder in SLOW))
    servers: dict[Path, str] = {}
    for item in items:
        for server in SERVERS.intersection(getattr(item, "fixturenames", ())):
            servers[item.path] = min(server, servers.get(item.path, server))
    for item in items:
        name = servers.get(item.path) or str(item.path.relative_to(TESTS))
        item.add_marker(pytest.mark.xdist_group(name))


def pytest_collection_finish() -> None:
    """What the collection made stays to the end, so the collector of garbage need not walk it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_log_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that a test runs in this process configures the log lines: for that test alone.

    A logger that is cached in the meantime would write by that configuration for ever, and no later test could capture
    its lines.
    """
    configure, before = structlog.configure, structlog.get_config()

    def configure_without_cache(**values: Any) -> None:
        configure(**(values | {"cache_logger_on_first_use": False}))

    monkeypatch.setattr(structlog, "configure", configure_without_cache)
    yield
    configure(**before)
