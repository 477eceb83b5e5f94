"""Small distributions with sinks or parts, made in a temporary folder as an installer would leave them.

Put the folder on ``sys.path`` or PYTHONPATH, and its entry points are found like anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent


def install(
    folder: Path,
    name: str,
    sinks: Mapping[str, str],
    modules: Mapping[str, str],
    *,
    version: str = "1.0",
    extras: Sequence[str] = (),
    parts: Mapping[str, str] | None = None,
) -> Path:
    """Lay down the distribution ``name``: ``sinks`` and ``parts`` are entry points, ``modules`` are sources by name."""
    folder.mkdir(parents=True, exist_ok=True)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    info.joinpath("METADATA").write_text("\n".join([*lines, *(f"Provides-Extra: {extra}" for extra in extras), ""]))
    points = []
    for group, entries in (("hermes.sinks", sinks), ("hermes.parts", parts or {})):
        points += [f"[{group}]", *(f"{entry} = {value}" for entry, value in entries.items())]
    info.joinpath("entry_points.txt").write_text("\n".join([*points, ""]))
    for module, source in modules.items():
        folder.joinpath(f"{module}.py").write_text(dedent(source))
    return folder
