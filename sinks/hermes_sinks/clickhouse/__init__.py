"""The sink that stores events in a ClickHouse table, over the server's HTTP interface. Needs no driver.

``rows`` makes the rows, ``sink`` sends them, ``table`` says what a table can hold, ``faults`` what the server's answer
means. `hermes_sinks.common.parts` finds rows that are refused; httpx is `hermes.outgoing`.
"""

from hermes import SinkPlugin
from hermes_sinks.clickhouse.settings import ClickHouseSettings
from hermes_sinks.clickhouse.sink import ClickHouseSink, check_clickhouse, open_clickhouse

__all__ = ["ClickHouseSettings", "ClickHouseSink", "check_clickhouse", "open_clickhouse", "plugin"]

plugin = SinkPlugin(
    open_clickhouse,
    ClickHouseSettings,
    summary="a ClickHouse table, each event id once (with FINAL)",
    check=check_clickhouse,
)
