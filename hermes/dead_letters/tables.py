"""The tables of the dead letters in SQLite and in Postgres, and the statements that upgrade an older one.

    schema 1   letters of events alone: the columns sink, id, user_id, type, ts, payload
    schema 2   letters of any part: part and source, facts as a JSON object, an opaque body

Invariants: an upgrade is one transaction, so a crash leaves the old table or the new one; letters keep their numbers
and digests, and the next number is the one that would have come. An upgrade holds one letter in memory, not all.
"""

from __future__ import annotations

from hermes.store.sqlite import Schema

VERSION = 2
"""The schema that this Hermes reads and writes, in SQLite and in Postgres."""

# The write-ahead file gives the rest of its room back after a checkpoint.
JOURNAL_BYTES = 16 * 2**20

# The body comes last: looking at the other columns reads none of its pages. No index begins with the part: to find the
# first letters of a part by it, all of them would be sorted by number.
_LETTERS = """
CREATE TABLE letters (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    part        TEXT NOT NULL,    -- of Hermes
    source      TEXT NOT NULL,    -- a name in the part: of the sink, for events
    reason      TEXT NOT NULL,
    attempts    INTEGER NOT NULL,
    rejected_at REAL NOT NULL,    -- Unix seconds
    received_at REAL NOT NULL,    -- Unix seconds
    facts       TEXT NOT NULL,    -- a JSON object
    digest      BLOB NOT NULL,    -- of the facts and the body
    body        BLOB NOT NULL,
    UNIQUE (digest, part, source)
);
CREATE INDEX letters_of_source ON letters (source, part); -- and number, which is in every index
"""
# A new table, not ALTER TABLE ADD COLUMN: the facts would then come after the body. The old table's row in
# sqlite_sequence has the highest number ever given, which may be higher than that of any letter.
_LETTERS_OF_EVENTS = f"""
ALTER TABLE letters RENAME TO letters_of_events;
{_LETTERS}
INSERT INTO letters (number, part, source, reason, attempts, rejected_at, received_at, facts, digest, body)
    SELECT number, 'events', sink, reason, attempts, rejected_at, received_at,
        json_object('id', id, 'user_id', user_id, 'type', type, 'timestamp', ts), digest, payload
    FROM letters_of_events ORDER BY number;
DELETE FROM sqlite_sequence WHERE name = 'letters';
INSERT INTO sqlite_sequence (name, seq) SELECT 'letters', seq FROM sqlite_sequence WHERE name = 'letters_of_events';
DROP TABLE letters_of_events;
"""  # noqa: S608 - the statements are ours

SCHEMA = Schema(
    application_id=0x48524D44,  # "HRMD"
    version=VERSION,
    script=_LETTERS,
    upgrades=(_LETTERS_OF_EVENTS,),
    # Gives the space of removed letters back to the disk without a rewrite of the file.
    pragmas=("auto_vacuum = INCREMENTAL",),
    settings=(f"journal_size_limit = {JOURNAL_BYTES}",),
)

TABLE = "hermes_dead_letters"
"""The name of the table in Postgres."""

# With the number, unlike SQLite's: an index of Postgres holds no number of the row.
_INDEX = f"CREATE INDEX {TABLE}_of_source ON {TABLE} (source, part, number)"
# Postgres has no user_version as SQLite has, so the table's comment holds the version of its schema.
_COMMENT = f"COMMENT ON TABLE {TABLE} IS 'Hermes dead letters, schema {VERSION}'"

# Facts are json and not jsonb, which would forget the order in which they are in the digest.
MAKE = f"""
CREATE TABLE {TABLE} (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    part        text NOT NULL,             -- of Hermes
    source      text NOT NULL,             -- a name in the part: of the sink, for events
    reason      text NOT NULL,
    attempts    bigint NOT NULL,
    rejected_at double precision NOT NULL, -- Unix seconds
    received_at double precision NOT NULL, -- Unix seconds
    facts       json NOT NULL,             -- an object
    digest      bytea NOT NULL,            -- of the facts and the body
    body        bytea NOT NULL,
    UNIQUE (digest, part, source)
);
{_INDEX};
{_COMMENT}
""".encode()
FIND = f"""
SELECT substring(obj_description(oid, 'pg_class') FROM 'Hermes dead letters, schema (\\d+)')::integer
FROM pg_class WHERE relname = '{TABLE}' AND pg_table_is_visible(oid)
""".encode()  # noqa: S608
"""Finds the version of the table. Not by to_regclass, which may remember from before it waited that there is none."""

UPGRADE = f"""
ALTER TABLE {TABLE} RENAME COLUMN sink TO source;
ALTER TABLE {TABLE} RENAME COLUMN payload TO body;
ALTER TABLE {TABLE} ADD COLUMN part text NOT NULL DEFAULT 'events', ADD COLUMN facts json;
UPDATE {TABLE} SET facts = json_build_object('id', id, 'user_id', user_id, 'type', type, 'timestamp', ts);
ALTER TABLE {TABLE}
    ALTER COLUMN part DROP DEFAULT, ALTER COLUMN facts SET NOT NULL,
    DROP COLUMN id, DROP COLUMN user_id, DROP COLUMN type, DROP COLUMN ts,
    DROP CONSTRAINT {TABLE}_sink_digest_key, ADD UNIQUE (digest, part, source);
{_INDEX};
{_COMMENT};
ANALYZE {TABLE}
""".encode()  # noqa: S608
"""Brings the table from schema 1 to schema 2; the bodies that Postgres keeps out of line are not copied.

Without ANALYZE the planner would take a part for a rare one, and sort all letters for each page.
"""
