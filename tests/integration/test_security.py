"""What an attacker tries, item by item, against the real program: it is refused, leaves no trace it should not, and
harms nobody else.

The audit of the dependencies is `make audit`. The details of each item have tests beside the code that they are about.
"""

from __future__ import annotations

import base64
import gzip
import hmac
import json
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from hermes.net.http.keys import Keys
from tests.integration.program import Program, events

KEY, ADMIN_KEY, WRONG = "ingest-key-4711", "admin-key-0815", "wrong-key-1234"
FORGED = "2026-01-01 00:00:00 [critical ] the disk has been erased"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacked")


@pytest.fixture(scope="module")
def program(folder: Path) -> Iterator[Program]:
    """One service for all attacks: it survives each, and stops gracefully after the last."""
    program = Program(
        folder,
        SINKS="file,parquet",
        EVENT_TYPES="*",
        API_KEYS=KEY,
        ADMIN_KEYS=ADMIN_KEY,
        CORS_ORIGINS="https://shop.example",
        MAX_BODY_BYTES="1MiB",
        SINK_FILE_REQUIRED="true",
        SINK_PARQUET_REQUIRED="true",
        SINK_PARQUET_FLUSH_INTERVAL="100ms",
        LOG_LEVEL="debug",
        LOG_FORMAT="console",
    )
    try:
        yield program
        assert program.stop() == 0, program.log
    finally:
        program.kill()


@pytest.fixture
def client(program: Program) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=program.url, headers={"X-API-Key": KEY}, timeout=20) as client:
        yield client
        assert client.post("/events", json=events(1, "after")[0]).status_code == 202, "and it still serves the others"


def ask_raw(url: str, request: bytes) -> bytes:
    """What comes back for bytes that no client library would send."""
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    with socket.create_connection((address.hostname, address.port), timeout=10) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def basic(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:".encode()).decode()


# Keys


def test_every_key_is_compared_whole_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(offered: bytes, key: bytes) -> bool:
        compared.append((offered, key))
        return offered == key

    keys = Keys(["first", "second", "third"])
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for offered in ("first", "third", "no"):
        compared.clear()
        assert keys.admit({"x-api-key": offered}) == (offered != "no")
        assert compared == [(offered.encode(), key) for key in (b"first", b"second", b"third")]


def test_no_key_right_or_wrong_is_ever_logged(program: Program, client: httpx.Client) -> None:
    for key in (KEY, ADMIN_KEY, WRONG):
        for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {"Authorization": basic(key)}):
            expected = 202 if key == KEY else 401
            with httpx.Client(headers=headers, timeout=20) as other:
                assert other.post(f"{program.url}/events", json=events(1, "key")[0]).status_code == expected
                # A library of Segment's would repeat a 400 for ever: 200 names what was rejected.
                assert other.post(f"{program.url}/v1/track", json={}).status_code in {200, 401}
                expected = 200 if key == ADMIN_KEY else 401
                assert other.get(f"{program.admin_url}/dead-letters").status_code == expected
    for key in (KEY, ADMIN_KEY, WRONG):
        assert key not in program.log
        assert basic(key).removeprefix("Basic ") not in program.log


# Injection


@pytest.mark.parametrize("value", [b"a\rSet-Cookie: x=1", b"a\x00b", b"a b", b"\xc3\xa9", b"a\r\n Set-Cookie: x=1"])
def test_what_a_client_sends_is_in_no_header_unless_it_is_one_printable_word(program: Program, value: bytes) -> None:
    for path in (b"/events", b"/health"):
        answer = ask_raw(program.url, b"GET %b HTTP/1.1\r\nHost: a\r\nX-Request-Id: %b\r\n\r\n" % (path, value))
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"http/1.1 ")
        assert b"set-cookie" not in head
        assert value.lower() not in head


def test_no_client_writes_lines_or_colours_into_the_log(program: Program, client: httpx.Client) -> None:
    evil = f"x\n{FORGED}\r\x1b[2J\u2028"
    client.post("/events", json=[{"id": evil, "user_id": evil, "type": evil, "timestamp": evil}])
    client.post("/events", content=evil.encode(), headers={"Content-Type": "text/html; x=\x1b[2J"})
    client.get("/no/" + "%0a" + FORGED.replace(" ", "%20") + "%1b[2J")
    httpx.get(f"{program.admin_url}/dead-letters?{FORGED}%0A%1b[2J", headers={"X-API-Key": WRONG})
    ask_raw(program.url, b"POST /events HTTP/1.1\r\nHost: \x1b[2J\r\nUser-Agent: \x1b[2J\r\nContent-Length: 0\r\n\r\n")
    log = program.log
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028]", log)
    assert not any(line.startswith(FORGED[:20]) for line in log.splitlines())


def test_types_of_events_name_no_place_outside_of_the_sinks_folders(
    program: Program, client: httpx.Client, folder: Path
) -> None:
    types = ["..", ".", "...", "..:..", "con", "-rf"]
    found = [{**event, "id": f"walk-{kind}", "type": kind} for event, kind in zip(events(6, "x"), types, strict=True)]
    assert client.post("/events", json=found, headers={"Hermes-Ack": "delivered"}).status_code == 202
    for bad in ("../../etc/passwd", "a/b", "a\\b", "a\x00b"):
        assert client.post("/events", json={**found[0], "type": bad}).status_code == 400
    data = folder / "hermes-data"
    here = {path.name for path in folder.iterdir() if not path.name.startswith("stderr")}
    assert here == {"hermes-data"}
    written = sorted(path for path in data.joinpath("parquet").rglob("*.parquet"))
    assert len({path.parent for path in written}) >= len(types)
    assert all(len(path.relative_to(data).parts) == 4 and ".." not in path.parts for path in written)


# Bombs


def test_a_bomb_of_gzip_stops_at_the_limit(client: httpx.Client) -> None:
    bomb = gzip.compress(b" " * 64 * 2**20)
    answer = client.post("/events", content=bomb, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["status"]) == (413, 413)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"payload":'])
def test_json_without_end_is_refused(client: httpx.Client, opening: str) -> None:
    for path in ("/events", "/v1/track", "/v1/logs"):
        answer = client.post(path, content=opening * 50_000, headers={"Content-Type": "application/json"})
        # One message of Segment's is rejected in a 200: its libraries would repeat a 400 for ever.
        rejected = answer.status_code == 200 and path == "/v1/track" and answer.json()["rejected"]
        assert rejected or answer.status_code == 400, path


# Who may ask


def test_only_configured_origins_hear_that_they_may(program: Program, client: httpx.Client) -> None:
    for origin, allowed in (("https://shop.example", True), ("https://evil.example", False), ("null", False)):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for answer in (client.options("/events", headers=headers), client.post("/events", headers=headers, json={})):
            assert (answer.headers.get("Access-Control-Allow-Origin") == origin) is allowed
            assert (answer.headers.get("Access-Control-Allow-Credentials") == "true") is allowed
        admin = httpx.options(f"{program.admin_url}/dead-letters", headers=headers)
        assert not any(name.startswith("access-control") for name in admin.headers)


def test_no_way_of_writing_a_path_leads_from_the_events_address_to_the_admins(program: Program) -> None:
    admin = urlsplit(program.admin_url).netloc.encode()
    for target in (
        b"/dead-letters",
        b"//dead-letters",
        b"/./dead-letters",
        b"/events/../dead-letters",
        b"/%64ead-letters",
        b"http://%b/dead-letters" % admin,
    ):
        request = b"GET %b HTTP/1.1\r\nHost: %b\r\nX-API-Key: %b\r\n\r\n" % (target, admin, ADMIN_KEY.encode())
        status = int(ask_raw(program.url, request).split(b" ", 2)[1])
        assert status in {404, 308, 400}, target


def test_what_is_kept_is_for_its_owner_alone(client: httpx.Client, folder: Path) -> None:
    client.post("/events", json=events(1, "mode")[0], headers={"Hermes-Ack": "delivered"})
    data = folder / "hermes-data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in data.rglob("*") if path.exists()}
    assert {path.name for path in modes} >= {"journal", "dead-letters.db", "events.jsonl", "parquet"}
    for path, mode in modes.items():
        shipped = path.relative_to(data).parts[0] in {"events", "parquet"}  # elsewhere, a group may ship them
        assert not mode & (0o007 if shipped else 0o077), f"{path}: {mode:o}"


def test_the_settings_that_are_shown_hide_the_secrets(program: Program, client: httpx.Client) -> None:
    shown: list[Any] = [client.get("/openapi.json").text, client.get("/").text, client.get("/metrics").text]
    headers = {"X-API-Key": ADMIN_KEY}
    shown += [httpx.get(f"{program.admin_url}/{path}", headers=headers).text for path in ("status", "openapi.json", "")]
    for text in shown:
        assert text
        assert KEY not in text
        assert ADMIN_KEY not in text
    assert json.loads(shown[3])["durability"] == "disk"
