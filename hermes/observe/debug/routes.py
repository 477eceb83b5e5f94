"""Serves ``/debug/pprof/`` and below: from a path and its query to a response, in the manner of Go's net/http/pprof.

As in Go, ``debug=0`` (the default) is the format of ``go tool pprof``, and ``debug=1`` is text. The control lane
decides whether debugging is on.

Invariant: every request is bounded in time, rate and size, and a refusal says what to do (RFC 9457 problem details).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import msgspec
import trio

from hermes.observe.debug import page
from hermes.observe.debug.aside import run_aside
from hermes.observe.debug.block import DEFAULT_THRESHOLD, MIN_THRESHOLD, block_profile
from hermes.observe.debug.exclusive import VIEWS, ProfilerBusy, ProfilerUnavailable
from hermes.observe.debug.heap import DEFAULT_DEPTH, MAX_DEPTH, heap_profile
from hermes.observe.debug.memory import memory_summary
from hermes.observe.debug.parameters import BadParameterError, Parameters
from hermes.observe.debug.profile import DEFAULT_HZ, MAX_HZ, cpu_profile
from hermes.observe.debug.tasks import take_snapshot
from hermes.observe.debug.tasks_text import render_summary, render_tree

PREFIX = "/debug/pprof/"
MIN_SECONDS, MAX_SECONDS = 0.1, 120.0
# Tracing leaves 40 % of the throughput, with a depth of 32 only 5 %: not for long.
MAX_HEAP_SECONDS = 30.0
# As in Go, so that the time-outs of tools fit.
CPU_SECONDS = 30.0
WATCH_SECONDS = 10.0

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


class Answer(NamedTuple):
    """A response: status code, content type, body, further headers."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str]


async def answer(path: str, query: Mapping[str, str]) -> Answer:
    """Return the response to ``GET path?query``. Takes as long as the requested profile; may be cancelled.

    ::

        status, content_type, body, headers = await answer("/debug/pprof/goroutine", {"debug": "2"})
    """
    if path == PREFIX.rstrip("/"):
        # The links of the page are relative, and resolve only below the slash.
        return Answer(308, TEXT, b"", {"Location": PREFIX})
    # A lookup by the exact name: nothing of the path reaches the file system.
    page_function = _PAGES.get(path.removeprefix(PREFIX)) if path.startswith(PREFIX) else None
    if page_function is None:
        names = ", ".join(name for name in _PAGES if name)
        return _problem(404, "Not Found", f"there is no such profile; under {PREFIX} there are: {names}")
    try:
        return await page_function(Parameters(query))
    except BadParameterError as error:
        return _problem(400, "Bad Request", str(error))
    except ProfilerBusy as error:
        # Retry-After takes whole seconds; 0 would bring the client back too early.
        wait = str(max(1, math.ceil(error.retry_after)))
        return _problem(503, "Service Unavailable", str(error), {"Retry-After": wait})
    except ProfilerUnavailable as error:
        return _problem(501, "Not Implemented", str(error))


async def _index(_parameters: Parameters) -> Answer:
    tasks = trio.lowlevel.current_statistics().tasks_living
    return _ok("text/html; charset=utf-8", page.render(tasks))


async def _profile(parameters: Parameters) -> Answer:
    # All parameters are read before the profile begins: a mistake in the last one must not cost thirty seconds.
    form = parameters.format(("pprof", "speedscope", "folded"), ("pprof", "folded"))
    seconds = _seconds(parameters, CPU_SECONDS)
    samples = await cpu_profile(seconds, parameters.whole("hz", DEFAULT_HZ, 1, MAX_HZ))
    if form == "speedscope":
        return _file(JSON, await run_aside(samples.speedscope), "profile.speedscope.json")
    if form == "folded":
        return _ok(TEXT, await run_aside(samples.folded))
    return _pprof(await run_aside(samples.pprof), "profile")


async def _heap(parameters: Parameters) -> Answer:
    form = parameters.format(("pprof", "text"), ("pprof", "text"))
    seconds = _seconds(parameters, WATCH_SECONDS, MAX_HEAP_SECONDS)
    profile = await heap_profile(seconds, parameters.whole("depth", DEFAULT_DEPTH, 1, MAX_DEPTH))
    if form == "text":
        return _ok(TEXT, await run_aside(profile.text))
    return _pprof(await run_aside(profile.pprof), "heap")


async def _tasks(parameters: Parameters) -> Answer:
    form = parameters.format(("pprof", "text", "tree", "json"), ("pprof", "text", "tree"))
    async with VIEWS.turn():
        return await _tasks_as(form)


async def _tasks_as(form: str) -> Answer:
    tree = take_snapshot()
    if form == "pprof":
        return _pprof(await run_aside(tree.pprof), "goroutine")
    if form == "json":
        return _ok(JSON, await run_aside(tree.json))
    render = render_tree if form == "tree" else render_summary
    return _ok(TEXT, await run_aside(lambda: render(tree)))


async def _block(parameters: Parameters) -> Answer:
    form = parameters.format(("pprof", "text", "json"), ("pprof", "text"))
    seconds = _seconds(parameters, WATCH_SECONDS)
    threshold = parameters.number("threshold_ms", DEFAULT_THRESHOLD * 1e3, MIN_THRESHOLD * 1e3, 10_000, "milliseconds")
    profile = await block_profile(seconds, threshold / 1e3)
    if form == "json":
        return _ok(JSON, await run_aside(profile.json))
    if form == "text":
        return _ok(TEXT, await run_aside(profile.text))
    return _pprof(await run_aside(profile.pprof), "block")


async def _memory(parameters: Parameters) -> Answer:
    form = parameters.format(("text", "json"), ("text", "text"))
    async with VIEWS.turn():
        summary = await memory_summary()
    return _ok(JSON, summary.json()) if form == "json" else _ok(TEXT, summary.text())


_PAGES: Mapping[str, Callable[[Parameters], Awaitable[Answer]]] = {
    "": _index,
    "profile": _profile,
    "heap": _heap,
    # Go's name for it, which `go tool pprof` and its users know.
    "goroutine": _tasks,
    "tasks": _tasks,
    "block": _block,
    "memory": _memory,
}

# A profile of a minute ago must not come from a cache; nosniff keeps a browser from running text as a script.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _seconds(parameters: Parameters, default: float, most: float = MAX_SECONDS) -> float:
    return parameters.number("seconds", default, MIN_SECONDS, most, "seconds")


def _ok(content_type: str, body: str | bytes) -> Answer:
    # A source line or a task's name may hold half of a surrogate pair, which cannot be encoded.
    return Answer(200, content_type, body.encode(errors="replace") if isinstance(body, str) else body, _HEADERS)


def _file(content_type: str, body: bytes, name: str) -> Answer:
    return Answer(200, content_type, body, {**_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'})


def _pprof(body: bytes, name: str) -> Answer:
    return _file("application/octet-stream", body, f"{name}.pb.gz")


def _problem(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Answer:
    body = msgspec.json.encode({"type": "about:blank", "title": title, "status": status, "detail": detail})
    return Answer(status, "application/problem+json", body, {**_HEADERS, **(headers or {})})
