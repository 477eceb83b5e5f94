"""How the limit of descriptors is shared, and that it is raised."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.net.descriptors import Shares, descriptor_limit, raise_descriptor_limit, share, wanted_descriptors


@given(st.integers(64, 2**20), st.integers(1, 100_000))
def test_a_quarter_or_32_descriptors_are_never_a_clients(descriptors: int, max_connections: int) -> None:
    shares = share(descriptors, max_connections)
    assert min(shares) >= 1
    assert shares.data <= max_connections
    assert sum(shares) <= descriptors - max(32, min(256, descriptors // 4))


@given(st.integers(1, 100_000))
def test_with_the_limit_that_is_named_max_connections_stays_as_it_is(max_connections: int) -> None:
    limit = wanted_descriptors(max_connections)
    assert share(limit, max_connections) == Shares(max_connections, 1000, 256)
    assert sum(share(limit - 1, max_connections)) < max_connections + 1256


def test_the_limit_that_a_shell_gives_leaves_half_for_clients_with_data() -> None:
    assert share(1024, 10_000) == Shares(539, 153, 76)


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_to_the_hard_one(limits: tuple[int, int]) -> None:
    hard = limits[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    assert descriptor_limit() == 512
    raise_descriptor_limit()
    assert descriptor_limit() == (2**20 if hard == resource.RLIM_INFINITY else min(hard, 2**20))
