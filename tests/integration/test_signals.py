"""Signals to a running service: what stops it, what reloads it without a gap, and what does nothing."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.program import Program, Start, events
from tests.needs import lacks

HUP = signal.SIGHUP


def make_certificate(folder: Path) -> str:
    """A self-signed certificate for localhost in a new folder, as cert-manager lays it out; its PEM text."""
    if shutil.which("openssl") is None:
        lacks("there is no openssl")
    folder.mkdir()
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "tls.key", "-out", "tls.crt"]
    subprocess.run([*command.split(), *names], check=True, capture_output=True, cwd=folder)
    return (folder / "tls.crt").read_text()


def point_to(link: Path, folder: Path) -> None:
    """Swap a symbolic link in one step, as the kubelet does for a mounted Secret."""
    new = link.with_name("new")
    new.symlink_to(folder)
    new.replace(link)


def shown_certificate(url: str) -> str:
    """The certificate that a new connection to the address sees; it names no server, for that is an IP address."""
    host, _, port = url.removeprefix("https://").partition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=10)


def code(program: Program, key: str) -> int:
    headers = {"X-API-Key": key, "X-Same": "head"}
    return httpx.post(f"{program.url}/events", json=events(1, "x"), headers=headers).status_code


def admin_code(program: Program, key: str) -> int:
    return httpx.get(f"{program.admin_url}/status", headers={"X-API-Key": key}).status_code


def said(program: Program, event: str) -> list[dict[str, Any]]:
    return [line for line in program.lines if line["event"] == event]


def has_said(program: Program, event: str, times: int) -> Callable[[], bool]:
    return lambda: len(said(program, event)) >= times


@pytest.fixture
def keyed(start: Start, tmp_path: Path) -> Program:
    """A service whose keys and a sink's secret are in files."""
    files = {
        "API_KEYS": "old",
        "ADMIN_KEYS": "old-admin",
        "SINK_HTTP_SECRET": "whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return start(
        SINKS="null,http",
        SINK_HTTP_URL="http://127.0.0.1:9/",
        DURABILITY="memory",
        LOG_FORMAT="json",
        **{f"{name}_FILE": str(tmp_path / name) for name in files},
    )


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM, signal.SIGINT])
def test_it_drains(start: Start, number: signal.Signals) -> None:
    program = start(SINKS="sqlite", LOG_FORMAT="json")
    assert httpx.post(f"{program.url}/events", json=events(7, "x")).status_code == 202
    program.send_signal(number)
    assert program.wait() == 0
    assert program.account()["delivered"] == 7


def test_keys_change_without_a_gap_and_what_cannot_change_is_told(keyed: Program, tmp_path: Path) -> None:
    program = keyed
    assert code(program, "old") == 202
    for number in (signal.SIGUSR1, signal.SIGUSR2, HUP):  # nothing has changed, and nothing happens
        program.send_signal(number)
    program.wait_until(has_said(program, "a signal without effect", 2))
    program.wait_until(has_said(program, "reloaded", 1))
    with httpx.Client() as kept:  # a connection that was there before
        post = partial(kept.post, f"{program.url}/events", json=events(1, "x"))
        assert [post(headers={"X-API-Key": key}).status_code for key in ("old", "old", "new")] == [202, 202, 401]
        (tmp_path / "API_KEYS").write_text("new,other\n")
        (tmp_path / "ADMIN_KEYS").write_text("new-admin")
        (tmp_path / "SINK_HTTP_SECRET").write_text("whsec_YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=")
        program.send_signal(HUP)
        program.wait_until(lambda: code(program, "new") == 202)
        assert [post(headers={"X-API-Key": key}).status_code for key in ("old", "new", "other")] == [401, 202, 202]
    assert [admin_code(program, key) for key in ("old-admin", "new-admin")] == [401, 200]
    assert {tuple(line["keys"]) for line in said(program, "reloaded")} == {(), ("API_KEYS", "ADMIN_KEYS")}
    waiting = said(program, "a changed setting waits for the next start")
    assert waiting[-1]["variables"] == ["SINK_HTTP_SECRET"]
    assert "whsec" not in program.log

    (tmp_path / "API_KEYS").write_text("")  # a secret that is not filled in yet
    program.send_signal(HUP)
    program.wait_until(has_said(program, "nothing was reloaded", 1))
    assert "the file is empty" in said(program, "nothing was reloaded")[0]["reason"]
    assert [code(program, key) for key in ("new", "")] == [202, 401]
    assert program.stop() == 0


def test_a_renewed_certificate_is_used_by_signal_and_by_itself(start: Start, tmp_path: Path) -> None:
    first, second, third = (make_certificate(tmp_path / name) for name in ("first", "second", "third"))
    link = tmp_path / "mounted"
    point_to(link, tmp_path / "first")
    program = start(
        SINKS="null",
        DURABILITY="memory",
        LOG_FORMAT="json",
        TLS_CERT=str(link / "tls.crt"),
        TLS_KEY=str(link / "tls.key"),
    )
    assert shown_certificate(program.url) == first
    trust = ssl.create_default_context(cadata=first)
    with httpx.Client(verify=trust) as kept:
        url = program.url.replace("127.0.0.1", "localhost")
        assert kept.get(f"{url}/ready").status_code == 200
        point_to(link, tmp_path / "second")
        program.send_signal(HUP)
        program.wait_until(lambda: shown_certificate(program.url) == second)
        assert kept.get(f"{url}/ready").status_code == 200, "the connection from before goes on"

    (tmp_path / "halfway").mkdir()  # the new chain is there, its key not yet
    shutil.copy(tmp_path / "third/tls.crt", tmp_path / "halfway/tls.crt")
    shutil.copy(tmp_path / "second/tls.key", tmp_path / "halfway/tls.key")
    point_to(link, tmp_path / "halfway")
    program.send_signal(HUP)
    program.wait_until(has_said(program, "nothing was reloaded", 1))
    assert shown_certificate(program.url) == second

    point_to(link, tmp_path / "third")
    program.wait_until(lambda: shown_certificate(program.url) == third)  # nobody has said a word
    renewed = httpx.get(f"{url}/ready", verify=ssl.create_default_context(cadata=third))
    assert renewed.status_code == 200
    assert program.stop() == 0


def test_a_terminal_that_is_closed_stops_the_service_that_was_started_on_it(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    environ = {"PATH": os.environ["PATH"], "HTTP_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "off", "DURABILITY": "memory"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hermes", "serve"],
        cwd=tmp_path,
        env=environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        shown = b""
        while b"Hermes listens on" not in shown:
            shown += os.read(ours, 4096)
        os.kill(process.pid, HUP)  # from elsewhere: the terminal is still there
        while b"reloaded" not in shown:
            shown += os.read(ours, 4096)
        os.close(ours)
        os.kill(process.pid, HUP)
        process.wait(20)
    finally:
        process.kill()
        process.wait(20)


def test_programs_that_tests_start_obey_ctrl_c_even_in_a_background_run(request: pytest.FixtureRequest) -> None:
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    assert conftest is not None
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts `make test &`
    try:
        conftest.pytest_configure()
        itself = [sys.executable, "-c", "import signal; signal.raise_signal(signal.SIGINT)"]
        done = subprocess.run(itself, capture_output=True, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.stderr.endswith("KeyboardInterrupt\n")
