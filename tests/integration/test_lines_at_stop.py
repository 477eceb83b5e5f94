"""A stop tells the lines about trouble that were held back: no later line would have their number."""

from __future__ import annotations

import httpx
import pytest
import structlog.testing

from hermes.observe.throttled_log import ThrottledLog
from tests.service import open_service


@pytest.mark.parametrize("durability", ["disk", "memory"])
async def test_each_throttled_log_of_a_service_tells_at_the_stop_how_much_it_held_back(
    durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs: list[ThrottledLog] = []
    make = ThrottledLog.__init__

    def make_and_note(self: ThrottledLog, logger: str, **facts: object) -> None:
        make(self, logger, **facts)
        logs.append(self)

    monkeypatch.setattr(ThrottledLog, "__init__", make_and_note)
    with structlog.testing.capture_logs() as lines:
        async with open_service(durability=durability) as service, httpx.AsyncClient() as client:
            # The logs of a task and of a first connection are made late.
            for url in (service.url, service.admin_url):
                assert (await client.get(f"{url}/health")).status_code == 200
            for number, log in enumerate(logs):
                for _ in range(3):
                    log.warn("a probe", probe=number)
    told = {line["probe"]: line["more"] for line in lines if line["event"] == "a probe" and "more" in line}
    assert told == dict.fromkeys(range(len(logs)), 2)
    assert len(logs) >= 6, "those of both addresses, of the reactor and of the sink are among them"
