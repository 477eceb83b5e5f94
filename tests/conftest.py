"""How the tests are shared out: those with real servers, sockets and processes in one process, all others in another.

So `make test` uses two cores, and what takes time of its own accord still runs one test after the other.
"""

from __future__ import annotations

from pathlib import Path

import pytest

REAL = Path(__file__).parent / "integration"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group("real" if item.path.is_relative_to(REAL) else "rest"))
