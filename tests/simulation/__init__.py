"""The whole service in one process on a virtual clock, under faults that a seed decides, and an oracle that judges.

| file | idea |
|---|---|
| ``plan``         | what a seed decides: settings, sinks, clients, timetable |
| ``faults``       | the timetable: what strikes when |
| ``world``        | the outside of the service, and its lives one after the other; the crash at any step |
| ``network``      | connections in memory: latency, fragments, cuts, clients that vanish |
| ``door``         | Unix sockets between that network and the reactor, which wants descriptors |
| ``disk``         | files of which only what was synced survives a loss of power |
| ``log``          | the contract of `hermes.log` on that disk, with the rows and the group commit of the real one |
| ``dead_letters`` | the real store of dead letters on SQLite, whose file is on that disk |
| ``sinks``        | databases on other machines, with moods and dislikes |
| ``requests``     | events and requests, byte for byte |
| ``clients``      | who sends them, and sends them again |
| ``oracle``       | what was sent, what was promised, and what is wrong |
| ``trace``        | what happened, and a hash of it |
| ``run``          | one seed, from the first request to the judgement |
| ``runner``       | many seeds on many processes, and the report of one that fails |

``python -m tests.simulation --seeds 300`` runs many, ``--seed 7`` one with its whole trace.
"""
