"""The command line as a shell sees it: exit codes, one line on stderr, readers that go away, disks that are full."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hermes.store.log.sqlite.folder import lock_folder
from tests.integration.faults import small_disk

SECONDS = 30.0


def run(folder: Path, arguments: Sequence[str], stdout: int = subprocess.PIPE, **environ: str) -> tuple[int, str]:
    """The exit code of ``hermes``, and what it wrote to stderr."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "hermes", *arguments],
        cwd=folder,
        env=inherited | {"HTTP_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "off", "SINKS": "null"} | environ,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(("command", "unbuffered"), [("help", ""), ("sinks", "1"), ("config check --json", "")])
def test_a_reader_that_goes_away_is_silent_and_exit_code_141(tmp_path: Path, command: str, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert run(tmp_path, command.split(), writing, PYTHONUNBUFFERED=unbuffered) == (141, "")
    finally:
        os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_an_output_without_room_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        code, line = run(tmp_path, ["sinks"], full)
    finally:
        os.close(full)
    assert (code, line) == (1, "hermes: the output cannot be written: the disk is full, or the quota is used up\n")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (
            {"HERMES_DATA_DIR": "file/below"},
            "HERMES_DATA_DIR='file/below': cannot be made: Not a directory; name a folder",
        ),
        ({"HERMES_DATA_DIR": "used"}, "used/journal: another Hermes uses it; stop that one, or name another folder"),
        ({"HTTP_ADDR": "taken"}, "HTTP_ADDR='taken': cannot listen there: Address already in use; stop what listens"),
        ({"ADMIN_ADDR": "taken"}, "ADMIN_ADDR='taken': cannot listen there: Address already in use; stop what listens"),
        ({"HTTP_ADDR": "192.0.2.1:1"}, "HTTP_ADDR='192.0.2.1:1': cannot listen there: Cannot assign requested address"),
    ],
    ids=lambda case: "+".join(f"{name}={text}" for name, text in case.items()) if isinstance(case, dict) else "",
)
def test_a_place_that_cannot_be_had_is_one_line_and_exit_code_2(
    tmp_path: Path, environ: Mapping[str, str], words: str
) -> None:
    tmp_path.joinpath("file").touch()
    lock = lock_folder(tmp_path / "used" / "journal")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        settings: dict[str, Any] = {name: text.replace("taken", taken) for name, text in environ.items()}
        code, line = run(tmp_path, ["serve"], **settings)
    os.close(lock)
    assert code == 2
    assert line.startswith(f"hermes: {words.replace('taken', taken)}")
    assert line.count("\n") == 1
    assert not tmp_path.joinpath("hermes-data").exists(), "a start that was refused leaves no file"


def test_a_full_disk_at_the_start_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with small_disk(1) as disk:
        disk.joinpath("filler").write_bytes(bytes(2**20 - 32 * 2**10))
        code, line = run(tmp_path, ["serve"], HERMES_DATA_DIR=str(disk / "data"))
    assert (code, line) == (1, f"hermes: {disk}/data/dead-letters.db: the disk is full\n")


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    assert run(tmp_path, ["serv"]) == (2, "hermes: no such command 'serv': did you mean serve?\n")
