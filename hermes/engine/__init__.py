"""The event engine: from an accepted chunk to its outcome in every sink.

| file | idea |
|---|---|
| ``admission``    | who may come in: the bound on all that is in the house, and who waits for room |
| ``intake``       | the bounded channel, and the task that counts and hands out what comes through it |
| ``aggregate``    | counts by type and minute |
| ``aggregate_flush`` | the counts, sent to the sinks as events now and then |
| ``delivery``     | one sink: its buffer, its breaker, its retries, its workers |
| ``ledger``       | what became of every event, for each sink, so that it adds up |
"""
