"""The client of a running Hermes: calls its admin address with a key, and reports every failure in one line.

Invariant: every answer is checked before it is shown, and a server that is silent for too long counts as gone. The
commands do one thing at a time, so there is no event loop here, and a read may block.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from types import MappingProxyType
from typing import Any

import click
import httpx
import msgspec

from hermes.base.quoting import blank
from hermes.configuration import read_environment
from hermes.observe.service_status import ServiceStatus
from hermes.settings import read_settings

# A person waits at the terminal: a wrong address must show soon.
_CONNECT_SECONDS = 5.0
# The service sends a line of the tap at least every 2 s, and a status every second.
_SILENCE_SECONDS = 15.0

# A host or none, a port, and maybe a slash.
_ADDRESS = re.compile(r"(\[[^]/]+\]|[^][/:@\s]*):\d+/?")
_ERROR_NUMBER = re.compile(r"^\[Errno -?\d+\] ")
_PLAIN_WORDS = {
    "Connection refused": "nothing listens there",
    "Name or service not known": "no host has this name",
    "Request URL is missing an 'http://' or 'https://' protocol.": "it has no http:// or https://",
}

_URL_WORDS = "The admin address of a running Hermes; ADMIN_ADDR unless told."
# Other users of the machine see the command line of a process.
_KEY_WORDS = "One of the service's ADMIN_KEYS. Better set HERMES_ADMIN_KEY: others can see a command line."

CLIENT_EXITS = {
    0: "Done, or ended by Ctrl-C.",
    1: "No Hermes answered at the address, or not as expected. One line on stderr says why.",
    2: "A mistake in a setting or on the command line.",
}
CLIENT_ENVIRONMENT = {
    "ADMIN_ADDR": "The address without --url, as the service has it; 127.0.0.1:8081 unless told.",
    "HERMES_ADMIN_KEY": "One of the service's ADMIN_KEYS, without --key.",
}


Kinds = Mapping[str, Any]
"""The types of the statuses that a command shows, by the names of their parts; other parts have plain values."""

_NO_KINDS: Kinds = MappingProxyType({})


class Unreachable(click.ClickException):
    """The service did not answer, or not as expected. The message is shown to the operator."""

    def show(self, file: Any = None) -> None:
        """Print the message on stderr, in the form of all commands."""
        click.echo(f"hermes: {self.message}", file=file, err=True)


class WrongAddress(Unreachable):
    """The value of ``--url`` is not an address, or the value of ``--key`` cannot be a key."""

    exit_code = 2


class Lost(Unreachable):
    """The connection to the service broke."""


def with_client(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options ``--url`` and ``--key``, as one argument ``client``.

    ::

        @click.command()
        @with_client
        def status(client: AdminClient) -> None:
            click.echo(client.raw_status())
    """

    @wraps(command)
    def run(*, url: str | None, key: str | None, **options: Any) -> None:
        with open_client(url, key) as client:
            command(client=client, **options)

    add_key = click.option("--key", metavar="KEY", help=_KEY_WORDS)
    return click.option("--url", metavar="URL", help=_URL_WORDS)(add_key(run))


class _Letters(msgspec.Struct, frozen=True):
    total: int


class AdminClient:
    """Calls the admin address of one Hermes. Every method raises `Unreachable`.

    ::

        with open_client("http://127.0.0.1:8081", key=None) as client:
            print(client.status().connections)
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.url = str(client.base_url).rstrip("/")

    def status(self, kinds: Kinds = _NO_KINDS) -> ServiceStatus:
        """Return the present status of the service, with parts of these ``kinds``."""
        return parse_status(self.raw_status(), kinds)

    def raw_status(self) -> bytes:
        """Return the JSON of the status, as the service wrote it."""
        with self._translated_errors():
            response = self._client.get("/status")
            self._check(response)
            return response.content

    def dead_letters(self) -> int | None:
        """Return the number of dead letters in the store, including earlier runs'; None if the store did not answer."""
        try:
            with self._translated_errors():
                response = self._client.get("/dead-letters", params={"limit": 1})
                self._check(response)
                return msgspec.json.decode(response.content, type=_Letters).total
        # The store may be busy or away; the screen shows everything else.
        except (Unreachable, msgspec.DecodeError):
            return None

    def ask(self, method: str, path: str, kind: Any, *, body: object = None, **parameters: str | int) -> Any:
        """Return the answer of an endpoint as an instance of ``kind``. An error has the service's own words."""
        content = None if body is None else msgspec.json.encode(body)
        with self._translated_errors():
            response = self._client.request(method, path, params=parameters, content=content)
            # `_check` would blame the address. Here the address is right, and the endpoint says which name is missing.
            if response.status_code == 404:
                raise Unreachable(f"{self.url} says: {_detail(response)}")
            self._check(response)
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.DecodeError as error:
            raise Unreachable(f"that is not an answer of this version of Hermes: {error}") from None

    def watch(self, kinds: Kinds = _NO_KINDS) -> Iterator[ServiceStatus]:
        """Yield the status every second, until the service stops. Raises `Lost` if the connection breaks."""
        # Kept from line to line until an empty line ends the event.
        data, kind = b"", ""
        for line in self._lines("/live", {}):
            # The stream is Server-Sent Events: lines `event:` and `data:`, and an empty line at the end of each event.
            name, _, value = line.partition(":")
            if name == "event":
                kind = value.strip()
            elif name == "data":
                data = value.encode()
            elif not line and kind == "status":
                yield parse_status(data, kinds)
            elif not line and kind == "end":
                return

    def tap(self, parameters: dict[str, str]) -> Iterator[str]:
        """Yield the lines of the tap, until the service stops. Raises `Lost` if the connection breaks."""
        return self._lines("/tap", parameters)

    def rejected(self) -> Iterator[str]:
        """Yield the lines about rejected events, in the way of `tap`."""
        return self._lines("/rejected/live", {})

    def _lines(self, path: str, parameters: dict[str, str]) -> Iterator[str]:
        begun = False
        try:
            with self._translated_errors(), self._client.stream("GET", path, params=parameters) as response:
                if response.is_error:
                    # The body of an error holds the detail; a streamed response has not read it yet.
                    response.read()
                self._check(response)
                begun = True
                # httpx's iter_lines also breaks at U+2028 and the like, which may stand within a line of JSON.
                rest = ""
                for text in response.iter_text():
                    *lines, rest = (rest + text).split("\n")
                    yield from lines
                # The last line may lack its line feed when the connection ends.
                if rest:
                    yield rest
        except Unreachable as error:
            # A break in the middle is another fault than an address where nobody answers: `hermes top` tries again.
            if begun:
                raise Lost(f"the connection to {self.url} is lost") from error
            raise

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turn every error of httpx into an `Unreachable` in the operator's words."""
        try:
            yield
        # From the special to the general: ConnectTimeout and ConnectError are HTTPErrors too.
        except httpx.ConnectTimeout:
            raise Unreachable(f"no Hermes answers at {self.url} in time: is it the right address?") from None
        except httpx.ConnectError as error:
            raise Unreachable(
                f"no Hermes answers at {self.url} ({_plain(error)}): start one, or name another with --url"
            ) from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise WrongAddress(
                f"--url {self.url!r}: expected one such as http://127.0.0.1:8081 ({_plain(error)})"
            ) from None
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url} did not answer as a Hermes does: {error or type(error).__name__}") from None

    def _check(self, response: httpx.Response) -> None:
        # Two messages: a wrong key and a missing key need different actions.
        if response.status_code == 401:
            if "Authorization" in response.request.headers:
                raise Unreachable(f"the key is not in the ADMIN_KEYS of {self.url}: check HERMES_ADMIN_KEY, or --key")
            raise Unreachable(f"{self.url} wants one of its ADMIN_KEYS: set HERMES_ADMIN_KEY, or give --key")
        if response.status_code == 404:
            raise Unreachable(
                f"{self.url} is not the admin address of a Hermes: see ADMIN_ADDR, and name it with --url"
            )
        if response.is_error:
            raise Unreachable(f"{self.url} says: {_detail(response)}")


@contextmanager
def open_client(url: str | None, key: str | None) -> Iterator[AdminClient]:
    """Open a client of this address with this key; the environment gives the missing ones.

    Raises `Unreachable` and `hermes.ConfigError`. ::

        with open_client(url=None, key=None) as client:  # the service of this machine
            print(client.status().version)
    """
    # With both given the settings are not read, so a mistake in them stops no call of another machine's Hermes.
    if url is None or key is None:
        settings = read_settings(read_environment(os.environ))
        if url is None:
            if settings.admin.admin_addr is None:
                raise Unreachable("ADMIN_ADDR is off here: name the admin address of a running Hermes with --url")
            address = settings.admin.admin_addr
            # The service listens on all addresses; none of the three can be connected to on every system.
            host = "127.0.0.1" if address.host in {"", "0.0.0.0", "::"} else address.host  # noqa: S104 - compared only
            url = f"http://[{host}]:{address.port}" if ":" in host else f"http://{host}:{address.port}"
        # On the machine of the service its own ADMIN_KEYS serve too.
        key = key or os.environ.get("HERMES_ADMIN_KEY") or next(iter(settings.access.admin_keys), None)
    url = _with_scheme(url)
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(_CONNECT_SECONDS, read=_SILENCE_SECONDS)
        # trust_env=False: a proxy of the environment is meant for other addresses, and would see the key.
        opened = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        raise WrongAddress(f"--url or --key cannot be used: {error}") from None
    with opened as client:
        yield AdminClient(client)


def parse_status(data: bytes, kinds: Kinds) -> ServiceStatus:
    """Return the status in an answer, with parts of these ``kinds``. Raises `Unreachable` if it is not a status."""
    try:
        status = msgspec.json.decode(data, type=ServiceStatus)
        parts = {name: msgspec.convert(shown, kinds.get(name, Any)) for name, shown in status.parts.items()}
        return msgspec.structs.replace(status, parts=parts)
    except msgspec.DecodeError as error:
        raise Unreachable(f"that is not a status of this version of Hermes: {error}") from None


def _with_scheme(url: str) -> str:
    """The URL of an address that is written as in ADMIN_ADDR, such as ``127.0.0.1:8081``; another text as it is."""
    if not _ADDRESS.fullmatch(url):
        return url
    return f"http://127.0.0.1{url}" if url.startswith(":") else f"http://{url}"


def _plain(error: Exception) -> str:
    """The words of an error of the network, without the number that only a program needs."""
    words = _ERROR_NUMBER.sub("", str(error))
    return _PLAIN_WORDS.get(words, words[:1].lower() + words[1:])


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    # Not JSON, JSON without a detail, or JSON that is no object: the answer of another server.
    except (ValueError, KeyError, TypeError):
        detail = f"status {response.status_code}"
    # Another server may answer at the address, with any text: one screen of it, and no command to the terminal.
    return blank(str(detail))[:500]
