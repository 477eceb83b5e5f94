"""PgBouncer in front of a PostgreSQL server of the tests, pooling as it is told.

Invariant: nothing outlives the block. Needs Debian's ``pgbouncer``; a test is skipped where it is missing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.needs import lacks
from tests.servers.postgres import UNPRIVILEGED_USER, free_port

START_SECONDS = 10.0


@contextmanager
def pgbouncer(dsn: str, pool_mode: str) -> Iterator[str]:
    """A pooler of ``session``, ``transaction`` or ``statement`` before the database ``dsn``; its own DSN."""
    program = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        lacks("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    target, port = conninfo_to_dict(dsn), free_port()
    folder = Path(tempfile.mkdtemp(prefix="hermes-pgbouncer-", dir="/tmp"))
    (folder / "ini").write_text(
        f"""
        [databases]
        * = host={target["host"]} port={target["port"]} user={target["user"]}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        pool_mode = {pool_mode}
        """
    )
    user = UNPRIVILEGED_USER if os.geteuid() == 0 else None  # like PostgreSQL, it refuses to run as root
    if user is not None:
        shutil.chown(folder, user)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "ini"], cwd=folder, stdout=log, stderr=log, user=user, group=user)
    try:
        _wait_listening(process, port, folder / "log")
        yield make_conninfo(dsn, host="127.0.0.1", port=port)
    finally:
        process.terminate()
        process.wait(START_SECONDS)
        shutil.rmtree(folder)


def _wait_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        else:
            return
