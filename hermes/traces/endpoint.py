"""Finds the endpoint of traces: in TRACES_*, or in the OTEL_* variables that every OpenTelemetry program knows. Pure.

Invariant: TRACES_ENDPOINT goes before the variables of OpenTelemetry. No error message repeats a header's value.

Source: OpenTelemetry specification, "OpenTelemetry Protocol Exporter" and "Environment Variable Specification".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from hermes.base.errors import ConfigError
from hermes.config.declaration import lookup

PATH = "/v1/traces"
# The variable for traces goes before the one for all signals, as the specification says.
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
# The name and the value of a field (RFC 9110 §5.1 and §5.5): a line feed in a value would begin another header.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")


def find_endpoint(environ: Mapping[str, str], endpoint: str, headers: str) -> tuple[str, str]:
    """Return endpoint and headers from the settings, or from the variables of OpenTelemetry if the settings are empty.

    Raises `ConfigError` for values that cannot be used.

    >>> find_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, "", "")
    ('http://localhost:4318', '')
    """
    name = "TRACES_ENDPOINT"
    # OTEL_* variables of another program may be in the environment; OTEL_TRACES_EXPORTER=none turns Hermes's traces
    # off.
    if not endpoint and not _turned_off(environ):
        name, endpoint = _first(environ, _ENDPOINTS)
        variable, protocol = _first(environ, _PROTOCOLS)
        # An endpoint for gRPC listens on another port; Hermes would post to it in vain for ever.
        if endpoint and protocol not in {"", "http/protobuf"}:
            raise ConfigError(
                f"{variable}={protocol!r}: Hermes sends traces as http/protobuf: set TRACES_ENDPOINT to where that is "
                "taken, or OTEL_TRACES_EXPORTER=none"
            )
    if endpoint:
        _check_endpoint(name, endpoint)
        variable, headers = ("TRACES_HEADERS", headers) if headers else _first(environ, _HEADERS)
        # Parsed for the check alone: a mistake is told at the start, by the name of its variable.
        parse_headers(headers, variable)
    return endpoint, headers


def traces_url(endpoint: str) -> str:
    """Return the URL to post to: the endpoint with ``/v1/traces`` at the end of its path.

    >>> traces_url("http://localhost:4318")
    'http://localhost:4318/v1/traces'
    """
    base, mark, query = endpoint.partition("?")
    base = base.rstrip("/")
    # The specification appends the path to OTEL_EXPORTER_OTLP_ENDPOINT, and takes OTEL_EXPORTER_OTLP_TRACES_ENDPOINT as
    # it is. Operators mix the two up.
    return (base if base.endswith(PATH) else base + PATH) + mark + query


def parse_headers(text: str, variable: str = "TRACES_HEADERS") -> dict[str, str]:
    """Return the headers of ``name=value,name=value``, with percent-encoded values decoded. Raises `ConfigError`.

    >>> parse_headers("authorization=Basic%20YW5u")
    {'authorization': 'Basic YW5u'}
    """
    headers = {}
    for part in filter(None, map(str.strip, text.split(","))):
        # At the first one alone: the end of a Base64 value has more of them.
        name, _, quoted = part.partition("=")
        # Percent-encoded, because the specification takes the form of W3C Baggage.
        name, value = name.strip(), unquote(quoted.strip())
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            # The value is a credential as a rule, so the message hides the whole text.
            raise ConfigError(f"{variable}=(hidden): expected name=value,name=value, with commas written as %2C")
        # Lower case: of two spellings of one header the last one counts.
        headers[name.lower()] = value
    return headers


def _turned_off(environ: Mapping[str, str]) -> bool:
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    # "true" is the only word that the specification takes as true, in any case of letters.
    return exporter == "none" or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    """Return the first variable that is set, with its text; the last name and an empty text if none is set."""
    text = ""
    for name in names:
        # An empty variable counts as unset, as the specification says.
        text = lookup(environ, name) or ""
        if text:
            break
    return name, text


def _check_endpoint(name: str, endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        # Reading the port raises ValueError if it is not a number.
        _ = parts.port
        valid = parts.scheme in {"http", "https"} and parts.hostname and not parts.fragment and endpoint.isprintable()
    except ValueError:
        valid = False
        parts = None
    # Checked before the form of the URL, because the other message repeats the endpoint with its password.
    if parts is not None and "@" in parts.netloc:
        raise ConfigError(f"{name}=(hidden): a user name and password go into TRACES_HEADERS, as authorization=Basic…")
    if not valid:
        raise ConfigError(f"{name}={endpoint!r}: expected a URL such as http://localhost:4318")
