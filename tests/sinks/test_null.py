"""The null sink keeps the contract and is found under its name."""

from __future__ import annotations

import trio
from hermes_sinks.null import open_null

from hermes import Storage
from hermes.config import NoSettings
from hermes.testing import check_sink
from tests.sinks.configured import configure_sinks


async def test_it_conforms(autojump_clock: trio.testing.MockClock) -> None:
    await check_sink(lambda: open_null(NoSettings(), Storage()))


def test_it_is_found_by_its_entry_point() -> None:
    (found,) = configure_sinks(["null"], {})
    assert found.plugin.open is open_null
