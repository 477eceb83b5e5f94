"""The whole service in one process on a virtual clock, under faults that a seed decides, and an oracle that judges.

| file | idea |
|---|---|
| ``plan``         | what a seed decides: settings, sinks, clients, timetable |
| ``faults``       | the timetable: what strikes when |
| ``world``        | the outside of the service, and its lives one after the other; the crash at any step |
| ``network``      | connections in memory: latency, fragments, cuts, clients that vanish |
| ``door``         | Unix sockets between that network and the reactor, which wants descriptors |
| ``disk``         | real files in memory, of which only what was synced survives a loss of power |
| ``inode``        | one of them: its durable bytes, its pages that were not synced |
| ``vfs``          | SQLite on that disk: the journal, the dead letters, the sqlite sink |
| ``calls``        | Python's calls on it: locks, the watermark, folders, the file sink |
| ``threads``      | calls on threads, each at one moment of the virtual clock |
| ``stored``       | what the files hold, read from copies |
| ``disk_sinks``   | the built-in sinks that keep files |
| ``sinks``        | databases on other machines, with moods and dislikes |
| ``requests``     | events and requests, byte for byte |
| ``clients``      | who sends them, and sends them again |
| ``oracle``       | what was sent, what was promised, and what is wrong |
| ``trace``        | what happened, and a hash of it |
| ``run``          | one seed, from the first request to the judgement |
| ``runner``       | many seeds on many processes, and the report of one that fails |

``python -m tests.simulation --seeds 300`` runs many, ``--seed 7`` one with its whole trace.
"""
