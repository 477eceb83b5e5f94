"""An HTTP client that posts to one server, for sinks that deliver over HTTP.

A request that gets no answer raises `NoAnswer`. Reasons and log lines never hold the URL's path, query or credentials.
"""

# Apart from `hermes.kit`: the import of httpx takes longer than that of all of `hermes.kit`, and a sink of files does
# without.
from hermes.net.outgoing import (
    Answer,
    Coding,
    HttpClient,
    NoAnswer,
    Target,
    compress,
    host_of,
    open_client,
    pack,
    parse_target,
    retry_after,
    tls_context,
)

__all__ = [
    "Answer",
    "Coding",
    "HttpClient",
    "NoAnswer",
    "Target",
    "compress",
    "host_of",
    "open_client",
    "pack",
    "parse_target",
    "retry_after",
    "tls_context",
]
