"""Fixtures of the deployment's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.helm import Helm, open_helm


@pytest.fixture(scope="session")
def helm() -> Iterator[Helm]:
    """Helm, with the chart loaded once for all tests."""
    with open_helm() as opened:
        yield opened
