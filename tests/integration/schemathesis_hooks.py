"""What Schemathesis is told about this service: how bodies of its media types are written. Loaded by its command."""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from hypothesis import strategies as st

LINES = st.lists(
    st.one_of(
        st.text(max_size=40).map(lambda text: text.replace("\n", " ")),
        st.fixed_dictionaries(
            {
                "id": st.text(max_size=10),
                "user_id": st.just("ann"),
                "type": st.sampled_from(["song_played", "unknown"]),
                "timestamp": st.integers(-1, 2**40),
            }
        ).map(json.dumps),
    ),
    max_size=4,
).map(lambda lines: "\n".join(lines).encode())

schemathesis.openapi.media_type("application/x-ndjson", LINES)
schemathesis.openapi.media_type("application/x-protobuf", st.binary(max_size=200))


@schemathesis.serializer("application/x-ndjson")
def serialize_lines(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.serializer("application/x-protobuf")
def serialize_protobuf(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
