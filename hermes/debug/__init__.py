"""Debugging a running Hermes: what ``/debug/pprof/`` answers. Nothing here costs anything until it is asked for.

The modules, each usable alone:

| module | what it answers |
|---|---|
| ``routes`` | one function from a path and its query to a response: what the control lane calls |
| ``profile`` | where CPU time goes, by thread and Trio task |
| ``heap``, ``memory`` | what was allocated and is still alive; how large the process is |
| ``tasks``, ``held``, ``awaits`` | the Trio task tree: where each task waits, under which cancel scopes |
| ``block`` | what keeps the run loop from its other tasks |
| ``stacks``, ``pprof``, ``flame`` | stacks as data, and the file formats that profilers' viewers read |
| ``exclusive`` | one profile of a kind at a time |

Invariant: a profile leaves no trace. However it ends, the signal handler, tracemalloc and the loop's instruments are
as they were before. Imports nothing of Hermes but its errors.
"""

from __future__ import annotations

from hermes.debug.routes import Answer, answer

__all__ = ["Answer", "answer"]
