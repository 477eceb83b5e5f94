"""A file of settings with two sinks of its own names, and the real program: start, delivery, reload, replay."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx

from tests.integration.program import Start, events

FILE = """
log_format = "json"
api_keys = "first"
queue_size = 5000

[sinks.archive]
plugin = "file"
path = "archive"
flush_interval = "10ms"

[sinks.eu]
plugin = "sqlite"
path = "eu.db"
"""


def test_two_sinks_of_a_file_get_every_event_and_a_changed_file_is_reloaded(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "hermes.toml"
    file.write_text(FILE)
    program = start()

    def post(key: str) -> int:
        headers = {"X-API-Key": key}
        return httpx.post(f"{program.url}/events", json=events(3, key), headers=headers, timeout=10).status_code

    def delivered() -> list[str]:
        return [line for line in httpx.get(f"{program.url}/metrics").text.splitlines() if "_delivered_total{" in line]

    assert post("first") == 202
    wanted = ['hermes_events_delivered_total{sink="archive"} 3.0', 'hermes_events_delivered_total{sink="eu"} 3.0']
    program.wait_until(lambda: delivered() == wanted)

    file.write_text(FILE.replace("first", "second").replace("5000", "'many'"))
    program.send_signal(signal.SIGHUP)
    program.wait_for_log("nothing was reloaded")
    (failure,) = [line["reason"] for line in program.lines if line["event"] == "nothing was reloaded"]
    assert failure.startswith("hermes.toml:4: queue_size='many': expected a whole number")
    file.write_text(FILE.replace("first", "second").replace("5000", "6000"))
    program.send_signal(signal.SIGHUP)
    program.wait_until(lambda: post("second") == 202)
    program.wait_for_log("a changed setting waits for the next start")
    assert post("first") == 401

    # The service would not start again as it runs now, so the loss of the file is no change of settings.
    file.rename(tmp_path / "elsewhere.toml")
    program.send_signal(signal.SIGHUP)
    program.wait_until(lambda: any("is not there any more" in line.get("reason", "") for line in program.lines))
    assert post("first") == 401

    assert program.stop() == 0
    (greeting,) = [line for line in program.lines if line["event"] == "serving"]
    assert (greeting["config"], greeting["sinks"]) == ("hermes.toml", "archive,eu")
    assert {line["config"] for line in program.lines if line["event"] == "reloaded"} == {"hermes.toml"}
    assert {name: account["delivered"] for name, account in program.accounts().items()} == {"archive": 6, "eu": 6}
    lines = (tmp_path / "hermes-data/archive/events.jsonl").read_text().splitlines()
    with closing(sqlite3.connect(tmp_path / "hermes-data/eu.db")) as connection:
        rows = [row[0] for row in connection.execute("SELECT id FROM events")]
    assert sorted(json.loads(line)["id"] for line in lines) == sorted(rows)
    assert len(rows) == 6
