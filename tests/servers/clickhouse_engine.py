"""ClickHouse's HTTP interface over the engine itself (the distribution chdb), as a program of its own.

    python -m tests.servers.clickhouse_engine FOLDER PASSWORD

It prints its port when it listens, and ends with its standard input. What it speaks of the interface: the statement in
``query``, settings beside it, the body behind it with its content coding, the headers of the user, errors with their
code in a header. A process of its own, since the engine keeps global state and takes over signals. The engine does not
see the process's standard input: that of release 24.8 waits there for the rows of an INSERT.
"""

from __future__ import annotations

import gzip
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import zstandard
from chdb import session

_OF_HTTP = {"query", "wait_end_of_query"}
_STATUSES = {16: 400, 41: 400, 60: 404, 81: 404, 117: 400, 469: 400, 516: 403}  # the others: 500
_engine_lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Any
    password: str

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        coding = self.headers.get("content-encoding")
        if coding == "gzip":
            body = gzip.decompress(body)
        elif coding == "zstd":
            body = zstandard.ZstdDecompressor().decompress(body)
        if self.headers.get("x-clickhouse-key", "") != self.password:
            self.fail("Code: 516. DB::Exception: default: Authentication failed. (AUTHENTICATION_FAILED)")
            return
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        statement = parameters["query"]
        settings = ", ".join(f"{name} = '{value}'" for name, value in parameters.items() if name not in _OF_HTTP)
        if settings and " FORMAT JSONEachRow" in statement:
            statement = statement.replace(" FORMAT JSONEachRow", f" SETTINGS {settings} FORMAT JSONEachRow", 1)
        try:
            with _engine_lock:
                result = self.engine.query(f"{statement} {body.decode()}" if body else statement)
        except RuntimeError as error:  # the engine's own are of a class below it
            self.fail(str(error))
        else:
            self.answer(200, result.bytes() or b"")

    def fail(self, words: str) -> None:
        found = re.search(r"Code: (\d+)", words)
        code = int(found[1]) if found else 1002
        self.answer(_STATUSES.get(code, 500), words.encode() + b"\n", code)

    def answer(self, status: int, body: bytes, code: int = 0) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-ClickHouse-Exception-Code", str(code))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


def main() -> None:
    parent = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    Handler.engine, Handler.password = session.Session(sys.argv[1]), sys.argv[2]
    Handler.engine.query("CREATE DATABASE IF NOT EXISTS default")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while os.read(parent, 4096):
        pass
    os._exit(0)  # the engine's threads are not waited for


if __name__ == "__main__":
    main()
