"""Where a reader of the documents types: runs the commands of a page and compares what they print with it.

Invariant: commands reach the Hermes that the page means, whatever its port is; only a command that changes nothing is
typed again, until what was just sent has arrived. Used by the tests of the documents.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.docs.samples import Command, fits

PATIENCE = 10.0
LOOK_SECONDS = 0.1
_LOOKS = re.compile(
    r"sqlite3|psql|cat|tail|ls|hermes (top|dlq (list|show)|log)|curl -s (localhost|127\.0\.0\.1):\d+/\w"
)
_SETS_UP = re.compile(r"(\. |cd |export )")

_SQLITE3 = """
import sqlite3, sys

database, statement = sys.argv[1:]
with sqlite3.connect(database) as connection:
    if statement.startswith(".backup "):
        connection.backup(sqlite3.connect(statement.removeprefix(".backup ")))
    else:
        for row in connection.execute(statement):
            print(*row, sep="|")
"""
_PSQL = """
import sys
import psycopg

_, options, dsn, _, statement = sys.argv
with psycopg.connect(dsn) as connection:
    for row in connection.execute(statement):
        print(*row, sep="|")
"""
_ZSTD = """
import sys
import zstandard

for name in sys.argv[2:]:
    with zstandard.open(name, "rb") as file:
        sys.stdout.buffer.write(file.read())
"""
_STAND_INS = {"sqlite3": _SQLITE3, "psql": _PSQL, "zstd": _ZSTD}
"""As much of the programs themselves as the pages need."""


class Terminal:
    """A shell in ``folder``. ``environ`` is added to what every command gets."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.environ = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "COLUMNS": "100", **environ}
        self.environ["PATH"] += f":{_stand_ins(folder.parent)}"
        self._names: dict[str, str] = {}
        self._shown: dict[str, str] = {}
        self._before = ""

    def meet(self, url: str, admin_url: str) -> None:
        """The addresses of the Hermes that the page's commands are for."""
        data, admin = (each.removeprefix("http://") for each in (url, admin_url))
        self._names = {"localhost:8080": data, "127.0.0.1:8080": data, "127.0.0.1:8081": admin}
        self._shown = {data: "localhost:8080", admin: "127.0.0.1:8081"}
        self.environ["ADMIN_ADDR"] = admin

    def as_on_the_page(self, text: str) -> str:
        """What a program has printed, with the page's addresses."""
        for address, name in self._shown.items():
            text = text.replace(address, name)
        return text

    def type(self, command: Command) -> None:
        """Run a command; it has to end well, and to print what the page says."""
        end = time.monotonic() + PATIENCE
        while not self._try(command, last=not _LOOKS.match(command.text) or time.monotonic() > end):
            time.sleep(LOOK_SECONDS)
        if _SETS_UP.match(command.text):
            self._before += f"{command.text}\n"

    def _try(self, command: Command, *, last: bool) -> bool:
        text = command.text
        for name, address in self._names.items():
            text = text.replace(name, address)
        ran = subprocess.run(
            ["bash", "-c", self._before + text],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
        )
        printed = self.as_on_the_page(ran.stdout or ran.stderr)
        right = ran.returncode == 0 and fits(command, printed)
        told = "\n".join(command.output)
        assert right or not last, f"$ {command.text}\n{printed}\nexit code {ran.returncode}; the page says:\n{told}"
        return right


def _stand_ins(folder: Path) -> Path:
    """A folder of programs for the end of PATH, where a machine lacks what a reader has."""
    programs = Path(tempfile.mkdtemp(dir=folder))
    for name, script in _STAND_INS.items():
        (programs / name).write_text(f"#!{sys.executable}\n{script}")
        (programs / name).chmod(0o755)
    return programs


def path_of_this_environment() -> str:
    """PATH with the ``hermes`` of the Python that runs the tests."""
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"
