"""The figures of the formula of memory, as ``docs/how-to/size.md`` has them: the tests measure what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "size.md"
_FORMULA = re.compile(
    r"^(\d+) MB  \+  QUEUE_BYTES  \+  sinks × QUEUE_BYTES  \+  QUEUE_SIZE × ([\d.]+) KB"
    r"  \+  MAX_CONNECTIONS × (\d+) KB\n"
    r" +\+  requests in progress: QUEUE_BYTES, or 12 × MAX_BODY_BYTES if that is more"
    r"  \+  heads that are remembered, 8 MiB at most\n"
    r" +\+  connections of the control lane, 1,000 at most × (\d+) KB$",
    re.MULTILINE,
)


class Figures(NamedTuple):
    """Bytes of an empty program, and of each event, connection and control connection; two of them over TLS."""

    empty: int
    event: int
    connection: int
    control: int
    tls_connection: int
    tls_event: int


def figures() -> Figures:
    """What the page says today."""
    text = PAGE.read_text()
    found, tls = (
        _FORMULA.search(text),
        re.search(r"^Over TLS a connection takes (\d+) KB and an event ([\d.]+) KB", text, re.M),
    )
    assert found, "the formula has changed: change the tests that measure it"
    assert tls, "the page no longer says what is different over TLS"
    empty, *plain = found.groups()
    sizes = (int(float(size) * 1000) for size in (*plain, *tls.groups()))
    return Figures(int(empty) * 10**6, *sizes)
