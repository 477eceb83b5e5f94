"""How a setting is written in the environment: durations, sizes, addresses, lists, truth values.

Invariant: a ``parse_*`` function returns the value or raises ValueError or KeyError; its ``format_*`` twin writes a
text that reads back as the same value. The types at the end are what declarations of settings are made of.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from ipaddress import ip_address
from typing import Annotated, Any

import msgspec
from msgspec import Meta

_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_SIZE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?)\]|([^:\[\]\s]*)):(\d{1,5})", re.ASCII)
_TYPE_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def parse_duration(text: str) -> float:
    """Seconds from Go's notation (`time.ParseDuration`): ``100ms``, ``1m30s``, ``2h``, ``0``."""
    if text == "0":
        return 0.0
    parts = list(_DURATION_PART.finditer(text))
    if not parts or "".join(part.group() for part in parts) != text:
        raise ValueError(text)
    seconds = sum(float(part[1]) * _DURATION_UNITS[part[2]] for part in parts)
    if not math.isfinite(seconds):
        raise ValueError(text)
    return seconds


def format_duration(seconds: float) -> str:
    """Go's notation for a number of seconds: ``1m30s``, or the digits it takes to read back the same."""
    text = _spell_duration(seconds)
    # %g has six digits, and an exponent where more are needed.
    if "e" not in text and parse_duration(text) == seconds:
        return text
    return f"{Decimal(repr(seconds)):f}s"


def _spell_duration(seconds: float) -> str:
    if seconds and seconds < 1:
        return f"{seconds * 1000:g}ms"
    whole = []
    for unit, length in (("h", 3600), ("m", 60)):
        count, seconds = divmod(seconds, length)
        if count:
            whole.append(f"{count:g}{unit}")
    return "".join(whole) + (f"{seconds:g}s" if seconds or not whole else "")


def parse_size(text: str) -> int:
    """Bytes from ``1048576``, ``64KiB``, ``10MiB``, ``1GiB`` (or the decimal ``KB``, ``MB``, ``GB``)."""
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text, re.ASCII)
    if match is None or match[2].upper() not in _SIZE_UNITS:
        raise ValueError(text)
    return int(match[1]) * _SIZE_UNITS[match[2].upper()]


def format_size(size: int) -> str:
    """The shortest binary notation for a number of bytes."""
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size and size % length == 0:
            return f"{size // length}{unit}"
    return str(size)


class Address(msgspec.Struct, frozen=True):
    """Where to listen: ``host`` is empty for all interfaces, IPv6 included."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return False

    def collides(self, other: Address) -> bool:
        """Whether only one of the two can be listened on: one port, and one host, or one host is all of its family."""
        mine, its = (address.host.lower().replace("localhost", "127.0.0.1") for address in (self, other))
        if self.port != other.port or not self.port:
            return False
        wild = {"0.0.0.0", "::"} & {mine, its}  # noqa: S104 - compared, not listened on
        return mine == its or not (mine and its) or bool(wild and (":" in mine) == (":" in its))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """An `Address` from ``:8080``, ``127.0.0.1:8080`` or ``[::1]:8080``."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise ValueError(text)
    return Address(match[1] or match[2] or "", int(match[3]))


def parse_optional_address(text: str) -> Address | None:
    """An `Address`, or None from ``off``."""
    return None if text.lower() == "off" else parse_address(text)


def format_optional_address(address: Address | None) -> str:
    """The address, or ``off``."""
    return "off" if address is None else str(address)


def parse_list(text: str) -> tuple[str, ...]:
    """The names of a comma list, empty ones left out."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_secrets(text: str) -> tuple[str, ...]:
    """The secrets of a comma list. An empty one was not filled in; a control character cannot be sent."""
    secrets = tuple(part.strip() for part in text.split(","))
    if not all(secret and secret.isprintable() for secret in secrets):
        raise ValueError(text)
    return secrets


def parse_event_types(text: str) -> tuple[str, ...]:
    """The comma list of event types, each a name of 1 to 64 of ``[A-Za-z0-9_.:-]``, or ``*`` for any such name."""
    names = parse_list(text)
    if not names or (names != ("*",) and not all(_TYPE_NAME.fullmatch(name) for name in names)):
        raise ValueError(text)
    return tuple(dict.fromkeys(names))


def parse_bool(text: str) -> bool:
    """A truth value from ``true``/``false``, ``1``/``0``, ``yes``/``no``, ``on``/``off``, in any case."""
    return {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }[text.lower()]


class Notation(msgspec.Struct, frozen=True):
    """How a type of setting is written: ``parse`` raises ValueError or KeyError, ``accepts`` completes "expected …"."""

    parse: Callable[[str], Any]
    accepts: str
    format: Callable[[Any], str] = str


def _notation(parse: Callable[[str], Any], accepts: str, show: Callable[[Any], str] = str) -> Meta:
    return Meta(extra={"notation": Notation(parse, accepts, show)})


Duration = Annotated[float, _notation(parse_duration, "a duration such as 100ms, 30s or 1m30s", format_duration)]
"""Seconds, written as `100ms`, `30s` or `1m30s`."""

Size = Annotated[int, _notation(parse_size, "a size in bytes such as 1048576, 64KiB or 10MiB", format_size)]
"""Bytes, written as `1048576`, `64KiB` or `10MiB`."""

ListenAddress = Annotated[Address, _notation(parse_address, "an address such as :8080, 127.0.0.1:8080 or [::1]:8080")]
OptionalAddress = Annotated[
    Address | None,
    _notation(parse_optional_address, "an address such as 127.0.0.1:8081, or off", format_optional_address),
]
Names = Annotated[tuple[str, ...], _notation(parse_list, "a comma-separated list", ",".join)]
"""A comma-separated list."""

EventTypes = Annotated[
    tuple[str, ...],
    _notation(parse_event_types, "a comma-separated list of names of 1 to 64 of A-Z a-z 0-9 _ . : -, or *", ",".join),
]
Secret = Annotated[str, Meta(extra={"secret": True})]
"""A text that no command, log line or error shows, and that is refused where it is set but empty."""

Secrets = Annotated[
    tuple[str, ...],
    _notation(parse_secrets, "a comma-separated list, each item on one line and none empty", ",".join),
    Meta(extra={"secret": True}),
]
"""A comma-separated list of secrets, none of them empty."""

Guard = Annotated[str, Meta(extra={"guards": True})]
"""A text without which something is open, though it may be shown: an empty one is refused, as that of a secret is."""


def about(description: str, *, default: str = "", **bounds: Any) -> Meta:
    """The description of a setting and msgspec's bounds (``ge``, ``gt``, ``le``, ``lt``), for ``Annotated``.

    ``default`` has the words for a default that depends on the machine or on another setting.

    >>> class LinesSettings(msgspec.Struct, frozen=True):
    ...     address: Annotated[str, about("where the server listens, as host:port")]
    ...     connect_timeout: Annotated[Duration, about("longest that connecting may take", gt=0)] = 5.0
    """
    return Meta(description=description, extra={"default": default} if default else None, **bounds)
