"""The event engine: from an accepted chunk to its outcome in every sink.

| file | idea |
|---|---|
| ``admission``    | who may come in: the bound on all that is in the house, and who waits for room |
| ``intake``       | the bounded channel, and the task that counts and hands out what comes through it |
| ``aggregate``    | counts by type and minute |
| ``aggregate_flush`` | the counts, sent to the sinks as events now and then |
| ``receipts``     | requests that wait until their events are delivered |
| ``delivery``     | one sink: its buffer, its workers, the outcome of every batch |
| ``calls``        | one call of a sink: its breaker, its time-out, its retries, its dead letters |
| ``backlog``      | what of the journal a sink has not had: in memory, or on disk alone and read back |
| ``journal``      | every accepted chunk as a record of the log, and how far each sink has come |
| ``journal_record`` | a chunk as bytes, and back |
| ``progress``     | how far one sink has come: a cursor, and what is settled beyond it |
| ``upkeep``       | the journal's progress is saved, its records are trimmed, room is made |
| ``ledger``       | what became of every event, for each sink, so that it adds up |
| ``accounting``   | the ledgers of all sinks, for people |
| ``status``       | one snapshot of all of it, for the dashboard and ``hermes top`` |
| ``tap``          | live events, for whoever wants to look |
"""
