"""Pure building blocks: they import nothing of Hermes but each other, and could be a library of their own.

- ``dispatch``, ``breaker``: batches of bounded size; whether a call may be made now
- ``errors``: the errors that cross a boundary, and who has to act on each
- ``rate``, ``throttle``: events a second; which log lines are written
- ``cleanup``, ``threads``, ``repeated_event``: shielded and bounded clean-up; calls on threads; a wake-up for many
  tasks
- ``folders``, ``quoting``, ``spelling``, ``varint``: durable folders; text from outside; slips of the finger; protobuf
- ``json/``: finds, checks and cuts JSON text without decoding it
"""
