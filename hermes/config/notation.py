"""Parses and writes the notation of settings: durations, sizes, addresses, lists, truth values.

Invariant: a ``parse_*`` function returns the value or raises ValueError or KeyError; its ``format_*`` twin writes a
text that reads back as the same value. Declarations of settings are made of the types at the end of the file.
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

# Go's units, because operators know them from Prometheus, Kubernetes and Docker. Go accepts both spellings of
# microseconds.
_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# re.ASCII here and below: \d would match the digits of every script.
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
# In capitals, because `parse_size` takes a unit in any case.
_SIZE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
# An IPv6 address needs its brackets, or its last group could not be told from the port.
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?)\]|([^:\[\]\s]*)):(\d{1,5})", re.ASCII)
_MOST_PORT = 65535
_PORTS = f"with a port of at most {_MOST_PORT}"
_TYPE_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def parse_duration(text: str) -> float:
    """Return the seconds of a duration in Go's notation (`time.ParseDuration`).

    >>> parse_duration("1m30s"), parse_duration("100ms"), parse_duration("0")
    (90.0, 0.1, 0.0)
    """
    # The one number that Go takes without a unit.
    if text == "0":
        return 0.0
    parts = list(_DURATION_PART.finditer(text))
    # finditer skips what it does not match; a duration must consist of its parts alone.
    if not parts or "".join(part.group() for part in parts) != text:
        raise ValueError(text)
    seconds = sum(float(part[1]) * _DURATION_UNITS[part[2]] for part in parts)
    # A number of 400 digits becomes infinity, which no timeout accepts.
    if not math.isfinite(seconds):
        raise ValueError(text)
    return seconds


def format_duration(seconds: float) -> str:
    """Return a number of seconds in Go's notation, with the digits needed to read back the same number.

    >>> format_duration(90), format_duration(0.1)
    ('1m30s', '100ms')
    """
    text = _spell_duration(seconds)
    # %g writes six digits, and an exponent where six are too few: such a number is written in full.
    if "e" not in text and parse_duration(text) == seconds:
        return text
    # The repr of a float has exactly the digits that identify it; Decimal writes them without an exponent.
    return f"{Decimal(repr(seconds)):f}s"


def _spell_duration(seconds: float) -> str:
    # Zero is 0s: it has no unit that would fit better.
    if seconds and seconds < 1:
        return f"{seconds * 1000:g}ms"
    whole = []
    for unit, length in (("h", 3600), ("m", 60)):
        count, seconds = divmod(seconds, length)
        if count:
            whole.append(f"{count:g}{unit}")
    return "".join(whole) + (f"{seconds:g}s" if seconds or not whole else "")


def parse_size(text: str) -> int:
    """Return the bytes of a size, in binary or decimal units.

    >>> parse_size("1048576"), parse_size("10MiB"), parse_size("64KB")
    (1048576, 10485760, 64000)
    """
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text, re.ASCII)
    if match is None or match[2].upper() not in _SIZE_UNITS:
        raise ValueError(text)
    return int(match[1]) * _SIZE_UNITS[match[2].upper()]


def format_size(size: int) -> str:
    """Return a number of bytes in the shortest binary notation.

    >>> format_size(10 * 2**20), format_size(1500)
    ('10MiB', '1500')
    """
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        # Only a unit that divides the size: 1500 reads back as 1500, 1.46KiB would not.
        if size and size % length == 0:
            return f"{size // length}{unit}"
    return str(size)


class Address(msgspec.Struct, frozen=True):
    """An address to listen on: ``host`` is empty for all interfaces, IPv6 included.

    >>> str(Address("::1", 8080))
    '[::1]:8080'
    >>> Address("127.0.0.1", 8080).is_loopback
    True
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host.lower() == "localhost":
            return True
        try:
            # An address may end in a zone, as in fe80::1%eth0; the zone does not decide whether it is loopback.
            return ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return False

    def collides(self, other: Address) -> bool:
        """Whether only one of the two addresses can be listened on.

        Two addresses collide if they have one port, and either one host, or one of the hosts is all addresses of the
        family.

        >>> parse_address(":8080").collides(parse_address("127.0.0.1:8080"))
        True
        """
        # The name and the address are one place to the kernel, so the second of them finds the port taken.
        mine, its = (address.host.lower().replace("localhost", "127.0.0.1") for address in (self, other))
        # Port 0 lets the kernel choose, each time another one.
        if self.port != other.port or not self.port:
            return False
        # A socket on all addresses of a family takes the port on each of them.
        wild = {"0.0.0.0", "::"} & {mine, its}  # noqa: S104 - compared, not listened on
        return mine == its or not (mine and its) or bool(wild and (":" in mine) == (":" in its))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return an `Address` from ``:8080``, ``127.0.0.1:8080`` or ``[::1]:8080``."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > _MOST_PORT:
        raise ValueError(text)
    return Address(match[1] or match[2] or "", int(match[3]))


def parse_optional_address(text: str) -> Address | None:
    """Return an `Address`, or None from ``off``."""
    return None if text.lower() == "off" else parse_address(text)


def format_optional_address(address: Address | None) -> str:
    """Return the text of the address, or ``off``."""
    return "off" if address is None else str(address)


def parse_list(text: str) -> tuple[str, ...]:
    """Return the names of a comma list without empty names. Raises ValueError for a list without any name.

    >>> parse_list("postgres, file,")
    ('postgres', 'file')
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    # A list of commas alone was not filled in. As an empty list it would turn something off that nobody turned off.
    if not names:
        raise ValueError(text)
    return names


def parse_secrets(text: str) -> tuple[str, ...]:
    """Return the secrets of a comma list. Raises ValueError for an empty secret or one with a control character."""
    secrets = tuple(part.strip() for part in text.split(","))
    # An empty secret was not filled in, and would admit a request with an empty key. A control character cannot be sent
    # in a header field, so nobody could use the secret.
    if not all(secret and secret.isprintable() for secret in secrets):
        raise ValueError(text)
    return secrets


def parse_event_types(text: str) -> tuple[str, ...]:
    """Return the event types of a comma list, each a name of 1 to 64 of ``[A-Za-z0-9_.:-]``, or ``*`` for any such
    name.
    """
    names = parse_list(text)
    if names != ("*",) and not all(_TYPE_NAME.fullmatch(name) for name in names):
        raise ValueError(text)
    # A dict keeps the order of the first mentions.
    return tuple(dict.fromkeys(names))


def parse_bool(text: str) -> bool:
    """Return a truth value from ``true``/``false``, ``1``/``0``, ``yes``/``no``, ``on``/``off``, in any case."""
    # Without a default: for any other text the KeyError is the refusal.
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
    """The notation of a type of setting: ``parse`` raises ValueError or KeyError, ``accepts`` completes "expected".

    >>> Notation(int, "a whole number").parse("7")
    7
    """

    parse: Callable[[str], Any]
    accepts: str
    format: Callable[[Any], str] = str


def _notation(parse: Callable[[str], Any], accepts: str, show: Callable[[Any], str] = str) -> Meta:
    return Meta(extra={"notation": Notation(parse, accepts, show)})


Duration = Annotated[float, _notation(parse_duration, "a duration such as 100ms, 30s or 1m30s", format_duration)]
"""Seconds, written as `100ms`, `30s` or `1m30s`."""

Size = Annotated[int, _notation(parse_size, "a size in bytes such as 1048576, 64KiB or 10MiB", format_size)]
"""Bytes, written as `1048576`, `64KiB` or `10MiB`."""

ListenAddress = Annotated[
    Address, _notation(parse_address, f"an address such as :8080, 127.0.0.1:8080 or [::1]:8080, {_PORTS}")
]
OptionalAddress = Annotated[
    Address | None,
    _notation(parse_optional_address, f"an address such as 127.0.0.1:8081, or off, {_PORTS}", format_optional_address),
]
Names = Annotated[tuple[str, ...], _notation(parse_list, "a comma-separated list of at least one", ",".join)]
"""A comma-separated list of at least one name."""

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
"""A text that may be shown but guards something: like an empty secret, an empty text is refused."""


def about(description: str, *, default: str = "", **bounds: Any) -> Meta:
    """Return the description of a setting and msgspec's bounds (``ge``, ``gt``, ``le``, ``lt``), for ``Annotated``.

    ``default`` describes a default that depends on the machine or on another setting.

    >>> class LinesSettings(msgspec.Struct, frozen=True):
    ...     address: Annotated[str, about("where the server listens, as host:port")]
    ...     connect_timeout: Annotated[Duration, about("longest that connecting may take", gt=0)] = 5.0
    """
    return Meta(description=description, extra={"default": default} if default else None, **bounds)
