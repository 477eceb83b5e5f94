"""A PostgreSQL server of the tests' own: made in a temporary folder, on a free loopback port and a Unix socket.

Invariant: nothing outlives `PostgresServer.remove()`, neither a process nor a file. Every method blocks for a bounded
time; a Trio test calls those that wait (start, stop, restart) through `trio.to_thread.run_sync`.
`tests/integration/conftest.py` shares one server among all tests; a test that stops or kills a server makes its own.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

START_TIMEOUT = 20.0
STOP_TIMEOUT = 20.0
POLL_INTERVAL = 0.02
# PostgreSQL refuses to run as root; Debian's packages bring this user along.
UNPRIVILEGED_USER = "postgres"
# Durable as in production, so that what the tests measure and kill behaves alike.
SETTINGS = {"fsync": "on", "max_connections": "100", "log_min_messages": "warning"}

_END_OTHERS = """
    SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_USER_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"


class ServerUnavailableError(Exception):
    """No PostgreSQL can be run on this machine; the message says what is missing."""


class PostgresServer:
    """One server process with its data folder.

    `settings` are server options beside `SETTINGS`. Raises `ServerUnavailableError` where the programs or, for root,
    the unprivileged user are missing.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._programs = find_programs()
        self._user = _server_user()
        self._settings = {**SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = itertools.count(1)
        self._spare_databases: list[str] = []
        self.port = free_port()
        # A short path: a Unix socket's may have 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="hermes-pg-", dir="/tmp"))
        if self._user is not None:
            shutil.chown(self.folder, self._user, self._user)
        self._run_initdb()

    def dsn(self, database: str = "postgres", *, unix_socket: bool = False) -> str:
        """Return the connection string of `database`, over TCP or over the Unix socket."""
        host = str(self.folder) if unix_socket else "127.0.0.1"
        return make_conninfo(host=host, port=self.port, user=UNPRIVILEGED_USER, dbname=database)

    def start(self) -> None:
        """Start the server and return when it answers queries."""
        assert self._process is None, "already started"
        deadline = time.monotonic() + START_TIMEOUT
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            **self._settings,
        }
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "data")]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            while True:
                process = subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    user=self._user,
                    group=self._user,
                    start_new_session=True,  # a Ctrl-C at the tests is not the server's
                )
                if self._wait_ready(process, deadline):
                    self._process = process
                    return
                # After a kill, the old backends hold the shared memory for a moment longer.
                if time.monotonic() > deadline:
                    raise TimeoutError(f"PostgreSQL did not start:\n{self.log_tail()}")
                time.sleep(POLL_INTERVAL)

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped or killed since."""
        return self._process is not None

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server: fast (connections are ended, data is flushed), or immediate (as in a crash)."""
        if self._process is None:
            return
        self.resume()
        process, self._process = self._process, None
        process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
        process.wait(STOP_TIMEOUT)

    def kill(self) -> None:
        """End the server and its backends with SIGKILL, all at once."""
        assert self._process is not None, "not started"
        process, self._process = self._process, None
        # The postmaster first: it would take the death of a child for a crash and begin a recovery.
        for pid in (process.pid, *_children(process.pid)):
            _signal(pid, signal.SIGKILL)
        process.wait(STOP_TIMEOUT)

    def restart(self, *, immediate: bool = False) -> None:
        """Stop and start again, on the same port and data."""
        self.stop(immediate=immediate)
        self.start()

    def pause(self) -> None:
        """Freeze the server and its backends (SIGSTOP): connections stay open and nothing answers."""
        assert self._process is not None, "not started"
        for pid in (self._process.pid, *_children(self._process.pid)):
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause()`."""
        assert self._process is not None, "not started"
        for pid in (self._process.pid, *_children(self._process.pid)):
            _signal(pid, signal.SIGCONT)

    def create_database(self) -> str:
        """Return the name of an empty database that nobody else uses."""
        if self._spare_databases:
            return self._spare_databases.pop()
        name = f"test_{next(self._databases)}"
        with psycopg.connect(self.dsn(unix_socket=True), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def recycle_database(self, name: str) -> None:
        """Take a database back: end whatever is connected to it and empty it, for the next `create_database()`.

        Emptying takes a twentieth of the time of creating.
        """
        with psycopg.connect(self.dsn(name, unix_socket=True), autocommit=True) as connection:
            connection.execute(_END_OTHERS, [int(STOP_TIMEOUT * 1000)])
            connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(name)))
            schemas = connection.execute(_USER_SCHEMAS).fetchall()
            for (schema,) in schemas:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
            connection.execute("CREATE SCHEMA public")
        self._spare_databases.append(name)

    def remove(self) -> None:
        """Stop the server if it runs, and delete its folder."""
        self.stop(immediate=True)
        shutil.rmtree(self.folder)

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the server's log."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-lines:])

    def _run_initdb(self) -> None:
        command = [str(self._programs / "initdb"), "-D", str(self.folder / "data"), "--no-sync", "--auth=trust"]
        options = [f"--username={UNPRIVILEGED_USER}", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        finished = subprocess.run(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            user=self._user,
            group=self._user,
            timeout=60,
            check=False,
        )
        if finished.returncode:
            shutil.rmtree(self.folder)
            raise ServerUnavailableError(f"initdb failed: {finished.stdout.decode(errors='replace')}")

    def _wait_ready(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        """Return True when the server answers, False when the process has ended or the time is over."""
        while process.poll() is None:
            try:
                psycopg.connect(self.dsn(unix_socket=True), connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    return False
                time.sleep(POLL_INTERVAL)
            else:
                return True
        return False


def find_programs() -> Path:
    """Return the folder that holds initdb and postgres: `POSTGRES_BIN`, or what scripts/find-postgres finds."""
    named = os.environ.get("POSTGRES_BIN")
    if named:
        found = named
    else:
        script = Path(__file__).parents[2] / "scripts" / "find-postgres"
        found = subprocess.run([script], capture_output=True, text=True, check=False).stdout.strip()
    if not found or not (Path(found) / "initdb").exists():
        raise ServerUnavailableError(
            "no PostgreSQL server programs were found: install them (Debian: apt-get install postgresql)"
            " or set POSTGRES_BIN to the folder that holds initdb and postgres"
        )
    return Path(found)


def _server_user() -> str | None:
    """Return the user to become, or None when this process is not root's."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(UNPRIVILEGED_USER).pw_name
    except KeyError:
        raise ServerUnavailableError(
            f"PostgreSQL refuses to run as root and there is no user {UNPRIVILEGED_USER!r} to run it as"
        ) from None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # a backend that ended in the meantime
