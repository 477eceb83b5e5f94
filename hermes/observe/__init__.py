"""How Hermes is observed: the registry of metrics, the log lines, the tracing interface and the debugging tools.

- ``metrics``: the registry behind ``GET /metrics``
- ``log_lines``, ``throttled_log``: how a log line is written; lines about lasting trouble
- ``traced_request``, ``tracing``: a traced request as plain data; the interface that the engine calls
- ``service_status``, ``history``: the types of ``GET /status``; rates and quantiles of the last seconds
- ``settings``: the settings of log lines
- ``loop_lag``: how late the run loop is
- ``debug/``: stacks, profiles, heap and tasks of the running process
"""
