"""Makes the two tables of the postgres log, and checks tables that exist.

Invariant: several instances may start at once, and an older Hermes never writes into the tables of a newer one. All
logs of a schema share the two tables, which the connection's `search_path` finds.
"""

from __future__ import annotations

import re

from hermes.base.errors import LogUnavailable
from hermes.store.postgres import Connection

SCHEMA_VERSION = 1

TABLES = ("hermes_log", "hermes_log_state")

# Guards making the tables: of two concurrent CREATE TABLE IF NOT EXISTS one may fail with a unique violation.
_ADVISORY_LOCK = 0x6865726D65736C  # "hermesl"

HAS_RECORDS = """coalesce((
    SELECT index + count FROM hermes_log WHERE log = state.log ORDER BY index DESC LIMIT 1
) > first_index, false)"""
"""Whether the log of a row of ``hermes_log_state AS state`` keeps any records."""

_COMMENT = re.compile(r"Hermes log, schema (\d+)")

# Not to_regclass: its cached answer may be older than the wait for the lock, and miss the new table.
_FIND = """
SELECT relname::text, coalesce(obj_description(oid, 'pg_class'), '') FROM pg_class
WHERE relname = ANY (%s) AND pg_table_is_visible(oid)
"""

# Rows come at one end and go at the other, so autovacuum gives the space of trimmed rows back: to the table for the
# next rows, and from the end of the table to the system. Therefore the number of dead rows alone starts a vacuum, not
# their share of the table, and the vacuum makes none of the pauses that spare a server's other work.
_MAKE = f"""
CREATE TABLE hermes_log (
    log text NOT NULL,
    index bigint NOT NULL,
    count bigint NOT NULL,
    "offset" bigint NOT NULL,
    checksum bigint NOT NULL,
    token bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (log, index)
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 20000,
    toast.autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE hermes_log IS 'Hermes log, schema {SCHEMA_VERSION}';
COMMENT ON COLUMN hermes_log.index IS 'of the first record';
COMMENT ON COLUMN hermes_log."offset" IS 'bytes of all records before, since the log began';
COMMENT ON COLUMN hermes_log.token IS 'of the commit that brought the row';
COMMENT ON COLUMN hermes_log.data IS 'the length of each record (4 bytes, little-endian), then the records';
CREATE TABLE hermes_log_state (
    log text PRIMARY KEY,
    openings bigint NOT NULL,
    first_index bigint NOT NULL DEFAULT 0,
    first_offset bigint NOT NULL DEFAULT 0,
    snapshot_index bigint,
    snapshot_checksum bigint,
    snapshot bytea
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);
COMMENT ON TABLE hermes_log_state IS 'Hermes log, schema {SCHEMA_VERSION}';
COMMENT ON COLUMN hermes_log_state.openings IS 'how often the log was opened: the last to do so may settle doubts';
"""

# Measured with events as JSON: lz4 halves the write-ahead log, and commits are 1.1 to 2.3 times as fast as
# without compression; with pglz, which every server has, they are 0.4 to 0.7 times as fast.
_CAN_LZ4 = "SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"
_COMPRESS = "ALTER TABLE hermes_log ALTER COLUMN data SET COMPRESSION lz4"
_DO_NOT_COMPRESS = "ALTER TABLE hermes_log ALTER COLUMN data SET STORAGE EXTERNAL"


async def prepare_tables(connection: Connection) -> None:
    """Make the tables, or check the tables that exist. Raises `hermes.LogUnavailable`, psycopg's errors."""
    if await _are_made(connection):
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        # Another instance may have made them meanwhile.
        if not await _are_made(connection):
            await connection.execute(_MAKE)
            compresses = (await connection.execute(_CAN_LZ4)).rowcount
            await connection.execute(_COMPRESS if compresses else _DO_NOT_COMPRESS)


async def _are_made(connection: Connection) -> bool:
    found = await (await connection.execute(_FIND, [list(TABLES)])).fetchall()
    for name, comment in found:
        version = _COMMENT.fullmatch(comment)
        if version is None:
            raise LogUnavailable(f"table {name} is not Hermes's: name another schema, by search_path in the DSN")
        if int(version[1]) > SCHEMA_VERSION:
            raise LogUnavailable(f"table {name} was made by a newer Hermes (schema {version[1]}): upgrade this one")
    return len(found) == len(TABLES)
