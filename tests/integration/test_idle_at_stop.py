"""A connection that a client holds in reserve does not delay a graceful stop, wherever it ended up."""

from __future__ import annotations

import httpx
import pytest
import trio

from tests.service import Service, open_service

PROMPT = 2.0  # seconds; it took half of SHUTDOWN_TIMEOUT, 10 s here


def ask(client: httpx.Client, service: Service, where: str) -> None:
    if where == "fast":
        assert client.post(f"{service.url}/events", json={}).status_code == 400
    else:
        url = service.url if where == "control" else service.admin_url
        assert client.get(f"{url}/health").status_code == 200


@pytest.mark.parametrize("where", ["fast", *["control"] * 4, *["admin"] * 4])
async def test_an_idle_connection_does_not_delay_a_stop(where: str) -> None:
    """Hypercorn used to lose the task that ends an idle connection, in one stop of four."""
    with httpx.Client() as client:
        async with open_service(shutdown_timeout=20.0) as service:
            await trio.to_thread.run_sync(ask, client, service, where)
            began = trio.current_time()
            assert await service.stop()
            assert trio.current_time() - began < PROMPT
