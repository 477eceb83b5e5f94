"""The event engine: from an accepted chunk to its outcome in every sink.

| file | idea |
|---|---|
| ``engine``       | the engine as one thing: its tasks, its end, the account of every event |
| ``making``       | the parts of an engine, made in the order in which they need each other |
| ``admission``    | the bound on all accepted events, and the queue of requests that wait for room |
| ``intake``       | the bounded channel, and the task that counts and hands on its chunks |
| ``journal_intake`` | the same with a commit to the journal before chunks are handed on |
| ``tap``          | live events, for people who look while they go by |
| ``receipts``     | requests that wait until their events are delivered |
| ``slices``       | answers to many requests, with checkpoints between them |
| ``aggregate``    | counts by type and minute |
| ``aggregate_flush`` | these counts, sent to the sinks as events now and then |
| ``context``      | one sink, its settings, and the numbers that are counted of it |
| ``delivery``     | one sink at work: its workers, and the outcome of every batch |
| ``attempts``     | one attempt after the other to write a batch, until it has its outcome |
| ``buffer``       | the chunks that wait for a worker of one sink, and the batches in hand |
| ``job``          | one batch on its way through its attempts |
| ``sink_calls``   | one call of a sink: its breaker, its time-out, its dead letters |
| ``suspicion``    | whether a refusal is the fault of the sink or of the events |
| ``workable``     | how many events of one write are expected to be written in time |
| ``backlog``      | reads back what a sink that is behind has on disk alone |
| ``owed``         | where each record is that the journal owes a sink: in memory, or on disk alone |
| ``loaded``       | one record while its events are in memory |
| ``put_back``     | the refused records of a sink that left memory for others, and lie on disk again |
| ``pace``         | how fast a backlog is read |
| ``journal``      | every accepted chunk as a record of the log, and how far each sink has come |
| ``journal_record`` | a chunk as bytes, and back |
| ``progress``     | how far one sink has come: a cursor, and the settled ranges beyond it |
| ``upkeep``       | saves the progress of the sinks, trims the journal, makes room |
| ``ledger``       | the account of one sink, which must balance |
| ``collectors``   | the metrics of all of this |
| ``status``       | one snapshot of the engine, for the dashboard and ``hermes top`` |
| ``status_types`` | the types of that snapshot |
| ``ranking``      | many counts as a few rows |
"""
