"""Helpers for the authors of sinks: clean-up, threads, files and text. The built-in sinks use the same ones.

| module | what it has | needs |
|---|---|---|
| `hermes.kit` | clean-up that a stop bounds, calls on threads, folders and files, text of others | |
| `hermes.kit.http` | a client that posts to one server | |
| `hermes.kit.postgres` | connections, a pool, and whose fault an error is | the extra `postgres` |
| `hermes.kit.sqlite` | a database file that is written on a thread | |

Together with `hermes`, `hermes.config` and `hermes.testing` this is the public interface: a sink that imports
only from these modules goes on working when other modules of Hermes are renamed or changed. Hermes itself imports
nothing from here.
"""

# Instead of a shielded scope of Trio: a stop ends this clean-up by SHUTDOWN_TIMEOUT, and knows the threads that hang.
from hermes.base.cleanup import clean_up, run_to_end, time_on_threads

# Instead of `Path.mkdir`, which leaves the folder's name unsynced: a loss of power may take the name, and every file in
# the folder.
from hermes.base.folders import make_folder, sync_folder
from hermes.base.quoting import clean

# Instead of `trio.to_thread.run_sync`: an error from there keeps the call's batch in memory until the garbage collector
# runs.
from hermes.base.threads import run_on_thread
from hermes.store.in_place import is_in_place

# The name of the lock's file too: a sink asks `is_in_place` whether the file that it has locked still has this name.
from hermes.store.log.sqlite.folder import LOCK, lock_folder

# Without `__all__` a strict type checker takes an imported name for private, and a linter takes it for unused. The
# reference of the interface is made from the lists too.
__all__ = [
    "LOCK",
    "clean",
    "clean_up",
    "is_in_place",
    "lock_folder",
    "make_folder",
    "run_on_thread",
    "run_to_end",
    "sync_folder",
    "time_on_threads",
]
