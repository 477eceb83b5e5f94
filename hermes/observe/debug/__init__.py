"""Debugging a running Hermes: the profiles under ``/debug/pprof/``. A profile costs nothing until somebody asks for it.

The modules, each usable alone:

| module | content |
|---|---|
| ``routes`` | one function from a path and its query to a response, which the control lane calls |
| ``page``, ``parameters`` | the page of links; the checked query parameters |
| ``profile`` | CPU time by thread, Trio task and line |
| ``heap`` | memory that was allocated during the profile and is still alive |
| ``memory`` | the size of the process, live objects by type |
| ``tasks``, ``tasks_text`` | the Trio task tree, and its rendering as text |
| ``held``, ``awaits`` | the cancel scopes and the coroutines of a suspended task |
| ``block`` | task steps that keep the run loop from its other tasks |
| ``stacks``, ``pprof``, ``flame`` | stacks as data, and the file formats of profile viewers |
| ``exclusive`` | one profile of a kind at a time |
| ``aside`` | slow work on a thread |

Invariant: a profile leaves no trace. However it ends, the signal handler, tracemalloc and the loop's instruments are as
before. Imports nothing of Hermes but its errors.
"""

from __future__ import annotations

from hermes.observe.debug.routes import Answer, answer

__all__ = ["Answer", "answer"]
