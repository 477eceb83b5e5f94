"""A third-party sink from its own distribution: installed with pip, found by its entry point, run by the service."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from hermes import Storage
from hermes.events.sink import installed_sinks
from hermes.testing import make_batch
from tests.sinks.configured import configure_sinks

EXAMPLE = Path(__file__).parents[2] / "examples" / "hermes-sink-example"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the example is installed, as from an index, but without a network."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", folder, EXAMPLE], check=True, timeout=50
    )
    return folder


@pytest.fixture
def importable(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(installed)
    yield installed
    sys.modules.pop("hermes_sink_example", None)


def environment(folder: Path, **variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder), **variables}


async def test_it_is_found_by_its_entry_point_and_opened_with_its_settings(importable: Path, tmp_path: Path) -> None:
    assert "jsonl" in installed_sinks()
    (found,) = configure_sinks(["jsonl"], {"SINK_JSONL_PATH": str(tmp_path / "out.jsonl")})
    async with found.plugin.open(found.settings, Storage()) as sink:
        await sink.write(make_batch(3))
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["event-0", "event-1", "event-2"]


def test_its_own_tests_pass(installed: Path) -> None:
    # Another folder than the repository's: nothing of it is importable by accident but what is installed.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLE],
        cwd=EXAMPLE,
        env=environment(installed),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_service_delivers_to_it(installed: Path, tmp_path: Path) -> None:
    variables = {
        "SINKS": "jsonl",
        "HERMES_DATA_DIR": str(tmp_path),
        "HTTP_ADDR": "127.0.0.1:0",
        "ADMIN_ADDR": "off",
        "LOG_FORMAT": "json",
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        service = subprocess.Popen(
            [sys.executable, "-m", "hermes", "serve"],
            env=environment(installed, **variables),
            stdout=output,
            stderr=output,
        )
    try:
        url = wait_for_url(service, log)
        event = {"id": "one", "user_id": "u", "type": "song_played", "timestamp": 1_700_000_000, "payload": {"a": 1}}
        with urlopen(Request(f"{url}/events", json.dumps(event).encode()), timeout=10) as response:
            assert response.status == 202
    finally:
        service.send_signal(signal.SIGTERM)
        code = service.wait(timeout=20)
    assert code == 0, log.read_text()
    assert [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()] == [event]


def wait_for_url(service: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and service.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:[1-9]\d*", log.read_text()):
            return found[0]
        time.sleep(0.05)
    pytest.fail(f"the service did not start:\n{log.read_text()}")
