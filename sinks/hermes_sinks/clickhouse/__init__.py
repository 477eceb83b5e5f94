"""Stores events in a ClickHouse table, over the server's HTTP interface. Needs no driver.

``settings`` has the sink's settings, ``rows`` encodes the rows, ``sink`` sends them, ``table`` makes and checks the
table, ``faults`` judges the server's answers. `hermes_sinks.common.parts` finds the refused rows; the HTTP client is
`hermes.net.outgoing`.
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
