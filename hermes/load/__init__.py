"""`hermes load`: the built-in load generator, for a first try and for the benchmarks.

- `options`: the parameters of a run, checked before anything is sent
- `payload`: makes the request bodies
- `schedule`: says when a request is due in the open loop
- `response`: finds the end of an HTTP/1.1 answer
- `known`: recognises an answer that looks like an earlier one
- `connection`: one keep-alive connection
- `alarm`: a timer with a resolution of microseconds
- `reactor`: the loop over all connections
- `client`: one run, from the first connection to the summary
- `histogram`: latencies in bounded memory
- `tally`: the counters of a run and their summary
- `report`: the progress display and the summary table

The command is ``hermes.cli.load``. Only ``hermes.cli`` and the benchmarks import this package.
"""
