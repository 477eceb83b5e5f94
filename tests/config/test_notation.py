"""How settings are written: what is read, what is refused, and that what is written reads back the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hermes.config import Address, format_duration, format_size, parse_duration, parse_size
from hermes.config.notation import parse_address, parse_bool, parse_event_types, parse_list

# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100ms", 0.1),
        ("1m30s", 90),
        ("2h", 7200),
        ("1h2m3s", 3723),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1.s", 1),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("7ns", 7e-9),
        ("0", 0),
        ("0s", 0),
        ("90m", 5400),
        ("1s1s", 2),  # as Go does
    ],
)
def test_durations_are_read_in_gos_notation(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "5", "1.5", "s", "5 s", "5S", "-5s", "+5s", "5s ", "1d", "1e3s", "5ss", "1h-5m", "٣s", ".s", "inf", "nan"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


def test_a_duration_without_end_is_refused() -> None:
    with pytest.raises(ValueError):
        parse_duration("9" * 400 + "h")


@given(st.floats(0, 1e12, allow_subnormal=False))
@example(0.30000000000000004)
@example(0.0001)
@example(1e-9)
@example(123456.789)
@example(3599.9999999)
@example(1e12)
def test_a_duration_reads_back_as_it_was_written(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.1, "100ms"), (0.0005, "0.5ms"), (30, "30s"), (90, "1m30s"), (7200, "2h"), (3661.5, "1h1m1.5s")],
)
def test_durations_are_written_as_one_would(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


# Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 2**20),
        ("64KiB", 2**16),
        ("10MiB", 10 * 2**20),
        ("1GiB", 2**30),
        ("1kb", 1000),
        ("2 MB", 2 * 10**6),
        ("3gb", 3 * 10**9),
        ("5b", 5),
        ("0", 0),
    ],
)
def test_sizes_are_read_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1.5MiB", "-1", "10 M", "10TiB", "1e6", "0x10", "٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@given(
    st.integers(0, 2**70) | st.builds(lambda n, unit: n << unit, st.integers(0, 5000), st.sampled_from([10, 20, 30]))
)
def test_a_size_reads_back_as_it_was_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


# Addresses


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":8080", "", 8080),
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:8080", "::1", 8080),
        ("[::]:80", "::", 80),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("localhost:0", "localhost", 0),
        ("my-host.example:65535", "my-host.example", 65535),
    ],
)
def test_addresses_are_read_and_read_back(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert address == Address(host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "8080", "localhost", ":", ":65536", ":-1", "::1:8080", "[::1]", "[::1:8080", "[localhost]:80", "[1.2.3.4]:80"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


@pytest.mark.parametrize("text", ["http://localhost:80", "a b:80", ":80a", ":٨٠", "host:8080/", " :80"])
def test_what_is_more_than_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_ip_address_reads_back(ip: object, port: int) -> None:
    address = Address(str(ip), port)
    assert parse_address(str(address)) == address


# Lists and truth


def test_a_list_leaves_out_what_is_empty() -> None:
    assert parse_list(" a, b ,,c,") == ("a", "b", "c")
    for text in ("", ",", " , ,"):
        with pytest.raises(ValueError):
            parse_list(text)


@pytest.mark.parametrize("text", ["", ",", "a b", "a,*", "*,*", "ä", "x" * 65, "a/b"])
def test_what_is_no_list_of_event_types_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_event_types(text)


def test_event_types_are_names_once_each_or_any() -> None:
    assert parse_event_types("a, b.c:d-e_1,a") == ("a", "b.c:d-e_1")
    assert parse_event_types("*") == ("*",)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("ON", True), ("1", True), ("No", False), ("0", False)])
def test_truth_values_are_read_in_any_case(text: str, value: bool) -> None:
    assert parse_bool(text) is value


def test_nothing_else_is_a_truth_value() -> None:
    with pytest.raises(KeyError):
        parse_bool("maybe")


def test_the_default_durations_are_finite() -> None:
    assert math.isfinite(parse_duration("2562047h47m16.854775807s"))  # Go's own longest
