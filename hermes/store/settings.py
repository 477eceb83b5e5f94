"""Declares the settings of the storage: the folder, the database, and which of them a 202 promises.

A sink gets `Storage` when it is opened, so that it may keep its own things there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hermes.config import Secret, about


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """Where Hermes keeps things, and where a sink may keep its own.

    >>> Storage(hermes_data_dir=Path("/var/lib/hermes")).hermes_data_dir / "events.db"
    PosixPath('/var/lib/hermes/events.db')
    """

    hermes_data_dir: Annotated[Path, about("everything that Hermes keeps on disk")] = Path("./hermes-data")
    durability: Annotated[
        Literal["disk", "memory", "postgres"],
        about(
            "what a 202 promises; `disk`: the event is in the journal in HERMES_DATA_DIR, `postgres`: in a journal in "
            "DB_DSN, `memory`: in the bounded queue"
        ),
    ] = "disk"
    # A secret although a DSN may lack a password: the text is hidden before anybody can tell.
    db_dsn: Annotated[Secret, about("Postgres DSN or URL; unset: nothing is written to a database")] = ""
    max_open_conns: Annotated[int, about("size of the Postgres connection pool", ge=1)] = 100
