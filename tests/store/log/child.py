"""A log in a process of its own, to be killed and starved: obeys one JSON command a line, answers with one.

Run as ``python -m tests.store.log.child FOLDER``. ``Child`` is the other end. A record is its name, padded to its size.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trio

from hermes.base.errors import HermesError
from hermes.observe.log_lines import configure_logs
from hermes.store.log.sqlite import log as engine
from hermes.store.log.sqlite.log import SqliteLog, open_sqlite_log

ROOT = Path(__file__).resolve().parents[3]
PR_SET_PTRACER, ANYBODY = 0x59616D61, -1


def record(name: str, size: int) -> bytes:
    return name.encode().ljust(size, b".")


class Child:
    """The log's process, with ``prefix`` before its command line. Leaving the block kills it, if it still runs."""

    def __init__(self, folder: Path, *, prefix: Sequence[str] = (), **constants: int) -> None:
        command = [*prefix, sys.executable, "-m", "tests.store.log.child", str(folder), json.dumps(constants)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.opened = self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def answer(self) -> dict[str, Any]:
        """The next answer; empty when the process has ended."""
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or b"{}")
        return answer

    def send(self, do: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do} | arguments).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.send(do, **arguments)
        return self.answer()

    def kill(self) -> list[dict[str, Any]]:
        """Kill it as ``kill -9`` does; return what it had still answered."""
        self._process.kill()
        return self._end()

    def close(self) -> list[dict[str, Any]]:
        """Let it close the log and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._end()

    def _end(self) -> list[dict[str, Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        rest = []
        if not self._process.stdout.closed:
            lines = self._process.stdout.read().split(b"\n")
            rest = [json.loads(line) for line in lines[:-1]]
            self._process.stdout.close()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        return rest

    @contextmanager
    def failing(self, calls: str, error: str, *, path: Path | None = None) -> Iterator[None]:
        """While the block runs, these system calls (a comma list) fail with this error; those on ``path`` alone."""
        inject = [f"--trace={calls}", f"--inject={calls}:error={error}", *(["-P", str(path)] if path else [])]
        command = ["strace", "-f", "-o", os.devnull, *inject, "-p", str(self._process.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            try:
                assert strace.stderr is not None
                said = ""
                while "attached" not in said:
                    line = strace.stderr.readline()
                    assert line, f"strace ended: {said}"
                    said += line
                yield
            finally:
                strace.send_signal(signal.SIGINT)


# In the process


async def append(log: SqliteLog, names: list[str], size: int = 0) -> Any:
    return {"index": await log.append([record(name, size) for name in names])}


async def read(log: SqliteLog, from_index: int = 0) -> Any:
    found: list[Any] = []
    index = max(from_index, log.first)
    while index < log.next:
        records = await log.read(index)
        found += [[each.index, each.data.rstrip(b".").decode(), len(each.data)] for each in records]
        index = records[-1].index + 1
    return {"records": found}


async def trim(log: SqliteLog, to_index: int) -> Any:
    await log.trim(to_index)
    return {}


async def take_snapshot(log: SqliteLog, index: int, state: str) -> Any:
    await log.take_snapshot(index, state.encode())
    return {}


async def state(log: SqliteLog) -> Any:
    numbers = log.statistics()
    kept = log.snapshot
    return {
        "first": log.first,
        "next": log.next,
        "bytes": numbers.bytes,
        "failed_commits": numbers.failed_commits,
        "snapshot": kept and [kept.index, kept.state.decode()],
    }


async def load(log: SqliteLog, tasks: int, size: int) -> Any:
    """Append without end from many tasks, and tell of each append that has returned."""

    async def append_on(task: int) -> None:
        number = 0
        while True:
            name = f"{task}/{number}"
            say({"index": await log.append([record(name, size)]), "name": name})
            number += 1

    async with trio.open_nursery() as nursery:
        for task in range(tasks):
            nursery.start_soon(append_on, task)


COMMANDS: dict[str, Any] = {
    function.__name__: function for function in (append, read, trim, take_snapshot, state, load)
}


def say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


async def obey(folder: Path) -> None:
    async with open_sqlite_log(folder) as log:
        say(await state(log))
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            command = json.loads(line)
            try:
                say(await COMMANDS[command.pop("do")](log, **command))
            except HermesError as error:
                say({"error": type(error).__name__, "message": str(error)})


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYBODY, 0, 0, 0)  # where only an ancestor may trace
    configure_logs("info", "json")  # to stderr, for stdout has the answers
    for name, value in json.loads(sys.argv[2]).items():
        setattr(engine, name, value)
    try:
        trio.run(obey, Path(sys.argv[1]))
    except HermesError as error:
        say({"error": type(error).__name__, "message": str(error)})


if __name__ == "__main__":
    main()
