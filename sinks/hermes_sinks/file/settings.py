"""Declares the settings of the file sink."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hermes.config import Duration, Size, about


class FileSettings(msgspec.Struct, frozen=True):
    """The settings of the file sink."""

    path: Annotated[
        Path, about("the folder, made for this user alone if it is missing; a relative path starts in HERMES_DATA_DIR")
    ] = Path("events")
    name: Annotated[
        str,
        about(
            "what the names of its files begin with: lines go to `<name>.jsonl`, rotated files are "
            "`<name>-<UTC time>-<number>.jsonl`; 1 to 64 of `[A-Za-z0-9_.-]`, no dot first; processes that share a "
            "folder need one each"
        ),
    ] = "events"
    max_bytes: Annotated[
        Size, about("the file is rotated before it grows beyond this; a larger batch gets one of its own", ge=1)
    ] = 128 * 2**20
    max_age: Annotated[
        Duration, about("the file is rotated by the first write this long after it was begun; 0: at no age", ge=0)
    ] = 3600.0
    keep: Annotated[int, about("rotated files that are kept, the oldest is deleted first; 0: all", ge=0)] = 0
    compress: Annotated[
        Literal["none", "gzip", "zstd"], about("how rotated files are compressed; the one being written is plain")
    ] = "none"
