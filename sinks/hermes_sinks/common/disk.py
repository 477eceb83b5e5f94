"""Writes bytes to a descriptor completely, for sinks that keep files. Blocking.

Invariant: after a return without an error, all bytes are written.
"""

from __future__ import annotations

import os


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data``. Raises OSError; then any part of ``data`` may be written.

    ::

        write_all(fd, b"a line\\n")
        os.fsync(fd)
    """
    # One call may write less: Linux writes at most 2 GiB at once, and less when the disk is nearly full.
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
