"""Schemathesis compares each document with what the running service answers: no 500, nothing that is not in it.

Invariant: every run sends the same requests, for generation is deterministic and bounded by count. What is asked, and
what is left out and why, is in ``schemathesis.toml``.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx
import pytest
import trio

from hermes import BatchRejected
from hermes.events.sink import DeliverySettings
from hermes.testing import ScriptedSink
from tests.http_client import connect
from tests.integration.program import events
from tests.service import Service, open_service

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sysconfig.get_path("scripts")) / "schemathesis"
CONFIGURATION = ROOT / "tests/integration/schemathesis.toml"
SECONDS = 200.0

pytestmark = pytest.mark.timeout(240)  # a thousand requests


async def compare(url: str, folder: Path) -> CompletedProcess[bytes]:
    """Run Schemathesis on the document at an address that wants the key ``secret``."""
    command: list[str | Path] = [sys.executable, COMMAND, "--config-file", CONFIGURATION]
    command += ["run", f"{url}/openapi.json", "--header", "X-API-Key: secret"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with trio.fail_after(SECONDS):
        return await trio.run_process(
            command, cwd=folder, env=env, check=False, capture_stdout=True, capture_stderr=True
        )


def assert_agreed(done: CompletedProcess[bytes]) -> None:
    report = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, report
    assert "generated" in report, report


async def test_where_events_come_in_every_answer_is_in_the_document(tmp_path: Path) -> None:
    async with open_service(durability="memory", api_keys=("secret",)) as service:
        assert_agreed(await compare(service.url, tmp_path))


async def test_at_the_admin_address_every_answer_is_in_the_document(tmp_path: Path) -> None:
    sink = ScriptedSink.following(BatchRejected({0: "22003 overflow", 1: "23514 check"}))
    async with open_service(sink, DeliverySettings(backoff=0.01), admin_keys=("secret",)) as service:
        await fill(service)
        assert_agreed(await compare(service.admin_url, tmp_path))


async def fill(service: Service) -> None:
    """Leave two dead letters."""
    async with httpx.AsyncClient(base_url=service.url) as client:
        await client.post("/events", json=events(2, "event"), headers={"Hermes-Ack": "delivered"})


async def test_every_example_of_a_body_is_taken() -> None:
    async with (
        open_service(durability="memory", event_types=("*",)) as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        document = (await client.get("/openapi.json")).json()
        asked = 0
        for path, methods in document["paths"].items():
            for media, content in methods.get("post", {}).get("requestBody", {}).get("content", {}).items():
                for example in content.get("examples", {}).values():
                    value = example["value"]
                    body = value if isinstance(value, str) else json.dumps(value)
                    answer = await client.post(path, content=body, headers={"Content-Type": media})
                    assert (answer.status_code, "rejected" in answer.json()) in {(200, False), (202, False)}, path
                    asked += 1
        assert asked > 15


async def test_streams_answer_as_documented() -> None:
    async with open_service() as service, httpx.AsyncClient(base_url=service.admin_url) as client:
        document = (await client.get("/openapi.json")).json()
        for path in ("/live", "/tap"):
            declared: dict[str, Any] = document["paths"][path]["get"]["responses"]["200"]["content"]
            async with client.stream("GET", path) as answer:
                assert (answer.status_code, [answer.headers["content-type"]]) == (200, list(declared))


@pytest.mark.parametrize("before", [0, 1])
async def test_headers_that_are_too_large_are_told_so_on_a_kept_connection_too(before: int) -> None:
    """Hypercorn, which has the connection from the second request on, refuses without a word."""
    async with open_service() as service, connect(service) as client:
        for _ in range(before):
            assert (await client.ask(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")).status == 200
        answer = await client.ask(b"GET /health?", b"x" * 90_000, b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (answer.status, answer.json["detail"]) == (431, "the request's headers are larger than 65536 bytes")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"]
