"""One daemon for the tests of a file, with topics of their own, and a connection for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.integration.broker.daemon import Daemon, run_daemon
from tests.integration.broker.peer import Peer


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose cluster is formed."""
    with run_daemon(tmp_path_factory.mktemp("broker")) as running:
        with Peer(running.port) as peer:
            peer.bootstrap()
        yield running


@pytest.fixture
def connect(daemon: Daemon) -> Iterator[Callable[[], Peer]]:
    """Opens a connection, and closes it after the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Peer(daemon.port))


@pytest.fixture
def peer(connect: Callable[[], Peer]) -> Peer:
    """A connection."""
    return connect()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic of the test's own."""
    return str(request.node.name)
