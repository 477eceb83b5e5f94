"""The log of the real program: lines about requests with their ids, nothing forged, no key in any of them."""

from __future__ import annotations

import base64
from typing import Any

import httpx

from tests.integration.program import Start, events

INGEST, ADMIN, WRONG = "ingest-key-7f3a", "admin-key-91bc", "wrong-key-55d0"
KEYS = (INGEST, ADMIN, WRONG)
FORGED = "2026-01-01T00:00:00Z [info     ] forged"


def encoded(key: str) -> str:
    return base64.b64encode(f"{key}:".encode()).decode()


def headers_with(key: str) -> list[dict[str, str]]:
    return [
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"bearer {key}"},
        {"Authorization": f"Basic {encoded(key)}"},
        {"Authorization": f"Basic {key}"},
        {"Authorization": f"Digest {key}"},
        {"Authorization": key},
        {"X-API-Key": key},
        {"X-API-Key": f"{key} , {key}"},
        {"Cookie": f"key={key}"},
    ]


def test_no_key_is_ever_logged(start: Start) -> None:
    program = start(
        LOG_LEVEL="debug", LOG_FORMAT="json", DURABILITY="memory", API_KEYS=INGEST, ADMIN_KEYS=ADMIN, SINKS="null"
    )
    body = events(1, "k")[0]
    # What follows an Upgrade on a connection is the control lane's; so each of these has a connection of its own.
    slow = {"Connection": "Upgrade", "Upgrade": "h2c"}
    codes = set()
    with httpx.Client(trust_env=False) as client:
        for key in KEYS:
            for headers in headers_with(key):
                codes.add(client.post(f"{program.url}/events", json=body, headers=headers).status_code)
                codes.add(client.post(f"{program.url}/events", content=b"{", headers=headers).status_code)
                codes.add(httpx.post(f"{program.url}/events", json=body, headers=headers | slow).status_code)
                codes.add(client.get(f"{program.admin_url}/dead-letters", headers=headers).status_code)
                codes.add(client.get(f"{program.admin_url}/debug/accounting?key={key}", headers=headers).status_code)
            segment = {"type": "track", "event": "song_played", "userId": "u", "writeKey": key}
            codes.add(client.post(f"{program.url}/v1/track", json=segment).status_code)
            codes.add(httpx.get(f"{program.url}/metrics?key={key}").status_code)
            codes.add(httpx.get(f"{program.url}/nowhere?key={key}").status_code)
    assert {200, 202, 400, 401, 404} <= codes
    assert program.stop() == 0
    log = program.log
    assert "request refused" in log
    assert "/debug/accounting" in log
    assert not [key for key in KEYS if key in log or encoded(key) in log]


def test_a_client_cannot_write_lines_of_its_own(start: Start) -> None:
    program = start(LOG_LEVEL="debug", LOG_FORMAT="console", DURABILITY="memory", SINKS="null")
    nasty = [f"a\n{FORGED}", f"a\r{FORGED}", "\x1b[2Jb", "\x9b31mc"]
    with httpx.Client(trust_env=False) as client:
        for text in nasty:
            quoted = "".join(f"%{byte:02x}" for byte in text.encode())
            bad = events(1, text)[0] | {"type": text}
            assert client.post(f"{program.url}/events", json=bad).status_code == 400
            kind = {b"Content-Type": text.replace("\n", "").replace("\r", "").replace("\x1b", "").encode("latin-1")}
            assert client.post(f"{program.url}/events", content=b"{}", headers=kind).status_code in {400, 415}
            assert httpx.get(f"{program.url}/{quoted}").status_code == 404
            assert httpx.get(f"{program.admin_url}/dead-letters/{quoted}").status_code in {400, 404}
            assert httpx.get(f"{program.url}/health", headers={"X-Request-Id": "a b"}).status_code == 200
    assert program.stop() == 0
    lines = program.log.splitlines()
    assert all(line.isprintable() for line in lines), [line for line in lines if not line.isprintable()]
    assert not [line for line in lines if line.startswith(FORGED)]
    assert any("%0a" in line.lower() or "\\n" in line for line in lines)


def test_lines_about_requests_have_their_ids(start: Start) -> None:
    program = start(LOG_LEVEL="debug", LOG_FORMAT="json", DURABILITY="memory", API_KEYS=INGEST, SINKS="null")
    with httpx.Client(trust_env=False) as client:
        refused = client.post(f"{program.url}/events", json=events(1, "r")[0])
        for _ in range(50):
            assert client.post(f"{program.url}/events", json=events(1, "r")[0]).status_code == 401
        health = client.get(f"{program.url}/health", headers={"X-Request-Id": "mine"})
        missing = client.get(f"{program.admin_url}/nowhere")
    assert (refused.status_code, health.status_code, missing.status_code) == (401, 200, 404)
    assert program.stop() == 0
    assert len(program.lines) == len(program.log.splitlines())
    line, *held_back = told(program.lines, "request refused", "/events")
    assert sum(each["more"] for each in held_back) == 50  # counted at the stop at the latest
    assert line["request_id"] == refused.headers["x-request-id"]
    assert (line["status"], line["client"], line["logger"]) == (401, "127.0.0.1", "hermes.http")
    assert "wants a key" in line["reason"]
    (line,) = told(program.lines, "request", "/health")
    assert line["request_id"] == health.headers["x-request-id"] == "mine"
    assert (line["method"], line["status"], line["client"], line["level"]) == ("GET", 200, "127.0.0.1", "debug")
    (line,) = told(program.lines, "request refused", "unmatched")
    assert line["request_id"] == missing.headers["x-request-id"]


def told(lines: list[dict[str, Any]], event: str, route: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == event and line.get("route") == route]
