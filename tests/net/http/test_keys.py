"""The keys of a request: where one may be, that all are compared in constant time, and that none is shown."""

from __future__ import annotations

import hmac
from base64 import b64encode

import pytest

from hermes.net.http import keys as module
from hermes.net.http.keys import UNKNOWN, WANTED, Keys, offers_key, refuse_key

KEYS = Keys(["one", "two:three", "schlüssel"])


def basic(text: str) -> str:
    return b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ({}, False),
        ({"authorization": "Bearer one"}, True),
        ({"authorization": "bearer   one "}, True),
        ({"authorization": "Bearer wrong", "x-api-key": "one"}, False),
        ({"authorization": f"Basic {basic('one:')}"}, True),
        ({"authorization": f"BASIC  {basic('schlüssel:')}"}, True),
        ({"authorization": f"Basic {basic('two:three:')}"}, True),
        ({"authorization": f"Basic {basic('two:three')}"}, False),
        ({"authorization": f"Basic {basic('one:password')}"}, False),
        ({"authorization": f"Basic {basic(':one')}"}, False),
        ({"authorization": f"Basic {basic(':')}"}, False),
        ({"authorization": f"Basic {basic('wrong:')}", "x-api-key": "one"}, False),
        ({"authorization": "Basic %%%"}, False),
        ({"authorization": "Basic"}, False),
        ({"authorization": "Basic \xff\xfe"}, False),
        ({"authorization": "Basic %%%", "x-api-key": "one"}, True),
        ({"authorization": "Digest one", "x-api-key": "one"}, True),
        ({"x-api-key": "one"}, True),
        ({"x-api-key": ""}, False),
    ],
)
def test_a_key_is_found_in_either_header(headers: dict[str, str], admitted: bool) -> None:
    assert KEYS.admit(headers) is admitted
    assert offers_key(headers) is bool(headers)


def test_without_keys_everybody_may_pass() -> None:
    assert Keys([]).admit({})
    assert not Keys([]).configured
    assert KEYS.configured


@pytest.mark.parametrize("key", ["one", "two:three", "wrong", ""])
def test_every_key_is_compared_in_constant_time_whichever_fits(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    class Watched:
        @staticmethod
        def compare_digest(offered: bytes, known: bytes) -> bool:
            compared.append(known)
            return hmac.compare_digest(offered, known)

    monkeypatch.setattr(module, "hmac", Watched)
    assert KEYS.admit_key(key) is (key in {"one", "two:three"})
    assert compared == [b"one", b"two:three", "schlüssel".encode()]


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, WANTED),
        ({"x-api-key": ""}, WANTED),
        ({"authorization": "Bearer"}, WANTED),
        ({"authorization": f"Basic {basic('name:password')}"}, WANTED),
        ({"authorization": "Digest wrong"}, WANTED),
        ({"x-api-key": "wrong"}, UNKNOWN),
        ({"authorization": "Bearer wrong"}, UNKNOWN),
        ({"authorization": f"Basic {basic('wrong:')}"}, UNKNOWN),
    ],
)
def test_a_wrong_key_is_told_from_none_and_no_browser_asks_for_a_password(headers: dict[str, str], words: str) -> None:
    refusal = refuse_key(headers)
    assert refusal.detail == words
    assert b"wrong" not in refusal.body
    assert refusal.headers["WWW-Authenticate"].startswith("Bearer")
    assert "Basic" not in refusal.headers["WWW-Authenticate"]
