"""The examples of docs/reference/protocols.md, copied out of it and run by a shell with the real curl."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import trio

from hermes.events.event import Event
from hermes.events.protocols.routes import make_routes
from hermes.net.http.lane import BodyBudget
from hermes.net.http.work import Workshop
from tests.net.http.kit import FakeIntake
from tests.service import open_service

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "protocols.md"
_EXAMPLE = re.compile(
    r"```sh\n(.+?)\n```\n\nanswers\n\n```json\n(.+?)\n```\n\nand becomes\n\n```json\n(.+?)\n```", re.DOTALL
)


class Example(NamedTuple):
    """What is sent, what is answered, and the event that is stored."""

    command: str
    answer: str
    event: Any


def examples() -> list[Example]:
    page = PAGE.read_text()
    found = [Example(command, answer, json.loads(event)) for command, answer, event in _EXAMPLE.findall(page)]
    assert len(found) == page.count("```sh"), "every example says what is answered and what it becomes"
    return found


async def test_every_example_is_answered_and_stored_as_the_page_says() -> None:
    async with open_service(event_types=("*",), api_keys=("YOUR_KEY",)) as service:
        for number, example in enumerate(examples()):
            here = example.command.replace("localhost:8080", f"{service.host}:{service.port}")
            # The page shows the key where the protocol has a way of its own for it.
            keyed = here if "YOUR_KEY" in here else here.replace("curl -s", "curl -s -H 'X-API-Key: YOUR_KEY'")
            ran = await trio.run_process(["bash", "-c", keyed], capture_stdout=True)
            assert ran.stdout.decode() == example.answer, example.command
            await service.sink.wait_stored(number + 1)
            assert_is(service.sink.stored[-1], example.event)


def assert_is(stored: Event, told: Any) -> None:
    shown = {
        "id": "01…" if told["id"] == "01…" and stored.id.startswith("01") else stored.id,
        "user_id": stored.user_id,
        "type": stored.type,
        "timestamp": stored.timestamp,
        "payload": json.loads(bytes(stored.payload)),
    }
    assert shown == told


def test_the_page_names_every_path() -> None:
    page = PAGE.read_text()
    routes = make_routes(
        FakeIntake(), Counter(), workshop=Workshop(BodyBudget(2**20)), event_types=("*",), max_body_bytes=1000
    )
    assert not [route.name for route in routes if f"`{route.name}`" not in page and f"POST {route.name}" not in page]
