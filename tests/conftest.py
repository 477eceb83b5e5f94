"""How the tests are shared out: those with real servers, sockets and processes in one process, all others in another.

So `make test` uses two cores, and what takes time of its own accord still runs one test after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

REAL = Path(__file__).parent / "integration"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group("real" if item.path.is_relative_to(REAL) else "rest"))


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
