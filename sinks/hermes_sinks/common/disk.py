"""What the sinks that keep files of their own do to a disk, beside what the standard library has. Blocking.

Called by the file sink and by the parquet sink, on threads.
"""

from __future__ import annotations

import os


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, however often it takes. Raises OSError, and then any part of it may be written."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
